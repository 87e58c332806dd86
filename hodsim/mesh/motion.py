"""A motion as files of other programs, from displacement fields (steps, V, 3) [m] over a mesh.

    .pvd                    ParaView: a series of .vtu beside it, deformed tetrahedra with their displacement
    .ply, .obj, .glb        a file a frame of the deformed surface, NAME_0001.ply and so on (.glb by trimesh; y is up there)
    .usd, .usda, .usdc      one file with the surface over time (by usd-core)
"""

# pyright: reportAttributeAccessIssue=false
# usd-core has no types of what it holds

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import meshio
import numpy as np

from hodsim import checks
from hodsim.mesh import files
from hodsim.mesh.tetrahedra import TetMesh
from hodsim.storage import write_atomically

FRAMES = (".ply", ".obj", ".glb")
USD = (".usd", ".usda", ".usdc")
MOTIONS = (".pvd", *FRAMES, *USD)
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x, y, z -> x, z, -y
EXTRA = 'pip install "hodsim[exports]"'

Progress = Callable[[int, int], None]


def save_motion(output: Path | str, mesh: TetMesh, displacements: np.ndarray, times: np.ndarray, *, progress: Progress | None = None) -> Path:
    """Write displacements (steps, V, 3) [m] at times (steps,) [s] in the way of the ending; returns the one file, or the first frame.

    progress is called with the frames done and in all. Raises ValueError for another ending; ModuleNotFoundError saying what to install
    where the library of a format is missing; OSError when the disk is full."""
    output = Path(output)
    checks.finite("displacements", checks.shape("displacements", displacements, (len(times), *mesh.vertices.shape)))
    if output.suffix not in MOTIONS:
        raise ValueError(f"a motion cannot be written as {output}; expected a name that ends in one of {', '.join(MOTIONS)}")
    report = progress or (lambda done, total: None)
    if output.suffix in USD:
        return _usd(output, mesh, displacements, times, report)
    frame = {".pvd": _vtu, ".glb": _glb}.get(output.suffix, _surface)
    written, folder = [], output.parent / output.stem if output.suffix == ".pvd" else output.parent
    for number, displacement in enumerate(displacements, 1):
        name = f"{output.stem}_{number:04d}{'.vtu' if output.suffix == '.pvd' else output.suffix}"
        written.append(frame(folder / name, mesh, displacement))
        report(number, len(times))
    return _pvd(output, written, times) if output.suffix == ".pvd" else written[0]


def _vtu(file: Path, mesh: TetMesh, displacement: np.ndarray) -> Path:
    content = meshio.Mesh(mesh.vertices + displacement, [("tetra", mesh.tetrahedra)], point_data={"displacement": displacement})
    return files.write(file, content)


def _pvd(output: Path, frames: list[Path], times: np.ndarray) -> Path:
    rows = [
        f'    <DataSet timestep="{time:.9g}" file={quoteattr(f"{file.parent.name}/{file.name}")}/>'
        for file, time in zip(frames, times, strict=True)
    ]
    lines = ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "  <Collection>", *rows, "  </Collection>", "</VTKFile>", ""]
    return write_atomically(output, "\n".join(lines))


def surface_of(mesh: TetMesh) -> tuple[np.ndarray, np.ndarray]:
    """The vertices on the surface (n,) and its triangles (S, 3) as rows of their numbers among these."""
    used, numbers = np.unique(mesh.surface, return_inverse=True)
    return used, numbers.reshape(-1, 3)


def _surface(file: Path, mesh: TetMesh, displacement: np.ndarray) -> Path:
    used, triangles = surface_of(mesh)
    return files.write(file, meshio.Mesh((mesh.vertices + displacement)[used], [("triangle", triangles)]))


def _glb(file: Path, mesh: TetMesh, displacement: np.ndarray) -> Path:
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{file} needs trimesh ({error}); install it by `{EXTRA}`") from None
    used, triangles = surface_of(mesh)
    body = trimesh.Trimesh((mesh.vertices + displacement)[used] @ Y_UP.T, triangles, process=False)
    return write_atomically(file, bytes(trimesh.Scene(body).export(file_type="glb")))  # pyright: ignore[reportArgumentType, reportCallIssue]


def _usd(output: Path, mesh: TetMesh, displacements: np.ndarray, times: np.ndarray, report: Progress) -> Path:
    try:
        from pxr import Usd, UsdGeom, Vt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{output} needs usd-core ({error}); install it by `{EXTRA}`") from None
    used, triangles = surface_of(mesh)
    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    rate = 1 / float(times[0]) if len(times) == 1 else (len(times) - 1) / float(times[-1] - times[0])
    stage.SetTimeCodesPerSecond(rate)
    stage.SetStartTimeCode(float(times[0]) * rate)
    stage.SetEndTimeCode(float(times[-1]) * rate)
    body = UsdGeom.Mesh.Define(stage, "/body")
    stage.SetDefaultPrim(body.GetPrim())
    body.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    body.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(triangles), 3, np.int32)))
    body.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(triangles.astype(np.int32).ravel()))
    points, extent = body.CreatePointsAttr(), body.CreateExtentAttr()
    for number, (displacement, time) in enumerate(zip(displacements, times, strict=True), 1):
        x = np.ascontiguousarray((mesh.vertices + displacement)[used], np.float32)
        points.Set(Vt.Vec3fArray.FromNumpy(x), float(time) * rate)
        extent.Set(Vt.Vec3fArray.FromNumpy(np.stack([x.min(axis=0), x.max(axis=0)])), float(time) * rate)
        report(number, len(times))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / output.name
        stage.GetRootLayer().Export(str(draft))
        return write_atomically(output, draft.read_bytes())
