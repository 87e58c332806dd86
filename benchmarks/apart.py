"""A function in a process of its own: its threads, its memory and what it imports are nobody else's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any


def apart(function: Callable[..., Any], *arguments: Any, waiting: Callable[[], None] = lambda: None) -> Any:
    """function(*arguments); waiting is called twice a second meanwhile."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(function, *arguments)
        while not wait([future], timeout=0.5).done:
            waiting()
        return future.result()
