"""The cores of this machine as an engine: a pool of processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from hodsim.snapshots.generate import Engine, Experiment, adopt


@contextmanager
def processes(workers: int, key: str, experiment: Experiment) -> Iterator[Engine]:
    """So many processes. Raises ChildProcessError when one is killed."""
    others = set(multiprocessing.active_children())
    # spawned, not forked: the threads of BLAS and numba do not survive a fork
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(key, experiment))
    mine: set[BaseProcess] = set()

    def check() -> None:
        """The pool notices a dead worker by itself, unless that died in the middle of sending a result: then it waits for the rest for ever."""
        mine.update(set(multiprocessing.active_children()) - others)
        if not all(process.is_alive() for process in mine):
            raise BrokenProcessPool

    try:
        yield Engine(pool, workers, check)
        pool.shutdown()
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # a task leaves nothing behind, so there is nothing to wait for
            process.join()
        pool._result_queue._writer.close()  # the last that could send what the pool may still wait for  # pyright: ignore
        pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "a worker process was killed, perhaps for want of memory. What was finished is kept; run it again, with fewer workers if need be"
            ) from None
        raise


def _begin(key: str, experiment: Experiment) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be held back
    threading.Thread(target=_end_with_parent, daemon=True).start()
    adopt(key, experiment)


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
