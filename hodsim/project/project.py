"""A project: settings, and one folder with everything made from them, so that each command finds what the one before left.

    project.toml   the settings as they were resolved                          hodsim snapshots, train, report
    snapshots/     one file a load case                                        hodsim snapshots
    model.hod      full model, trained subspace and notes                      hodsim train
    report.html    with report.json, picture.png and animation.mp4             hodsim report
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from hodsim.dynamics import SCHEMES
from hodsim.fem import Composite, FullModel, Material, Rayleigh
from hodsim.fem.pins import check_no_rigid_motion
from hodsim.mesh import TetMesh
from hodsim.project import toml
from hodsim.project.settings import Material as MaterialSettings
from hodsim.project.settings import Settings
from hodsim.snapshots import LoadCase, LoadShapes, Snapshots, generate_snapshots, load_shapes, sweep
from hodsim.snapshots.generate import Progress
from hodsim.storage import reserved, write_atomically
from hodsim.subspace.archive import MATERIALS
from hodsim.subspace.modal import vibrations

FILE = "project.toml"
SHIPPED = "hodsim:"  # begins the name of a mesh that comes with hodsim
FREE = {"mesh", "output", "subspace", "training", "cubature", "report"}  # what may change without other snapshots


@dataclass(frozen=True)
class Project:
    """Settings, and the folder that their paths are relative to."""

    settings: Settings
    base: Path

    @classmethod
    def open(cls, path: Path | str, changes: Iterable[str] = ()) -> Project:
        """Read a project file, or the one in a folder of results; changes are KEY=VALUE.

        Raises FileNotFoundError, or ValueError naming file, key, value and what was expected."""
        path = Path(path)
        file = path / FILE if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise FileNotFoundError(f"{path} holds no {FILE}; start with a project file, which `hodsim init MESH` writes")
        if file.suffix != ".toml":
            raise ValueError(f"{path} is no project file; expected one that ends in .toml, as `hodsim init {path}` writes it for a mesh")
        return cls(toml.read(file, changes), file.parent)

    @property
    def output(self) -> Path:
        """The folder for everything that is made."""
        return self.base / self.settings.output

    @property
    def snapshots_folder(self) -> Path:
        return self.output / "snapshots"

    @property
    def model_file(self) -> Path:
        return self.output / "model.hod"

    @cached_property
    def full(self) -> FullModel:
        """The full model. Raises ValueError or FileNotFoundError naming what is wrong with mesh or settings."""
        s, mesh = self.settings, self.mesh
        with _said_of("pins.on"):
            pinned = np.any([mesh.select(name) for name in s.pins.on], axis=0)
            check_no_rigid_motion(mesh, pinned)
        damping = Rayleigh(s.damping.mass, s.damping.stiffness)
        return FullModel(mesh, self.material, density=self.density, pinned=pinned, damping=damping)

    @property
    def material(self) -> Material:
        """That of the body, a composite where the law or its constants differ in some region. Raises ValueError for regions that do not fit."""
        everywhere = self.settings.material
        said = {name: everywhere.model_copy(update=region.model_dump(exclude_none=True)) for name, region in self.settings.regions.items()}
        laws = {name: _law(material) for name, material in said.items()}
        if all(law == _law(everywhere) for law in laws.values()):
            return _law(everywhere)
        with _said_of("regions"):
            return Composite.of_regions(self.mesh, laws, default=_law(everywhere))

    @property
    def density(self) -> float | np.ndarray:
        """[kg/m^3], one for each element (T,) if it differs anywhere. Raises ValueError for regions that do not fit."""
        everywhere = self.settings.material.density
        values = {name: everywhere if region.density is None else region.density for name, region in self.settings.regions.items()}
        with _said_of("regions"):
            found = self.mesh.per_element(values, default=everywhere)
        return everywhere if (found == everywhere).all() else found

    @cached_property
    def mesh(self) -> TetMesh:
        name = self.settings.mesh
        if name.startswith(SHIPPED):
            return TetMesh.load(str(files("hodsim.meshes") / name.removeprefix(SHIPPED)))
        return TetMesh.load(self.base / name)

    @cached_property
    def load_shapes(self) -> LoadShapes:
        with _said_of("loads"):
            return load_shapes(self.full, **self.settings.loads.model_dump())

    @cached_property
    def cases(self) -> list[LoadCase]:
        s = self.settings
        if s.cases:
            return [case.load_case() for case in s.cases]
        base = self._sweep(train=s.sweep.train, validation=s.sweep.validation, test=s.sweep.test)
        added = {number for number in s.sweep.added if number >= s.sweep.train}
        further = self.further_cases(max(added) + 1 - s.sweep.train) if added else []
        return base + [further[number - s.sweep.train] for number in sorted(added)]

    def further_cases(self, number: int) -> list[LoadCase]:
        """The training cases that a sweep longer by a number would have more. Raises ValueError where the cases are given one by one."""
        s = self.settings
        if s.cases:
            raise ValueError(f"the project gives {len(s.cases)} load cases of its own; expected a [sweep], which can be made longer")
        return self._sweep(train=s.sweep.train + number)[s.sweep.train :]

    def stored_additions(self) -> tuple[int, ...]:
        """sweep.added of the settings in the output folder, or else of these."""
        file = self.output / FILE
        return (toml.read(file) if file.exists() else self.settings).sweep.added

    def _sweep(self, **sizes: int) -> list[LoadCase]:
        s, how = self.settings.simulation, self.settings.sweep
        return sweep(
            **sizes, seed=self.settings.seed, duration=s.steps * s.dt, shapes=how.shapes or tuple(self.settings.loads.shapes),
            signals=how.signals, strength=how.strength, frequencies=self._frequencies if "resonance" in how.signals else (),
        )  # fmt: skip

    @cached_property
    def _frequencies(self) -> tuple[float, ...]:
        """The body's lowest three [Hz], for resonance."""
        _, omega = vibrations(self.full, 3)
        return tuple(float(w) / (2 * math.pi) for w in omega)

    def generate(self, *, workers: int, scheduler: str | None = None, progress: Progress | None = None) -> Snapshots:
        """The snapshots, of which those that are not there yet are simulated."""
        s = self.settings
        return generate_snapshots(
            self.full, self.load_shapes, self.cases, dt=s.simulation.dt, steps=s.simulation.steps, directory=self.snapshots_folder,
            scheme=SCHEMES[s.simulation.scheme], precision=s.sweep.precision, workers=workers, scheduler=scheduler,
            provenance=self.provenance, progress=progress,
        )  # fmt: skip

    def snapshots(self) -> Snapshots:
        """Those that were generated. Raises FileNotFoundError if there are none."""
        return Snapshots.load(self.snapshots_folder, self.full, cases=self.cases)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is stored with every result: settings and seed, versions and the fingerprint of the mesh."""
        packages = ("hodsim", "numpy", "scipy", "numba", "torch")
        versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
        return {"settings": self.settings.model_dump(mode="json"), "mesh_fingerprint": self.mesh.fingerprint, "versions": versions}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The output folder for this process alone, with the settings stored in it.

        Raises BlockingIOError if another process is at work there, ValueError if it holds results of other settings."""
        with reserved(self.output):
            self.store()
            yield

    def store(self) -> None:
        """Write the settings into the output folder, as `at_work` does. Raises ValueError if it holds results of others."""
        file = self.output / FILE
        if file.exists():
            changed = list(_differences(_physics(toml.read(file)), _physics(self.settings)))
            if changed:
                raise ValueError(f"{self.output} holds results of other settings ({', '.join(changed)}); choose another output or delete it")
        stored = self.settings.model_copy(update={"mesh": self._mesh_seen_from(self.output), "output": "."})
        write_atomically(file, toml.write(stored))

    def _mesh_seen_from(self, folder: Path) -> str:
        if self.settings.mesh.startswith(SHIPPED):
            return self.settings.mesh
        mesh = (self.base / self.settings.mesh).resolve()
        try:
            return Path(os.path.relpath(mesh, folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return mesh.as_posix()

    def changed(self, **values: Any) -> Project:
        """The same with other values of whole sections or settings."""
        return replace(self, settings=self.settings.model_copy(update=values))


def _physics(settings: Settings) -> dict[str, Any]:
    """What the snapshots depend on; how many cases there are may change, and a case is compared by itself."""
    said = settings.model_dump(mode="json", exclude=FREE | {"cases"})
    said["sweep"] = {name: said["sweep"][name] for name in ("precision", "shapes", "signals", "strength")}
    return said


def _law(material: MaterialSettings) -> Material:
    return MATERIALS[material.kind](youngs_modulus=material.youngs_modulus, poisson_ratio=material.poisson_ratio)


@contextmanager
def _said_of(key: str) -> Iterator[None]:
    """Errors about what the mesh has, with the key of the setting that they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{key}.{name}".removeprefix("."))
    elif old != new:
        yield f"{key} {old!r} -> {new!r}"
