"""Tetrahedral meshes: geometry against closed forms, files against what was saved, and every fault refused by name."""

import errno
from pathlib import Path

import meshio
import numpy as np
import pytest

from hodsim import storage
from hodsim.mesh import EDGES, TetMesh

MESHES = Path(__file__).parents[1] / "meshes"
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
ONE = np.array([[0, 1, 2, 3]])


def split_edge(vertices, tetrahedra, p, q):
    """Put a vertex in the middle of edge p-q: each tetrahedron at the edge becomes two."""
    middle = len(vertices)
    halves = []
    for tetrahedron in tetrahedra:
        if p in tetrahedron and q in tetrahedron:
            halves += [np.where(tetrahedron == p, middle, tetrahedron), np.where(tetrahedron == q, middle, tetrahedron)]
        else:
            halves.append(tetrahedron)
    return np.vstack([vertices, (vertices[p] + vertices[q]) / 2]), np.array(halves)


def split_element(vertices, tetrahedra, element):
    """Put a vertex at the centroid of an element, which becomes four."""
    centre, old = len(vertices), tetrahedra[element]
    parts = [np.where(np.arange(4) == corner, centre, old) for corner in range(4)]
    return np.vstack([vertices, vertices[old].mean(axis=0)]), np.vstack([np.delete(tetrahedra, element, axis=0), parts])


def beam() -> TetMesh:
    """How meshes/beam.msh was made: see meshes/README.md."""
    side = 3 / 32
    box = TetMesh.box((1, side, side), (32, 3, 3), corner=(0, -side / 2, -side / 2))
    x = box.vertices
    middle_of_tip = np.flatnonzero(np.isclose(x, (1, 0, 0), atol=side / 4).all(axis=1))  # the four corners of the middle square
    tip = set(middle_of_tip.tolist())
    (edge,) = {
        tuple(sorted(t[list(e)].tolist()))
        for t in box.tetrahedra for e in EDGES if set(t[list(e)].tolist()) <= tip and (x[t[e[0]], 1:] * x[t[e[1]], 1:] < 0).all()
    }
    vertices, tetrahedra = split_edge(x, box.tetrahedra, *edge)
    inner = np.argmax(np.isclose(vertices[tetrahedra].mean(axis=1), (1 - 1.5 / 32, 0, 0)).all(axis=1))
    return TetMesh(*split_element(vertices, tetrahedra, inner))


# Geometry


def test_box_fills_its_volume_with_elements_that_fit():
    mesh = TetMesh.box((2.0, 1.0, 0.5), (4, 3, 2), corner=(-1, 0, 1))
    assert mesh.volumes.sum() == pytest.approx(1.0, rel=1e-14)
    assert len(mesh.tetrahedra) == 5 * 24 and len(mesh.vertices) == 5 * 4 * 3
    assert len(mesh.surface) == 2 * 2 * (4 * 3 + 4 * 2 + 3 * 2)  # two triangles a boundary square: no diagonals cross inside
    np.testing.assert_array_equal(mesh.bounding_box, [(-1, 0, 1), (1, 1, 1.5)])


def test_surface_is_closed_and_points_outward():
    mesh = TetMesh.box((2.0, 1.0, 0.5), (3, 2, 2))
    a, b, c = np.moveaxis(mesh.vertices[mesh.surface], 1, 0)
    normals = np.cross(b - a, c - a) / 2
    np.testing.assert_allclose(normals.sum(axis=0), 0, atol=1e-14)
    assert (a * normals).sum() / 3 == pytest.approx(1.0, rel=1e-14)  # divergence theorem: the volume


def test_quality_is_one_for_a_regular_element():
    regular = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert TetMesh(regular, [[0, 2, 1, 3]] if np.linalg.det(regular[1:] - regular[0]) < 0 else ONE).quality == pytest.approx([1])
    squashed = TetMesh(CORNERS * (1, 1, 1e-3), ONE)
    assert 1e-3 < squashed.quality[0] < 0.1


def test_edge_length_is_the_mean_over_distinct_edges():
    assert TetMesh(CORNERS, ONE).edge_length == pytest.approx((3 + 3 * np.sqrt(2)) / 6)


def test_fingerprint_tells_meshes_apart():
    box = TetMesh.box((1, 1, 1), (1, 1, 1))
    moved = box.vertices.copy()
    moved[0, 0] -= 1e-12
    assert box.fingerprint == TetMesh.box((1, 1, 1), (1, 1, 1)).fingerprint
    assert box.fingerprint != TetMesh(moved, box.tetrahedra).fingerprint


def test_a_mesh_cannot_be_changed_and_does_not_follow_its_source():
    source = CORNERS.copy()
    mesh = TetMesh(source, ONE)
    source[0] = 7
    assert mesh.vertices[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        mesh.vertices[0] = 1


# The beam


def test_beam_file_is_the_box_with_two_splits():
    stored, made = TetMesh.load(MESHES / "beam.msh"), beam()
    np.testing.assert_array_equal(stored.tetrahedra, made.tetrahedra)
    np.testing.assert_array_equal(stored.vertices, made.vertices)


def test_beam_has_the_stated_size():
    mesh = TetMesh.load(MESHES / "beam.msh")
    assert len(mesh.tetrahedra) == 1446
    assert 3 * np.count_nonzero(mesh.vertices[:, 0] > 0) == 1542
    assert mesh.volumes.sum() == pytest.approx(9 / 1024, rel=1e-14)
    assert (np.abs(mesh.vertices - (1, 0, 0)).sum(axis=1) == 0).sum() == 1  # the tip of the axis is a vertex
    assert mesh.quality.min() > 0.3


# Files


@pytest.mark.parametrize("ending", ["msh", "vtu", "vtk", "mesh"])
def test_saved_mesh_loads_as_it_was(tmp_path, ending):
    mesh = TetMesh.box((1, 2, 3), (2, 1, 1), corner=(0.1, 0.2, 0.3))
    loaded = TetMesh.load(mesh.save(tmp_path / f"box.{ending}"))
    np.testing.assert_array_equal(loaded.tetrahedra, mesh.tetrahedra)
    np.testing.assert_array_equal(loaded.vertices, mesh.vertices)


def test_displacement_is_saved_beside_the_vertices(tmp_path):
    mesh = TetMesh.box((1, 1, 1), (1, 1, 1))
    u = np.random.default_rng(0).standard_normal(mesh.vertices.shape)
    content = meshio.read(mesh.save(tmp_path / "box.vtu", displacement=u))
    np.testing.assert_array_equal(content.point_data["displacement"], u)
    with pytest.raises(ValueError, match=r"displacement has shape \(2, 3\); expected \(8, 3\)"):
        mesh.save(tmp_path / "box.vtu", displacement=u[:2])


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.msh does not exist"):
        TetMesh.load("nowhere.msh")


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.msh", b"this is no mesh"), ("cut.msh", None), ("mesh.pdf", b"%PDF"), ("empty.vtu", b""), ("noise.vtk", bytes(range(256)))],
)
def test_foreign_file_is_refused_by_name(tmp_path, capsys, name, content):
    whole = TetMesh.box((1, 1, 1), (2, 2, 2)).save(tmp_path / "whole.msh").read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=f"{name} could not be read as a mesh"):
        TetMesh.load(tmp_path / name)
    assert capsys.readouterr() == ("", "")  # the error says it all


def test_surface_mesh_is_refused(tmp_path):
    meshio.Mesh(CORNERS, [("triangle", [[0, 1, 2]])]).write(tmp_path / "surface.vtu")
    with pytest.raises(ValueError, match=r"surface\.vtu has no tetrahedra; it holds 1 x triangle; .*hodsim mesh fill"):
        TetMesh.load(tmp_path / "surface.vtu")


def test_bad_element_in_a_file_names_the_file(tmp_path):
    meshio.Mesh(CORNERS, [("tetra", [[0, 2, 1, 3]])]).write(tmp_path / "turned.vtu")
    with pytest.raises(ValueError, match=r"turned\.vtu: tetrahedron 0 .* is inverted"):
        TetMesh.load(tmp_path / "turned.vtu")


def test_unknown_ending_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"box\.xyz could not be written"):
        TetMesh(CORNERS, ONE).save(tmp_path / "box.xyz")


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = TetMesh(CORNERS, ONE).save(tmp_path / "mesh.msh")
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match=r"mesh\.msh could not be saved: No space left"):
        TetMesh.box((1, 1, 1), (2, 2, 2)).save(file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


# What is refused


@pytest.mark.parametrize(
    ("vertices", "tetrahedra", "message"),
    [
        (CORNERS, np.empty((0, 4), int), "has no tetrahedra"),
        (CORNERS, [[0, 2, 1, 3]], r"tetrahedron 0 .* is inverted: volume -0\.167 m\^3.*swap two"),
        (CORNERS * (1, 1, 0), ONE, r"tetrahedron 0 .* is degenerate: volume 0 m\^3"),
        (CORNERS * (1, 1, 1e-15), ONE, "tetrahedron 0 .* is degenerate"),
        (CORNERS, [[0, 1, 2, 3], [0, 1, 2, 2]], "tetrahedron 1 .* is degenerate"),
        (np.vstack([CORNERS, [(5, 5, 5)]]), ONE, r"1 of 5 vertices belong to no tetrahedron \(4\)"),
        (CORNERS, [[0, 1, 2, 4]], r"tetrahedron 0 has vertices \[0, 1, 2, 4\]; expected indices from 0 to 3"),
        (CORNERS, [[0, 1, 2, -1]], "expected indices from 0 to 3"),
        (CORNERS * np.nan, ONE, "vertices holds 12 value"),
        (CORNERS[:, :2], ONE, r"vertices has shape \(4, 2\); expected \(\*, 3\)"),
        (CORNERS, [[0, 1, 2]], r"tetrahedra has shape \(1, 3\); expected \(\*, 4\)"),
        (CORNERS, ONE.astype(float), "tetrahedra have dtype float64"),
    ],
)
def test_bad_mesh_is_refused_by_index(vertices, tetrahedra, message):
    with pytest.raises(ValueError, match=message):
        TetMesh(vertices, tetrahedra)


def test_the_right_element_of_many_is_named():
    box = TetMesh.box((1, 1, 1), (3, 3, 3))
    tetrahedra = box.tetrahedra.copy()
    tetrahedra[77] = tetrahedra[77, [1, 0, 2, 3]]
    with pytest.raises(ValueError, match="tetrahedron 77 .* is inverted"):
        TetMesh(box.vertices, tetrahedra)


@pytest.mark.parametrize(("size", "divisions"), [((1, 0, 1), (1, 1, 1)), ((1, 1, 1), (1, 0, 1)), ((1, 1, 1), (1, 1.5, 1))])
def test_bad_box_is_refused(size, divisions):
    with pytest.raises(ValueError, match="along y is"):
        TetMesh.box(size, divisions)
