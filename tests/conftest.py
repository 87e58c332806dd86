"""What all tests share: a thread count that suits small problems."""

import os

import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="session", autouse=True)
def few_threads():
    """At the sizes of the tests, many threads would spend the time on waiting for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    with threadpool_limits(1, user_api="blas"):
        yield
    torch.set_num_threads(before)
