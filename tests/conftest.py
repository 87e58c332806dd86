"""What several tests share: devices, and a thread count that suits small problems."""

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


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> torch.device:
    """Every device that a test should hold on; cuda is skipped, with its reason, where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    return torch.device(request.param)
