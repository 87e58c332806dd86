"""A function in a process of its own: its threads, its memory and what it imports are nobody else's, and it may be ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any


def apart(function: Callable[..., Any], *arguments: Any, waiting: Callable[[], None] = lambda: None, limit: float = float("inf"),
          preloaded: Sequence[str] = ()) -> Any:
    """function(*arguments); waiting is called twice a second meanwhile.

    preloaded: modules that are imported once for many such processes, where the system can fork them; they must start no threads.
    Raises TimeoutError after `limit` seconds. Then, and when this process is interrupted, the other one ends with all that it started."""
    with process(preloaded) as submit:
        future, started = submit(function, *arguments), time.monotonic()
        while not wait([future], timeout=0.5).done:
            waiting()
            if time.monotonic() - started > limit:
                raise TimeoutError(f"no result within {limit:g} s")
        return future.result()


@contextmanager
def process(preloaded: Sequence[str] = ()) -> Iterator[Callable[..., Future[Any]]]:
    """What submits functions and their arguments to one process, which runs them one after the other; preloaded as `apart` has it.

    It ends with the block, at once where that raises."""
    forks = preloaded and "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(list(preloaded))
    with ProcessPoolExecutor(1, mp_context=context, initializer=_lead) as pool:
        worker = pool.submit(os.getpid).result()
        try:
            yield pool.submit
        except BaseException:
            with suppress(ProcessLookupError):  # where it has ended by itself, which may be what raises
                _end(worker)
            raise


def _lead() -> None:
    """Make this process the head of a group, so that the compilers it starts end with it."""
    if hasattr(os, "setsid"):
        os.setsid()


def _end(worker: int) -> None:
    if hasattr(os, "killpg") and hasattr(signal, "SIGKILL"):
        os.killpg(worker, signal.SIGKILL)
    else:
        os.kill(worker, signal.SIGTERM)
