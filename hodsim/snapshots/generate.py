"""Sweeps: every load case is a task of its own, computed wherever there is a core, written by this process alone.

A task takes a load case and gives the bytes of its file or the reason why it diverged. It may be done again anywhere at any time, so
that nothing but finished files has to survive: those are written under a temporary name and renamed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hodsim.checks import positive
from hodsim.dynamics import Scheme, backward_euler, simulate
from hodsim.fem import FullModel
from hodsim.snapshots.cases import LoadCase
from hodsim.snapshots.records import SUFFIX, CorruptFileError, Record
from hodsim.snapshots.shapes import LoadShapes
from hodsim.snapshots.store import Failure, Snapshots
from hodsim.solve import ConvergenceError
from hodsim.storage import remove_temporary_files, reserved, write_atomically

PRECISIONS = ("float32", "float64")
POLL = 0.2  # seconds between looks at whether to stop

Outcome = bytes | Failure  # of a case: the content of its file, or why there is none
Progress = Callable[[int, int], None]  # called with the number of cases done and in all


@dataclass(frozen=True)
class Experiment:
    """What all cases of a sweep have in common."""

    full: FullModel
    shapes: LoadShapes
    dt: float
    steps: int
    scheme: Scheme = backward_euler
    precision: str = "float32"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def run(self, case: LoadCase) -> Record | Failure:
        displacements = np.empty((self.steps, self.full.n_dofs), self.precision)
        velocities = np.empty_like(displacements)
        started = time.perf_counter()
        states = simulate(self.full, self.full.state(), self.dt, force=case.load(self.shapes), scheme=self.scheme, steps=self.steps)
        try:
            for i, state in enumerate(states):
                displacements[i], velocities[i] = state.q, state.v
        except (ConvergenceError, ArithmeticError, np.linalg.LinAlgError) as error:
            return Failure(case, self.full.fingerprint, self.dt, self.steps, str(error))
        return Record(case, displacements, velocities, self.dt, time.perf_counter() - started, self.provenance)

    def is_done(self, case: LoadCase, directory: Path) -> bool:
        """Whether the case lies there, whole; so does one that diverged, which would diverge again. Raises ValueError for another model's."""
        finished, failed = _file(directory, case), _failed(directory, case)
        if finished.exists():
            try:
                record = Record.read(finished, self.full.fingerprint)
            except CorruptFileError:
                return False
            same = record.case == case and record.dt == self.dt and len(record.displacements) == self.steps
            return same and record.displacements.dtype == self.precision
        if not failed.exists():
            return False
        stored = Failure.read(failed)
        return stored == Failure(case, self.full.fingerprint, self.dt, self.steps, stored.reason)

    def keep(self, outcome: Outcome, case: LoadCase, directory: Path) -> None:
        finished, failed = _file(directory, case), _failed(directory, case)
        if isinstance(outcome, Failure):
            write_atomically(failed, outcome.to_json())
            finished.unlink(missing_ok=True)
        else:
            write_atomically(finished, outcome)
            failed.unlink(missing_ok=True)


def generate_snapshots(
    full: FullModel,
    shapes: LoadShapes,
    cases: Sequence[LoadCase],
    *,
    dt: float,
    steps: int,
    directory: Path,
    scheme: Scheme = backward_euler,
    precision: str = "float32",
    workers: int = 1,
    scheduler: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Snapshots:
    """Simulate every case that directory does not hold yet, and return them all: `workers` processes at once, or on the Dask cluster whose
    scheduler has that address.

    A case that diverges is recorded in NAME.failed with its reason and left out; the sweep goes on, and does not try it again. One that
    lies there damaged is. Interrupting, or killing, loses no finished case. A script that asks for several workers needs the guard
    `if __name__ == "__main__":`, since each of them imports it. Raises OSError when another process is at work in the directory, or when
    workers or the scheduler are lost.
    """
    positive("dt", dt)
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected {' or '.join(PRECISIONS)}")
    directory, report = Path(directory), progress or (lambda done, total: None)
    experiment = Experiment(full, shapes, dt, steps, scheme, precision, provenance or {})
    with reserved(directory):
        remove_temporary_files(directory)
        due = [case for case in cases if not experiment.is_done(case, directory)]
        report(len(cases) - len(due), len(cases))
        here = scheduler is None and min(workers, len(due)) <= 1
        if due:
            with _ctrl_c_remembered(at_once=here) as look, closing(_outcomes(experiment, due, workers, scheduler, look)) as outcomes:
                for number, (case, outcome) in enumerate(outcomes, len(cases) - len(due) + 1):
                    experiment.keep(outcome, case, directory)
                    report(number, len(cases))
                    look()
        return Snapshots.load(directory, full, cases=cases)


@dataclass(frozen=True)
class Engine:
    """Where tasks go: an executor, how many it does at once, and a check that raises OSError once it is lost."""

    executor: Executor
    slots: int
    check: Callable[[], None] = lambda: None


def _outcomes(
    experiment: Experiment, cases: Sequence[LoadCase], workers: int, scheduler: str | None, look: Callable[[], None]
) -> Generator[tuple[LoadCase, Outcome], None, None]:
    """Each case with what became of it, in the order in which they end."""
    key = f"{experiment.full.fingerprint} {time.time_ns()}"
    if scheduler is not None:
        from hodsim.snapshots.cluster import cluster  # an extra that need not be installed

        place = cluster(scheduler, key, experiment)
    elif min(workers, len(cases)) > 1:
        from hodsim.snapshots.processes import processes

        place = processes(min(workers, len(cases)), key, experiment)
    else:
        adopt(key, experiment)
        yield from ((case, run_adopted(key, case)) for case in cases)
        return disown(key)
    with place as engine:
        yield from _scattered(engine, key, cases, look)


def _scattered(engine: Engine, key: str, cases: Sequence[LoadCase], look: Callable[[], None]) -> Iterator[tuple[LoadCase, Outcome]]:
    """Few tasks more than there are places are out at a time: results are large, and are not to pile up here."""
    waiting, out = iter(cases), dict[Future, LoadCase]()
    while True:
        with _ctrl_c_held():  # what is started here inherits it: a terminal's Ctrl-C stops this process, and that stops the others
            while len(out) < 2 * engine.slots and (case := next(waiting, None)) is not None:
                out[engine.executor.submit(run_adopted, key, case)] = case
        if not out:
            return
        done, _ = wait(out, timeout=POLL, return_when=FIRST_COMPLETED)
        look()
        engine.check()
        for future in done:
            yield out.pop(future), future.result()


_adopted: dict[str, Experiment] = {}  # in a worker: by the key of the sweep
_one_at_a_time = threading.Lock()  # a full model computes in buffers of its own


def adopt(key: str, experiment: Experiment) -> None:
    """Give a worker its model once, not once a case."""
    _adopted[key] = experiment


def disown(key: str) -> None:
    _adopted.pop(key, None)


def run_adopted(key: str, case: LoadCase) -> Outcome:
    """The task. Cores are shared out among processes: one thread each."""
    experiment = _adopted[key]
    with _one_at_a_time, threadpool_limits(1):
        outcome = experiment.run(case)
    return outcome.to_bytes(experiment.full.fingerprint) if isinstance(outcome, Record) else outcome


def _file(directory: Path, case: LoadCase) -> Path:
    return directory / f"{case.name}{SUFFIX}"


def _failed(directory: Path, case: LoadCase) -> Path:
    return directory / f"{case.name}.failed"


@contextmanager
def _ctrl_c_remembered(*, at_once: bool) -> Iterator[Callable[[], None]]:
    """Yields a check that raises KeyboardInterrupt if Ctrl-C was pressed, and makes it at the end. Raised at once, wherever that happens to be,
    it goes unheard in a destructor, and in concurrent.futures it leaves locks behind that a pool then waits for; so only where there is none,
    or at the second. A process that was started to ignore Ctrl-C, as a shell starts what it puts in the background, goes on ignoring it.
    """
    seen, before = False, signal.getsignal(signal.SIGINT)

    def remember(number, frame):
        nonlocal seen
        first, seen = not seen, True
        if at_once or not first:
            before(number, frame)  # pyright: ignore[reportCallIssue, reportOptionalCall]

    def look() -> None:
        if seen:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or not callable(before):  # only the main thread may say what a signal does
        yield look
        return
    signal.signal(signal.SIGINT, remember)
    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, before)
    look()


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Ctrl-C waits until the end, and what is started meanwhile never hears of it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
