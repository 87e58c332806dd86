"""Small files of every kind that hodsim reads, each with the function that reads it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import meshio
import numpy as np
import safetensors.numpy
import torch

from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.mesh.surfaces import read_surface
from hodsim.project import Settings, toml
from hodsim.snapshots import LoadCase, Record, Snapshots, sweep
from hodsim.snapshots.store import Failure
from hodsim.subspace import Autoencoder, Model
from hodsim.subspace.archive import SEAL, _seal
from hodsim.trainers.loop import repeat
from hodsim.viewer import Recording
from hodsim.viewer.recording import Inputs

CUBE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\n" + "".join(
    f"f {a} {b} {c}\n" for a, b, c in ((1, 4, 3), (1, 3, 2), (5, 6, 7), (5, 7, 8), (1, 2, 6), (1, 6, 5), (2, 3, 7), (2, 7, 6), (3, 4, 8), (3, 8, 7),
                                       (4, 1, 5), (4, 5, 8)))  # fmt: skip
LOADS = {"tip": 3, "body": 3, "twist": 1}


@dataclass(frozen=True)
class Kind:
    """Files with an ending, whole ones to begin with, and what reads one; forge makes a consistent file of changed parts of one, or is None."""

    name: str
    ending: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    forge: Callable[[bytes, Callable[[object], object]], bytes] | None = None


@cache
def body() -> FullModel:
    mesh = TetMesh.box((0.2, 0.1, 0.1), (2, 1, 1))
    return FullModel(mesh, StVK(1e5, 0.3), density=1e3, pinned=mesh.vertices[:, 0] == 0)


def kinds(folder: Path) -> list[Kind]:
    """All of them; folder is for what can only be written to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        Kind("model", ".hod", (_model(folder),), Model.load, _forged_model),
        Kind("snapshots", ".h5", (_snapshots("float32"), _snapshots("float64")), _read_snapshots),
        Kind("failure", ".failed", (Failure(_case(), body().fingerprint, 0.01, 5, "it diverged").to_json().encode(),), Failure.read, _forged_json),
        Kind("recording", ".json", (_recording(folder),), _read_recording, _forged_json),
        Kind("project", ".toml", (_project(),), toml.read),
        Kind("checkpoint", ".safetensors", (_checkpoint(folder),), _read_checkpoint),
        *(Kind(f"mesh {ending}", ending, seeds, _read_mesh) for ending, seeds in _meshes(folder).items()),
        *(Kind(f"surface {ending}", ending, seeds, read_surface) for ending, seeds in _surfaces(folder).items()),
    ]


# Models


@cache
def _network() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(torch.full((4,), 0.02, dtype=torch.float64), 2, (3, 3))


def _model(folder: Path) -> bytes:
    full = body()
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((full.n_dofs, 4)))[0]
    subspace = _network().fold(basis, mass=full.mass, name="network")
    cubature = np.array([0, 3]), np.array([4.0, 6.0])
    return Model(full, subspace, {"dt": 0.01}, cubature).save(folder / "seed.hod").read_bytes()


def _forged_model(content: bytes, change: Callable[[object], object]) -> bytes:
    """A model file with another header or other arrays, sealed as if hodsim had written it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        header, arrays = json.loads(archive.read("model.json")), safetensors.numpy.load(archive.read("arrays.safetensors"))
    lists = {name: array.ravel()[:6].tolist() for name, array in arrays.items()}
    changed = change({"header": header, "arrays": lists})
    header = changed.get("header") if isinstance(changed, dict) else changed
    for name, array in arrays.items():
        said = changed.get("arrays", {}).get(name) if isinstance(changed, dict) and isinstance(changed.get("arrays"), dict) else None
        if said != lists[name]:
            arrays[name] = _array_of(said, array)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.json", json.dumps(header))
        archive.writestr("arrays.safetensors", safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        archive.comment = b"0" * SEAL
    whole = buffer.getvalue()[:-SEAL]
    return whole + _seal(whole)


def _array_of(said: object, array: np.ndarray) -> np.ndarray:
    """An array that begins with other numbers, or has another shape or type where they are none."""
    numbers = [value for value in said if isinstance(value, int | float) and abs(value) < 1e18] if isinstance(said, list) else []
    if not numbers:
        return np.zeros((0, 2, *array.shape[1:]), array.dtype) if said is None else array.reshape(-1)[: array.size // 2].astype(np.float32)
    changed = array.copy()
    with np.errstate(invalid="ignore"):
        changed.reshape(-1)[: len(numbers)] = np.asarray(numbers[: changed.size]).astype(array.dtype)
    return changed


def _forged_json(content: bytes, change: Callable[[object], object]) -> bytes:
    return json.dumps(change(json.loads(content))).encode()


# Snapshots, recordings, projects, checkpoints


def _case() -> LoadCase:
    return sweep(train=1)[0]


def _snapshots(precision: str) -> bytes:
    arrays = np.random.default_rng(0).standard_normal((2, 4, body().n_dofs)).astype(precision)
    return Record(_case(), *arrays, 0.01, 1.0, {"settings": {}}).to_bytes(body().fingerprint)


def _read_snapshots(path: Path) -> object:
    found = Snapshots.load(path.parent, body())
    return Record.read(path, body().fingerprint), np.asarray(found.displacements), found.poses()[0]


def _recording(folder: Path) -> bytes:
    free = int(np.flatnonzero(~body().pinned)[0])
    loads = {"tip": (0.0, 0.0, 0.1), "body": (0.0, 0.0, 0.0), "twist": (0.0,)}
    recording = Recording(body().fingerprint, 10.0)
    for pulls in ({}, {free: (0.1, 0.2, 0.3)}):
        recording.note(Inputs(0.01, "variational", loads, pulls, body().damping))
    return recording.save(folder / "seed.json").read_bytes()


def _read_recording(path: Path) -> object:
    return Recording.load(path, body(), LOADS).duration


def _project() -> bytes:
    case = {"name": "pull", "split": "train", "terms": [{"shape": "tip", "signal": "piecewise", "ends": [0.5], "values": [[0.0, 0.0, 1.0]]}]}
    cases = [case, case | {"name": "b", "split": "validation"}, case | {"name": "c", "split": "test"}]
    settings = Settings.model_validate_json(json.dumps({"mesh": "body.msh", "cases": cases, "regions": {"core": {"density": 2e3}}}))
    return toml.write(settings).encode()


def _trained(checkpoint: Path, epochs: int) -> object:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def epoch(_fitted, _generator) -> float:
        loss = model(torch.ones(2)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return repeat(model, epoch, lambda: float(model(torch.ones(2)).square().sum()), optimizer, epochs, 0, checkpoint, "toy", None)


def _checkpoint(folder: Path) -> bytes:
    _trained(folder / "seed.safetensors", 2)
    return (folder / "seed.safetensors").read_bytes()


def _read_checkpoint(path: Path) -> object:
    return _trained(path, 3)


# Meshes


def _meshes(folder: Path) -> dict[str, tuple[bytes, ...]]:
    mesh = TetMesh.box((0.2, 0.1, 0.1), (2, 1, 1))
    tetrahedra = mesh.tetrahedra
    content = meshio.Mesh(mesh.vertices, [("tetra", tetrahedra), ("triangle", mesh.surface)],
                          cell_sets={"half": [np.arange(5), np.empty(0, int)]})  # fmt: skip
    bare = meshio.Mesh(mesh.vertices, [("tetra", tetrahedra)])
    written = {
        ".msh": [("gmsh22", bare, {"binary": False}), ("gmsh22", bare, {"binary": True}), ("gmsh", bare, {"binary": False}), ("gmsh", bare, {})],
        ".vtu": [("vtu", bare, {}), ("vtu", bare, {"binary": False}), ("vtu", bare, {"compression": None})],
        ".vtk": [("vtk", bare, {"binary": False}), ("vtk", bare, {}), ("vtk42", bare, {"binary": False})],
        ".mesh": [("medit", bare, {})],
        ".inp": [("abaqus", content, {})],
        ".xdmf": [("xdmf", bare, {"data_format": "XML"}), ("xdmf", bare, {"data_format": "Binary"})],
    }
    seeds = {}
    for ending, ways in written.items():
        made = []
        for format_, what, options in ways:
            file = folder / f"seed{ending}"
            meshio.write(file, what, file_format=format_, **options)
            made.append(file.read_bytes())
        seeds[ending] = tuple(made)
    generated = seeds[".inp"][0] + b"*ELSET, ELSET=all, GENERATE\n1, 10, 1\n"
    return seeds | {".inp": (*seeds[".inp"], generated), ".node": ((Path(__file__).parents[1] / "meshes" / "cube.node").read_bytes(),)}


def _surfaces(folder: Path) -> dict[str, tuple[bytes, ...]]:
    (folder / "seed.obj").write_text(CUBE)
    cube = meshio.read(folder / "seed.obj")
    surface = meshio.Mesh(cube.points, [("triangle", cube.cells_dict["triangle"])])
    seeds = {".obj": (CUBE.encode(),)}
    for ending in (".stl", ".ply"):
        made = []
        for binary in (True, False):
            meshio.write(folder / f"seed{ending}", surface, binary=binary)
            made.append((folder / f"seed{ending}").read_bytes())
        seeds[ending] = tuple(made)
    return seeds


def _read_mesh(path: Path) -> object:
    if path.suffix == ".node":
        path.with_suffix(".ele").write_bytes((Path(__file__).parents[1] / "meshes" / "cube.ele").read_bytes())
    try:
        return TetMesh.load(path)
    except ValueError:
        return TetMesh.tidy(path)
