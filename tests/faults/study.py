"""A small project with all that the commands make of it, and what of that must survive."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import lru_cache
from pathlib import Path

import meshio
import numpy as np

from hodsim.fem import StVK
from hodsim.mesh import TetMesh
from hodsim.reduced.ahead import compile_step
from hodsim.snapshots import Record
from hodsim.subspace import Model

from .numbers import REGION
from .runs import Run, hodsim

SETTINGS = """
mesh = "body.msh"
output = "study"
material = {youngs_modulus = 1e5}
simulation = {steps = 10}
sweep = {train = 4, validation = 1, test = 1}
subspace = {latent = 2, hidden = [6], coordinates = 8}
training = {epochs = 4, rounds = 2}
cubature = {elements = 8}
report = {pca = [2]}
"""
CUBE = """v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1
f 1 4 3\nf 1 3 2\nf 5 6 7\nf 5 7 8\nf 1 2 6\nf 1 6 5\nf 2 3 7\nf 2 7 6\nf 3 4 8\nf 3 8 7\nf 4 1 5\nf 4 5 8
"""

# Each command as a user gives it, what has to be there before it, and a file that it makes.
CHAIN = {
    "snapshots": (("snapshots", "body.toml", "--workers", "1"), "study/snapshots/train-0000.h5"),
    "train": (("train", "body.toml"), "study/model.hod"),
    "report": (("report", "body.toml"), "study/report.html"),
}
OTHERS = {
    "init": (("init", "body.msh", "--output", "new.toml"), "new.toml"),
    "mesh info": (("mesh", "info", "body.msh"), "body.png"),
    "mesh beam": (("mesh", "beam", "--size", "1", "0.1", "0.1", "--divisions", "3", "1", "1", "made.msh"), "made.msh"),
    "mesh fill": (("mesh", "fill", "cube.obj", "filled.vtu", "--edge-length", "0.5"), "filled.vtu"),
    "mesh tidy": (("mesh", "tidy", "body.msh", "tidied.vtu"), "tidied.vtu"),
    "simulate": (("simulate", "study/model.hod", "--steps", "6", "--output", "swing.mp4"), "swing.mp4"),
    "simulate to ParaView": (("simulate", "study/model.hod", "--steps", "3", "--output", "swing.pvd"), "swing.pvd"),
    "view": (("view", "study/model.hod", "--frames", "2", "--headless", "--output", "view.png"), "view.png"),
    "export": (("export", "study/model.hod", "decoder.pt2"), "decoder.pt2"),
}
COMMANDS = CHAIN | OTHERS


class Study:
    """Folders of the project at each stage, made when they are first asked for: before `snapshots`, before `train`, before `report`, complete."""

    def __init__(self, folder: Path):
        self.folder, self._number = folder, 0
        first = folder / "before snapshots"
        first.mkdir(parents=True)
        box = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
        region = {name: [np.ones(len(box.tetrahedra), int)] for name in ("gmsh:physical", "gmsh:geometrical")}
        body = meshio.Mesh(box.vertices, [("tetra", box.tetrahedra)], cell_data=region, field_data={REGION: np.array([1, 3])})
        body.write(first / "body.msh")
        (first / "body.toml").write_text(SETTINGS)
        (first / "cube.obj").write_text(CUBE)

    def before(self, name: str) -> Path:
        """The project with what a command needs of those before it; for one that works on a model, with everything."""
        if name in CHAIN:
            return self._stage(list(CHAIN).index(name))
        return self._stage(len(CHAIN) if "study/model.hod" in COMMANDS[name][0] else 0)

    @lru_cache  # noqa: B019  (a study lasts as long as its trials)
    def _stage(self, number: int) -> Path:
        """The folder in which so many commands of the chain have run."""
        folder = self.folder / f"before {[*CHAIN, 'the others'][number]}"
        if number > 0:
            shutil.copytree(self._stage(number - 1), folder)
            if number == 2:
                compile_step(StVK.__name__)  # here, so that the runs inherit it
            _done(hodsim(*list(CHAIN.values())[number - 1][0], folder=folder))
        return folder

    @lru_cache  # noqa: B019
    def seconds(self, name: str) -> float:
        """How long a command takes when nothing goes wrong."""
        return _done(hodsim(*COMMANDS[name][0], folder=self.fresh(name))).seconds

    @lru_cache  # noqa: B019
    def expected(self, name: str) -> dict[str, str]:
        """The digests of the study when a command is through."""
        after = self._stage(list(CHAIN).index(name) + 1) if name in CHAIN else self.before(name)
        return digests(after / "study")

    def fresh(self, name: str) -> Path:
        """A copy of the project in which a command has everything that it needs and has made nothing."""
        self._number += 1
        return Path(shutil.copytree(self.before(name), self.folder / f"{self._number:04d}"))


def _done(run: Run) -> Run:
    if run.status != 0:
        raise RuntimeError(f"hodsim {' '.join(run.command)} fails without a fault: {run.err}")
    return run


def digests(results: Path) -> dict[str, str]:
    """What tells the snapshots and the weights of a folder of results from any others. Raises ValueError for a damaged one."""
    found = {}
    if not results.exists():
        return found
    model = results / "model.hod"
    for file in sorted((results / "snapshots").glob("*.h5")):
        found[file.name] = Record.read(file, _fingerprint(results)).digest
    if model.exists():
        subspace = Model.load(model).subspace
        q = np.linspace(-0.01, 0.01, subspace.dim)
        found[model.name] = hashlib.sha256(subspace.decode(q).round(12).tobytes()).hexdigest()
    return found


def _fingerprint(results: Path) -> str:
    from hodsim.project import Project

    return Project.open(results).full.fingerprint


def leftovers(folder: Path) -> list[str]:
    """Temporary files that nobody removed."""
    return [str(file.relative_to(folder)) for file in folder.rglob(".*.tmp")]


def damaged(folder: Path) -> list[str]:
    """Files that are there and cannot be read as what their name says."""
    bad = []
    for file in folder.rglob("*"):
        head = file.read_bytes()[:16] if file.is_file() else b""
        magic = {".png": b"\x89PNG", ".mp4": b"\x00\x00\x00", ".h5": b"\x89HDF", ".hod": b"PK", ".pt2": b"PK"}.get(file.suffix)
        try:
            if magic and not head.startswith(magic):
                raise ValueError("its first bytes are others")
            if file.suffix in (".msh", ".vtu") and "study" not in file.parts:
                TetMesh.load(file)
            if file.suffix == ".json":
                json.loads(file.read_text())
        except ValueError as error:
            bad.append(f"{file.name}: {error}")
    return bad
