"""A study: one folder that holds a problem and everything made from it, so that each command finds what the one before left.

    study.json     the problem: mesh, material, pins, time step, sweep         problem.full_model(), problem.cases()
    snapshots/     one file a load case                                        hodsim snapshots
    model.hod      full model, trained subspace and notes                      hodsim train
    report.html    with report.json, curves/, picture.png, animation.mp4             hodsim report
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hodsim.fem import FullModel
from hodsim.mesh import TetMesh
from hodsim.snapshots import LoadCase, sweep
from hodsim.storage import write_atomically
from hodsim.subspace.archive import MATERIALS


@dataclass(frozen=True)
class Problem:
    """What is simulated [m, kg, s, Pa] and which load cases sample it."""

    mesh: str
    pin: str = "x-min"
    material: str = "StVK"
    youngs_modulus: float = 1e6
    poisson_ratio: float = 0.4
    density: float = 1e3
    dt: float = 0.01
    steps: int = 200
    train: int = 100
    validation: int = 10
    test: int = 20
    seed: int = 0

    def full_model(self) -> FullModel:
        if self.material not in MATERIALS:
            raise ValueError(f"material is {self.material!r}; expected one of {', '.join(MATERIALS)}")
        mesh = TetMesh.load(self.mesh)
        material = MATERIALS[self.material](youngs_modulus=self.youngs_modulus, poisson_ratio=self.poisson_ratio)
        return FullModel(mesh, material, density=self.density, pinned=mesh.select(self.pin))

    def cases(self) -> list[LoadCase]:
        return sweep(
            train=self.train, validation=self.validation, test=self.test, seed=self.seed, duration=self.steps * self.dt
        )

    def save(self, folder: Path) -> None:
        """Write study.json; refuses a folder whose study is another one, so that results never mix."""
        file = folder / "study.json"
        if file.exists() and (stored := Problem.load(folder)) != self:
            changed = [f"{f.name} {getattr(stored, f.name)!r} -> {getattr(self, f.name)!r}" for f in fields(self)
                       if getattr(stored, f.name) != getattr(self, f.name)]
            raise ValueError(f"{folder} holds another study ({', '.join(changed)}); choose another --output or delete it")
        write_atomically(file, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Problem:
        file = folder / "study.json"
        if not file.exists():
            raise FileNotFoundError(f"{folder} holds no study.json; start with `hodsim snapshots MESH --output {folder}`")
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{file} is not a study of this version ({error})") from None


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
