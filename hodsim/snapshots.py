"""Snapshots: poses of the full model under a seeded sweep of load cases.

A load case is data, not code: named load shapes (columns of nodal forces) times signals in time. A case is computed on its own, from
rest, and stored in a file of its own that is written under a temporary name and renamed, so that a sweep which was interrupted
continues where it stopped. Training, validation and test data are split by load case, never within one.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise
from threadpoolctl import threadpool_limits

from hodsim.checks import positive
from hodsim.dynamics import Scheme, backward_euler, simulate
from hodsim.fem import FullModel, Load
from hodsim.solve import ConvergenceError
from hodsim.storage import write_atomically

FORMAT = "hodsim snapshots 1"
SPLITS = ("train", "validation", "test")
BLOCK = 2**26  # bytes of poses that are read at a time

LoadShapes = Mapping[str, np.ndarray]  # name -> nodal forces of unit amplitude (d, c) [N]
Progress = Callable[[int, int], None]  # called with the number of cases done and in all


@dataclass(frozen=True)
class Piecewise:
    """Constant between switches: values[i] (c,) until ends[i] [s], the last value for ever after."""

    ends: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __call__(self, time: float) -> np.ndarray:
        index = int(np.searchsorted(self.ends, time, side="left"))
        return np.array(self.values[min(index, len(self.values) - 1)])


@dataclass(frozen=True)
class Periodic:
    """amplitude (c,) times sin(2 pi frequency t + phase), frequency in [Hz]."""

    amplitude: tuple[float, ...]
    frequency: float
    phase: float

    def __call__(self, time: float) -> np.ndarray:
        return np.array(self.amplitude) * np.sin(2 * np.pi * self.frequency * time + self.phase)


SIGNALS = {"piecewise": Piecewise, "periodic": Periodic}


@dataclass(frozen=True)
class LoadCase:
    """One member of a sweep: which load shapes act with which signals, and whether it trains, validates or tests."""

    name: str
    split: str
    terms: tuple[tuple[str, Piecewise | Periodic], ...] = field(default=())

    def load(self, shapes: LoadShapes) -> Load:
        """The force over time. Raises KeyError naming a shape that is not among the given ones."""
        missing = [shape for shape, _ in self.terms if shape not in shapes]
        if missing:
            raise KeyError(f"load case {self.name} needs the load shapes {missing}; given are {sorted(shapes)}")
        signals = [signal for _, signal in self.terms]
        columns = np.concatenate([shapes[shape] for shape, _ in self.terms], axis=1)
        return Load(columns, lambda time: np.concatenate([signal(time) for signal in signals]))

    def to_json(self) -> str:
        kinds = {cls: kind for kind, cls in SIGNALS.items()}
        terms = [{"shape": shape, "signal": kinds[type(signal)], **asdict(signal)} for shape, signal in self.terms]
        return json.dumps({"name": self.name, "split": self.split, "terms": terms})

    @classmethod
    def from_json(cls, text: str) -> LoadCase:
        data = json.loads(text)
        terms = []
        for term in data["terms"]:
            shape, kind = term.pop("shape"), SIGNALS[term.pop("signal")]
            terms.append((shape, kind(**{key: _as_tuple(value) for key, value in term.items()})))
        return cls(data["name"], data["split"], tuple(terms))


def _as_tuple(value):
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def bending_loads(full: FullModel, *, reach: float = 0.6, twist: float = 1.5) -> dict[str, np.ndarray]:
    """Load shapes for a body that is held at one end: `tip` (d, 3), `body` (d, 3) and `twist` (d, 1), scaled to the body itself.

    The tip is the slice of vertices farthest from the pinned ones. At amplitude one a force across the axis deflects the *linear*
    model by reach times the length, and the twist, a couple spread over the body, turns its tip by `twist` radians.
    """
    vertices = full.mesh.vertices
    root = vertices[full.pinned].mean(axis=0)
    distance = np.linalg.norm(vertices - root, axis=1)
    axis = vertices[distance > 0.95 * distance.max()].mean(axis=0) - root
    length = float(np.linalg.norm(axis))
    axis /= length
    along = (vertices - root) @ axis
    mask = along > along.max() - 0.5 * full.mesh.edge_length

    solve = full.solver.factor(full.rest_stiffness.data).solve
    across = int(np.argmin(np.abs(axis)))  # the coordinate direction most nearly across the axis

    def scaled(fields: np.ndarray, response: Callable[[np.ndarray], float], target: float) -> np.ndarray:
        """Columns (d, c) of nodal force fields (V, 3, c), all scaled so that the response across the axis is the target."""
        columns = np.stack([full.restrict(fields[:, :, i]) for i in range(fields.shape[2])], axis=1)
        displacement = full.full_displacement(solve(columns[:, min(across, columns.shape[1] - 1)]))
        return columns * (target / response(displacement))

    def deflection(displacement: np.ndarray) -> float:
        return float(np.linalg.norm(displacement[mask].mean(axis=0)))

    arm = np.cross(axis, vertices - (root + np.outer(along, axis)))

    def rotation(displacement: np.ndarray) -> float:
        return float((arm[mask] * displacement[mask]).sum() / (arm[mask] ** 2).sum())

    everywhere = full.vertex_mass[:, None, None] * np.eye(3)
    return {
        "tip": scaled(everywhere * mask[:, None, None], deflection, reach * length),
        "body": scaled(everywhere, deflection, reach * length),
        "twist": scaled((arm * full.vertex_mass[:, None])[:, :, None], rotation, twist),
    }


FAMILIES = (("tip",), ("body",), ("tip", "twist"), ("body", "twist"), ("tip", "body"), ("gravity",))


def sweep(*, train: int, validation: int = 0, test: int = 0, seed: int = 0, duration: float = 2.0) -> list[LoadCase]:
    """Load cases for `bending_loads`: the families in turn, every other one piecewise or periodic, from a generator of its own each.

    A case depends on the seed, its split and its number alone, so that a longer sweep contains the shorter ones.
    """
    cases = []
    for stream, (split, number) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        for index in range(number):
            generator = np.random.default_rng([seed, stream, index])
            family = FAMILIES[index % len(FAMILIES)]
            periodic = bool((index // len(FAMILIES) + index) % 2)
            terms = tuple(_term(shape, periodic, duration, generator) for shape in family)
            cases.append(LoadCase(f"{split}-{index:04d}", split, terms))
    return cases


def _term(shape: str, periodic: bool, duration: float, generator: np.random.Generator) -> tuple[str, Piecewise | Periodic]:
    components = 1 if shape == "twist" else 3
    if shape == "gravity":  # switched on at once and kept
        return "body", Piecewise((duration,), (_amplitude(components, generator),))
    if periodic:
        frequency = float(np.exp(generator.uniform(np.log(0.25), np.log(3.0))))
        return shape, Periodic(_amplitude(components, generator), frequency, float(generator.uniform(0, 2 * np.pi)))
    ends, values = [], []
    while not ends or ends[-1] < duration:
        ends.append((ends[-1] if ends else 0.0) + float(generator.uniform(0.15, 0.7)))
        released = generator.random() < 0.25
        values.append((0.0,) * components if released else _amplitude(components, generator))
    return shape, Piecewise(tuple(ends), tuple(values))


def _amplitude(components: int, generator: np.random.Generator) -> tuple[float, ...]:
    """A direction uniform on the sphere times a magnitude uniform in [0.1, 1]."""
    direction = generator.standard_normal(components)
    direction *= generator.uniform(0.1, 1.0) / np.linalg.norm(direction)
    return tuple(float(value) for value in direction)


@dataclass(frozen=True)
class Snapshots:
    """Trajectories of the full model: displacements [m] and velocities [m/s], each (cases, steps, d), every dt [s] from dt on.

    seconds (cases,) is what each case cost on one core; failures are the reasons of the cases that diverged.
    """

    cases: tuple[LoadCase, ...]
    displacements: np.ndarray
    velocities: np.ndarray
    seconds: np.ndarray
    dt: float
    fingerprint: str
    failures: tuple[str, ...] = ()

    def split(self, name: str) -> Snapshots:
        """The cases of one split: train, validation or test."""
        if name not in SPLITS:
            raise ValueError(f"split is {name!r}; expected one of {SPLITS}")
        chosen = [index for index, case in enumerate(self.cases) if case.split == name]
        return replace(
            self,
            cases=tuple(self.cases[i] for i in chosen),
            displacements=self.displacements[chosen],
            velocities=self.velocities[chosen],
            seconds=self.seconds[chosen],
        )

    def poses(self) -> np.ndarray:
        """All displacements as rows, (cases * steps, d)."""
        return self.displacements.reshape(-1, self.displacements.shape[-1])

    @classmethod
    def load(cls, directory: Path, full: FullModel) -> Snapshots:
        """Read every case in a directory. Raises ValueError for one of another model, format or dt, FileNotFoundError if there is none."""
        files = Path(directory).glob("*.safetensors")
        records = [Record.read(file, full.fingerprint) for file in files]
        if not records:
            raise FileNotFoundError(f"{directory} holds no snapshots; run `hodsim snapshots` first")
        records.sort(key=lambda record: (SPLITS.index(record.case.split), record.case.name))
        if len({(record.displacements.shape, record.dt) for record in records}) != 1:
            raise ValueError(f"{directory} mixes snapshots of different lengths or time steps; give each sweep a directory of its own")
        return cls(
            tuple(record.case for record in records),
            np.stack([record.displacements for record in records]),
            np.stack([record.velocities for record in records]),
            np.array([record.seconds for record in records]),
            records[0].dt,
            full.fingerprint,
            tuple(file.read_text(encoding="utf-8") for file in sorted(Path(directory).glob("*.failed"))),
        )


@dataclass(frozen=True)
class Record:
    """One finished load case, as one file: displacements and velocities (steps, d) in single precision, and what made them."""

    case: LoadCase
    displacements: np.ndarray
    velocities: np.ndarray
    dt: float
    seconds: float

    def write(self, file: Path, fingerprint: str) -> None:
        metadata = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "dt": repr(self.dt),
            "seconds": repr(self.seconds),
            "case": self.case.to_json(),
        }
        write_atomically(file, serialise({"displacements": self.displacements, "velocities": self.velocities}, metadata))

    @classmethod
    def read(cls, file: Path, fingerprint: str) -> Record:
        """Raises ValueError if the file is corrupt, of another version or of another model."""
        with _opened(file, fingerprint) as (archive, metadata):
            return cls(
                LoadCase.from_json(metadata["case"]),
                archive.get_tensor("displacements"),
                archive.get_tensor("velocities"),
                float(metadata["dt"]),
                float(metadata["seconds"]),
            )


@dataclass(frozen=True)
class PoseFiles:
    """The poses of one split of a directory of snapshots, in blocks of rows (*, d) read as they are asked for: what `pca` takes when
    they do not fit in memory."""

    directory: Path
    full: FullModel
    split: str = "train"

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = max(1, BLOCK // (4 * self.full.n_dofs))
        for file in sorted(Path(self.directory).glob("*.safetensors")):
            with _opened(file, self.full.fingerprint) as (archive, metadata):
                if json.loads(metadata["case"])["split"] != self.split:
                    continue
                poses = archive.get_slice("displacements")
                steps = poses.get_shape()[0]
                for start in range(0, steps, rows):
                    yield poses[start : min(start + rows, steps)]


@contextmanager
def _opened(file: Path, fingerprint: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """The archive and the metadata of a snapshot file."""
    try:
        with safe_open(file, "np") as archive:
            metadata = archive.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{file} has format {metadata.get('format')!r}; expected a snapshot file, {FORMAT!r}")
            if metadata["fingerprint"] != fingerprint:
                raise ValueError(f"{file} belongs to another model (fingerprint {metadata['fingerprint']}; expected {fingerprint})")
            yield archive, metadata
    except SafetensorError as error:
        raise ValueError(f"{file} is corrupt or no snapshot file ({error}); delete it and run the sweep again") from None


def generate_snapshots(
    full: FullModel,
    shapes: LoadShapes,
    cases: Sequence[LoadCase],
    *,
    dt: float,
    steps: int,
    directory: Path,
    scheme: Scheme = backward_euler,
    workers: int = 1,
    progress: Progress | None = None,
) -> Snapshots:
    """Simulate every case that directory does not hold yet, `workers` processes at once, and return them all.

    A case that diverges is recorded in NAME.failed with its reason and left out; the sweep goes on. Interrupting loses no finished
    case. A script that asks for several workers needs the guard `if __name__ == "__main__":`, since each of them imports it.
    """
    positive("dt", dt)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    due = [case for case in cases if not _is_done(directory, case, full.fingerprint, dt, steps)]
    jobs = [(case, shapes, dt, steps, directory, scheme) for case in due]
    report = progress or (lambda done, total: None)
    report(len(cases) - len(due), len(cases))
    for number, _ in enumerate(_run(full, jobs, workers), len(cases) - len(due) + 1):
        report(number, len(cases))
    return Snapshots.load(directory, full)


def _run(full: FullModel, jobs: Sequence[tuple], workers: int) -> Iterator[None]:
    """Yield once for each job done, in this process or in a pool of others."""
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield _run_case(full, *job)
        return
    # spawned, not forked: the threads of BLAS and numba do not survive a fork
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), initializer=_adopt, initargs=(full,)) as pool:
        try:
            with _ctrl_c_ignored():  # which the workers inherit: they end their case, and the parent alone stops the sweep
                futures = [pool.submit(_run_adopted, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _adopt(full: FullModel) -> None:
    """Give a worker process its model once, not once a case, and one thread: the workers share out the cores among themselves."""
    global _adopted
    _adopted = full
    threadpool_limits(1)


def _run_adopted(*job) -> None:
    _run_case(_adopted, *job)


def _run_case(full: FullModel, case: LoadCase, shapes: LoadShapes, dt: float, steps: int, directory: Path, scheme: Scheme) -> None:
    displacements = np.empty((steps, full.n_dofs), np.float32)
    velocities = np.empty_like(displacements)
    started = time.perf_counter()
    try:
        for i, state in enumerate(simulate(full, full.state(), dt, force=case.load(shapes), scheme=scheme, steps=steps)):
            displacements[i], velocities[i] = state.q, state.v
    except ConvergenceError as error:
        write_atomically(directory / f"{case.name}.failed", f"{case.name}: {error}")
        return
    record = Record(case, displacements, velocities, dt, time.perf_counter() - started)
    record.write(directory / f"{case.name}.safetensors", full.fingerprint)


def _is_done(directory: Path, case: LoadCase, fingerprint: str, dt: float, steps: int) -> bool:
    file = directory / f"{case.name}.safetensors"
    if not file.exists():
        return False
    record = Record.read(file, fingerprint)
    return record.case == case and record.dt == dt and len(record.displacements) == steps
