"""Closed surfaces: what bounds a body is filled with it, what does not is refused."""

import sys

import meshio
import numpy as np
import pytest

from hodsim.mesh import TetMesh, fill
from hodsim.mesh.surfaces import read_surface

BOX = TetMesh.box((2.0, 1.0, 1.0), (2, 1, 1))
SPHERE = 0.3


def ball() -> tuple[np.ndarray, np.ndarray]:
    """An octahedron refined three times onto a sphere of radius SPHERE."""
    x = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]])
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    for _ in range(3):
        a, b, c = np.moveaxis(x[faces], 1, 0)
        corners = np.stack([a, b, c, a + b, b + c, c + a], axis=1).reshape(-1, 3)
        corners /= np.linalg.norm(corners, axis=1, keepdims=True)
        _, first, numbers = np.unique(corners.round(9), axis=0, return_index=True, return_inverse=True)
        n = numbers.reshape(-1, 6)
        x, faces = corners[first], np.concatenate([n[:, [0, 3, 5]], n[:, [3, 1, 4]], n[:, [5, 4, 2]], n[:, [3, 4, 5]]])
    return SPHERE * x, faces


def written(folder, ending: str, vertices=BOX.vertices, triangles=BOX.surface):
    meshio.Mesh(vertices, [("triangle", triangles)]).write(folder / f"body.{ending}")
    return folder / f"body.{ending}"


def volume(vertices, triangles) -> float:
    return float(np.linalg.det(vertices[triangles]).sum() / 6)  # divergence theorem


@pytest.mark.parametrize("ending", ["obj", "stl", "ply"])
def test_a_closed_surface_encloses_its_volume(ending, tmp_path):
    for triangles in (BOX.surface, BOX.surface[:, ::-1]):  # whichever side the file takes for the outside
        vertices, found = read_surface(written(tmp_path, ending, triangles=triangles))
        assert len(vertices) == len(BOX.vertices)
        assert volume(vertices, found) == pytest.approx(2.0, rel=1e-6)  # .stl is in single precision


def test_quadrangles_are_halved(tmp_path):
    (tmp_path / "cube.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\n"
        "f 4/1/1 3/1/1 2/1/1 1/1/1\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n"
    )
    assert volume(*read_surface(tmp_path / "cube.obj")) == pytest.approx(1.0)


@pytest.mark.parametrize(("triangles", "message"), [
    (BOX.surface[1:], "the surface is open: 3 edges belong to one triangle only"),
    (np.vstack([BOX.surface, BOX.surface[:1]]), "3 edges belong to more than two triangles"),
    (np.vstack([BOX.surface[:1, ::-1], BOX.surface[1:]]), "oriented against one another"),
])  # fmt: skip
def test_what_bounds_no_body_is_refused(triangles, message, tmp_path):
    with pytest.raises(ValueError, match=rf"body\.obj: .*{message}"):
        fill(written(tmp_path, "obj", triangles=triangles))


def test_a_mesh_of_tetrahedra_is_no_surface(tmp_path):
    with pytest.raises(ValueError, match=r"box\.vtu holds tetra; expected a surface of triangles"):
        fill(BOX.save(tmp_path / "box.vtu"))


def test_a_surface_where_a_mesh_is_wanted_is_told_how_to_be_filled(tmp_path):
    with pytest.raises(ValueError, match=r"body\.stl has no tetrahedra; .*hodsim mesh fill .*body\.stl"):
        TetMesh.load(written(tmp_path, "stl"))


def test_without_pytetwild_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytetwild.pytetwild", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs pytetwild.*pip install "hodsim\[meshes\]"'):
        fill(written(tmp_path, "obj"))


def test_a_ball_is_filled_to_its_volume(tmp_path, monkeypatch):
    pytest.importorskip("pytetwild")
    monkeypatch.chdir(tmp_path)
    vertices, triangles = ball()
    file = written(tmp_path, "stl", vertices, triangles)
    mesh = fill(file, edge_length=0.15)
    assert mesh.volumes.sum() == pytest.approx(volume(vertices, triangles), rel=0.03)  # the surface may move by 1e-3 of the diagonal
    assert np.abs(np.linalg.norm(mesh.vertices[np.unique(mesh.surface)], axis=1) - SPHERE).max() < 0.02 * SPHERE
    assert mesh.quality.min() > 0.05 and mesh.components.max() == 0
    assert list(tmp_path.iterdir()) == [file]  # fTetWild writes beside, where it is let
