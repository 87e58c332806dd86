"""Pins that leave a body free to turn are refused where an equilibrium is asked for; the oracle is the kernel of the stiffness matrix."""

import numpy as np
import pytest

from hodsim.fem import FullModel, StVK
from hodsim.fem.pins import check_no_rigid_motion
from hodsim.mesh import TetMesh
from hodsim.project import Project
from hodsim.snapshots import bending_loads

BOX = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
EDGE = np.flatnonzero((BOX.vertices[:, 1] == 0) & (BOX.vertices[:, 2] == 0))
CORNERS = np.flatnonzero(BOX.vertices[:, 0] == 0)
PINS = {"one vertex": EDGE[:1], "two vertices": EDGE[:2], "an edge": EDGE, "three corners": CORNERS[:3], "a side": CORNERS, "far off": EDGE[[0, 4]]}


def body(pins: np.ndarray, mesh: TetMesh = BOX) -> FullModel:
    return FullModel(mesh, StVK(youngs_modulus=1e5, poisson_ratio=0.3), density=1e3, pinned=pins)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", PINS)
def test_the_rigid_motions_that_are_left_are_the_kernel_of_the_stiffness(name, scale):
    # turned, so that a line of pins is one only up to rounding
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    turn *= np.linalg.det(turn)
    mesh = TetMesh(scale * BOX.vertices @ turn.T, BOX.tetrahedra)
    full = body(PINS[name], mesh)
    values = np.linalg.eigvalsh(full.rest_stiffness.toarray())
    left = int((values < 1e-10 * values[-1]).sum())
    if left == 0:
        check_no_rigid_motion(mesh, full.pinned)
        assert np.isfinite(bending_loads(full)["tip"]).all()
    else:
        for refused in (lambda: check_no_rigid_motion(mesh, full.pinned), lambda: bending_loads(full)):
            with pytest.raises(ValueError, match=f"leaves {left} rigid motions? without .*; expected pins on at least three vertices that are not"):
                refused()


def test_the_oracle_meets_every_count():
    for name, left in {"one vertex": 3, "two vertices": 1, "an edge": 1, "three corners": 0, "a side": 0, "far off": 1}.items():
        values = np.linalg.eigvalsh(body(PINS[name]).rest_stiffness.toarray())
        assert (values < 1e-10 * values[-1]).sum() == left, name


def test_each_part_must_be_held_and_the_one_that_is_not_is_named():
    count = len(BOX.vertices)
    two = TetMesh(np.vstack([BOX.vertices, BOX.vertices + 5]), np.vstack([BOX.tetrahedra, BOX.tetrahedra + count]))
    with pytest.raises(ValueError, match=r"part 2 of 2 of the mesh is pinned at one vertex, at \(5, 5, 5\) m, which leaves 3 rigid motions"):
        bending_loads(body(np.append(CORNERS, EDGE[0] + count), two))
    with pytest.raises(ValueError, match="1 of 2 connected parts of the mesh are pinned nowhere"):
        check_no_rigid_motion(two, body(CORNERS, BOX).pinned.repeat(2).reshape(-1, 2).T.ravel() & (np.arange(2 * count) < count))
    with pytest.raises(ValueError, match="pinned nowhere"):
        bending_loads(FullModel(BOX, StVK(1e5, 0.3), density=1e3, pinned=None))


def test_a_pendulum_still_moves():
    full = body(EDGE[:1])
    assert np.isfinite(full.state(force=np.ones(full.n_dofs)).a).all()


def test_a_project_says_so_before_anything_is_computed(tmp_path):
    # a pyramid on its tip: its lowest side is one vertex
    vertices = np.array([(0.0, 0, 0), (1, -1, -1), (1, 1, -1), (1, 0, 1)])
    TetMesh(vertices, np.array([(0, 1, 2, 3)])).save(tmp_path / "body.msh")
    (tmp_path / "body.toml").write_text('mesh = "body.msh"')
    with pytest.raises(ValueError, match=r"pins\.on: the body is pinned at one vertex, at \(0, 0, 0\) m, which leaves 3 rigid motions"):
        _ = Project.open(tmp_path / "body.toml").full
