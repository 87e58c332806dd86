"""A folder of snapshots: the finished cases, one file each, and the reasons of those that diverged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hodsim.fem import FullModel
from hodsim.snapshots.cases import SPLITS, LoadCase
from hodsim.snapshots.records import FIELDS, SUFFIX, Header
from hodsim.snapshots.trajectories import Poses, Source, Trajectories

MEMORY = 2**31  # bytes of an array that are kept once they are read; a larger one is read from its files each time


@dataclass(frozen=True)
class Snapshots:
    """Trajectories of the full model: displacements [m] and velocities [m/s], each (cases, steps, d), every dt [s] from dt on, read from
    their files as they are indexed.

    seconds (cases,) is what each case cost on one core; failures are the reasons of the cases that diverged; digests the SHA-256 of the
    arrays of each case.
    """

    cases: tuple[LoadCase, ...]
    displacements: Trajectories
    velocities: Trajectories
    seconds: np.ndarray
    dt: float
    fingerprint: str
    failures: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What tells these snapshots from any others, bit for bit: 16 hexadecimal digits."""
        named = [f"{case.name} {digest}" for case, digest in zip(self.cases, self.digests, strict=True)]
        return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]

    def split(self, name: str) -> Snapshots:
        """The cases of one split: train, validation or test."""
        if name not in SPLITS:
            raise ValueError(f"split is {name!r}; expected one of {SPLITS}")
        chosen = [index for index, case in enumerate(self.cases) if case.split == name]
        return replace(
            self,
            cases=tuple(self.cases[i] for i in chosen),
            displacements=self.displacements[np.array(chosen, int)],
            velocities=self.velocities[np.array(chosen, int)],
            seconds=self.seconds[chosen],
            digests=tuple(self.digests[i] for i in chosen),
        )

    def poses(self) -> Poses:
        """All displacements as rows, (cases * steps, d)."""
        return Poses(self.displacements)

    @classmethod
    def load(cls, directory: Path, full: FullModel, *, cases: Sequence[LoadCase] | None = None, memory: int = MEMORY) -> Snapshots:
        """The finished cases in a directory, or those of the given ones; arrays of more than `memory` bytes stay in their files.

        Raises ValueError for a case of another model, format or dt, or that is not the given one of its name; FileNotFoundError if there is none."""
        directory, wanted = Path(directory), None if cases is None else {case.name: case for case in cases}
        found = [path for path in directory.glob(f"*{SUFFIX}") if wanted is None or path.stem in wanted]
        headers = [Header.read(path, full.fingerprint) for path in found]
        if wanted is not None and (changed := [header.path for header in headers if header.case != wanted[header.case.name]]):
            raise ValueError(f"{changed[0]} holds another load case of that name than is asked for; run `hodsim snapshots` again")
        failures = [Failure.read(path) for path in sorted(directory.glob("*.failed")) if wanted is None or path.stem in wanted]
        reasons = tuple(f"{failure.case.name}: {failure.reason}" for failure in failures)
        if not headers and reasons:
            raise ValueError(f"every load case in {directory} diverged, first {reasons[0]}")
        if not headers:
            raise FileNotFoundError(f"{directory} holds no snapshots; run `hodsim snapshots` first")
        headers.sort(key=lambda header: (SPLITS.index(header.case.split), header.case.name))
        if len({(header.shape, header.dtype, header.dt) for header in headers}) != 1:
            raise ValueError(f"{directory} mixes snapshots of different lengths, time steps or precision; give each sweep a directory of its own")
        shape, dtype = (len(headers), *headers[0].shape), headers[0].dtype
        keep = int(np.prod(shape)) * dtype.itemsize <= memory
        displacements, velocities = (
            Trajectories(tuple(Source(header.path, full.fingerprint, name, keep) for header in headers), shape, dtype) for name in FIELDS
        )
        return cls(
            tuple(header.case for header in headers), displacements, velocities,
            np.array([header.seconds for header in headers]), headers[0].dt,
            full.fingerprint, reasons, tuple(header.digest for header in headers),
        )  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A case that diverged, as it lies in NAME.failed: under which model, dt [s] and number of steps, and why."""

    case: LoadCase
    fingerprint: str
    dt: float
    steps: int
    reason: str

    def to_json(self) -> str:
        said = {"case": json.loads(self.case.to_json()), "fingerprint": self.fingerprint, "dt": self.dt, "steps": self.steps}
        return json.dumps(said | {"reason": self.reason}, indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Failure:
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            return cls(LoadCase.from_json(json.dumps(said["case"])), said["fingerprint"], said["dt"], said["steps"], said["reason"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{path} does not say which load case diverged; delete it and run the sweep again") from None
