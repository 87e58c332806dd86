"""A Dask cluster as an engine: tasks go to the scheduler, files come back through it, so that workers need no folder in common.

    dask scheduler                                                  on one machine
    dask worker ADDRESS --nworkers auto --nthreads 1                on each that computes, with the same hodsim installed
    hodsim snapshots beam.toml --scheduler ADDRESS
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from hodsim.snapshots.generate import Engine, Experiment, adopt, disown

try:
    from distributed import Client, KilledWorker, WorkerPlugin
except ModuleNotFoundError:
    raise ValueError("--scheduler needs Dask, which is not installed; `pip install hodsim[dask]`") from None

WAIT = 30  # seconds for a scheduler to answer and for a worker to come


@contextmanager
def cluster(address: str, key: str, experiment: Experiment) -> Iterator[Engine]:
    """The workers of the scheduler at an address. Raises ConnectionError when it does not answer, has no workers or goes away."""
    try:
        client: Any = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`") from None
    with client:
        _await_workers(client, address)
        client.register_plugin(Adoption(key, experiment), name=key)

        def check() -> None:
            if client.status != "running":
                raise ConnectionError(f"the Dask scheduler at {address} is gone. What was finished is kept; the same command continues from there")

        try:
            yield Engine(client.get_executor(pure=False), sum(client.nthreads().values()), check)
            client.unregister_worker_plugin(key)
        except KilledWorker as error:
            raise ChildProcessError(f"workers of the cluster were lost over and over ({error}). What was finished is kept") from None


def _await_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except asyncio.TimeoutError:
        raise ConnectionError(f"the Dask scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`") from None
    mine = version("hodsim")
    for worker, theirs in client.run(version, "hodsim").items():
        if theirs != mine:
            raise ValueError(f"worker {worker} has hodsim {theirs}; expected {mine}, as here")


class Adoption(WorkerPlugin):
    """Gives every worker its model when it comes, and takes it back at the end."""

    def __init__(self, key: str, experiment: Experiment):
        self.key, self.experiment = key, experiment

    def setup(self, worker) -> None:
        adopt(self.key, self.experiment)

    def teardown(self, worker) -> None:
        disown(self.key)
