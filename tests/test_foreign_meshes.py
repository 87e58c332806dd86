"""Meshes that other programs made (tests/meshes/README.md) are read, described and filled."""

from pathlib import Path

import numpy as np
import pytest

from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh, fill
from hodsim.mesh.surfaces import read_surface

MESHES = Path(__file__).parent / "meshes"


@pytest.mark.parametrize(("name", "vertices", "tetrahedra", "volume", "groups"), [
    ("cube.node", 89, 304, 1.0, {"volume 1", "volume 2", "point 1"}),
    ("cube.ele", 89, 304, 1.0, {"volume 1", "volume 2", "point 1"}),
    ("elbow.mesh", 1823, 8161, np.pi * 0.03**2 * np.pi * 0.1, {"volume 6"}),  # half a torus of radii 0.1 and 0.03: Pappus
])  # fmt: skip
def test_a_mesh_has_the_size_and_the_volume_that_it_should(name, vertices, tetrahedra, volume, groups):
    mesh = TetMesh.load(MESHES / name)
    assert (len(mesh.vertices), len(mesh.tetrahedra)) == (vertices, tetrahedra)
    assert mesh.volumes.sum() == pytest.approx(volume, rel=0.02)  # flat facets lie within the torus
    assert set(mesh.groups) == groups and mesh.components.max() == 0


def test_the_pinned_elbow_sags_under_its_own_weight_and_no_more():
    """Rest stiffness and weight: a static displacement that is small and downwards nearly everywhere."""
    mesh = TetMesh.load(MESHES / "elbow.mesh")
    full = FullModel(mesh, StVK(youngs_modulus=1e6, poisson_ratio=0.4), density=1e3, pinned=mesh.select("y-min"))
    weight = full.restrict(full.vertex_mass[:, None] * np.array([0, 0, -9.81]))
    sag = full.full_displacement(full.solver.factor(full.rest_stiffness.data).solve(weight))
    assert -0.05 < sag[:, 2].min() < -0.001 and (sag[~full.pinned, 2] < 0).mean() > 0.99


def test_a_closed_surface_of_others_is_filled(tmp_path):
    pytest.importorskip("pytetwild")
    vertices, triangles = read_surface(MESHES / "bear.obj")
    enclosed = np.linalg.det(vertices[triangles]).sum() / 6
    mesh = fill(MESHES / "bear.obj", edge_length=1.5)
    assert mesh.volumes.sum() == pytest.approx(enclosed, rel=0.01)
    assert mesh.components.max() == 0 and mesh.quality.min() > 0.1
