"""Loads against their resultants and moments, which the principle of virtual work makes exact."""

import numpy as np
import pytest

from hodsim.fem import FullModel, Load, StVK, body_load, gravity, group_force, group_traction, point_load, traction
from hodsim.mesh import Group, TetMesh

MESH = TetMesh.box((0.4, 0.3, 0.2), (4, 3, 2), corner=(0.1, 0, 0))
FREE = FullModel(MESH, StVK(1e5, 0.3), density=700.0, pinned=None)
HELD = FullModel(MESH, StVK(1e5, 0.3), density=700.0, pinned=MESH.vertices[:, 0] == 0.1)
VOLUME = 0.024


def resultant(full, force):
    """Force and moment about the origin."""
    f = full.full_displacement(force)
    return f.sum(axis=0), np.cross(full.mesh.vertices, f).sum(axis=0)


def test_gravity_is_the_weight_at_the_centre_of_mass():
    force, moment = resultant(FREE, gravity(FREE))
    np.testing.assert_allclose(force, (0, 0, -9.81 * 700 * VOLUME), rtol=1e-13)
    np.testing.assert_allclose(moment, np.cross((0.3, 0.15, 0.1), force), atol=1e-13 * np.abs(force).max())


def test_gravity_accelerates_the_consistent_mass_evenly():
    a = np.tile((1.0, -2.0, 3.0), len(MESH.vertices))
    np.testing.assert_allclose(gravity(FREE, (1, -2, 3)), FREE.mass @ a, rtol=1e-12)


def test_body_load_is_force_density_times_volume():
    np.testing.assert_allclose(resultant(FREE, body_load(FREE, (1.0, 2.0, 3.0)))[0], np.multiply((1, 2, 3), VOLUME), rtol=1e-13)
    np.testing.assert_allclose(body_load(FREE, (0, 0, -9.81 * 700)), gravity(FREE), rtol=1e-12)
    by_element = np.random.default_rng(0).standard_normal((len(MESH.tetrahedra), 3))
    np.testing.assert_allclose(resultant(FREE, body_load(FREE, by_element))[0], MESH.volumes @ by_element, rtol=1e-12)


def test_traction_is_pressure_times_area_at_the_centre_of_the_side():
    mask = MESH.vertices[:, 0] == 0.5
    force, moment = resultant(FREE, traction(FREE, mask, (5.0, -1.0, 2.0)))
    np.testing.assert_allclose(force, np.multiply((5, -1, 2), 0.06), rtol=1e-13)
    np.testing.assert_allclose(moment, np.cross((0.5, 0.15, 0.1), force), rtol=1e-12)
    triangles = MESH.surface[mask[MESH.surface].all(axis=1)]
    np.testing.assert_array_equal(traction(FREE, triangles, (5.0, -1.0, 2.0)), traction(FREE, mask, (5.0, -1.0, 2.0)))


def test_uniform_pressure_has_no_resultant():
    total = 0
    low, high = MESH.bounding_box
    for axis in range(3):
        for side, sign in ((low, 1), (high, -1)):
            total = total + traction(FREE, MESH.vertices[:, axis] == side[axis], 3.0 * sign * np.eye(3)[axis])
    force, moment = resultant(FREE, total)
    assert np.abs(force).max() < 1e-15 and np.abs(moment).max() < 1e-15


def test_point_load_acts_on_its_vertex_alone():
    vertex = int(np.flatnonzero(~HELD.pinned)[7])
    f = HELD.full_displacement(point_load(HELD, vertex, (1, 2, 3)))
    np.testing.assert_array_equal(f[vertex], (1, 2, 3))
    assert np.count_nonzero(f) == 3


def test_pinned_vertices_take_their_share_of_a_load():
    carried = HELD.full_displacement(gravity(HELD)).sum(axis=0)[2]
    assert carried == pytest.approx(-9.81 * HELD.vertex_mass[~HELD.pinned].sum(), rel=1e-13)


def test_load_follows_its_amplitudes():
    shapes = np.stack([gravity(HELD), body_load(HELD, (1, 0, 0))], axis=1)
    load = Load(shapes, lambda t: np.array([np.sin(t), 2.0]))
    np.testing.assert_allclose(load(0.3), np.sin(0.3) * shapes[:, 0] + 2 * shapes[:, 1], rtol=1e-14)
    np.testing.assert_array_equal(load.at_steps(0.1, 3), [load(0.1), load(2 * 0.1), load(3 * 0.1)])


def test_projected_load_is_the_projection_of_the_load():
    load = Load(np.stack([gravity(HELD)], axis=1), lambda t: np.array([t]))
    W = np.random.default_rng(0).standard_normal((HELD.n_dofs, 5))
    np.testing.assert_allclose(load.project(W)(0.7), W.T @ load(0.7), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gravity(HELD, (0, np.nan, 0)), "acceleration holds 1 value"),
        (lambda: gravity(HELD, (0, 1)), r"acceleration has shape \(2,\); expected \(3,\)"),
        (lambda: body_load(HELD, (0, np.inf, 0)), "force_density holds 1 value"),
        (lambda: body_load(HELD, np.zeros((5, 3))), r"force_density has shape \(5, 3\); expected \(120, 3\)"),
        (lambda: point_load(HELD, 60, (0, 0, 1)), "vertex is 60; expected 0 to 59"),
        (lambda: point_load(HELD, 0, (0, 0, 1)), "vertex 0 is pinned"),
        (lambda: point_load(HELD, 59, (0, 0, np.nan)), "force holds 1 value"),
        (lambda: traction(HELD, np.zeros(60, bool), (0, 0, 1)), "acts on no triangle"),
        (lambda: traction(HELD, np.zeros(5, bool), (0, 0, 1)), r"where has shape \(5,\); expected \(60,\)"),
        (lambda: traction(HELD, MESH.surface, (0, 0, np.nan)), "traction holds 1 value"),
        (lambda: Load(np.full((4, 1), np.nan), lambda t: np.ones(1)), "load shapes holds 4 value"),
        (lambda: Load(np.ones(4), lambda t: np.ones(1)), r"load shapes has shape \(4,\)"),
        (lambda: Load(np.ones((4, 2)), lambda t: np.ones(3))(0.5), r"load amplitude has shape \(3,\); expected \(2,\)"),
        (lambda: Load(np.ones((4, 2)), lambda t: np.array([1, np.nan]))(0.5), r"load amplitude at 0\.5 s holds 1 value"),
    ],
)
def test_bad_load_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CENTRES = MESH.vertices[MESH.tetrahedra].mean(axis=1)
BACK = np.flatnonzero(CENTRES[:, 0] > 0.3)
GROUPED = TetMesh(MESH.vertices, MESH.tetrahedra, {
    "end": Group.of((), (), MESH.surface[(MESH.vertices[MESH.surface][:, :, 0] == 0.5).all(axis=1)]),
    "back": Group.of(MESH.tetrahedra[BACK], BACK),
    "corner": Group.of(np.flatnonzero((MESH.vertices == MESH.vertices.max(axis=0)).all(axis=1))),
    "wall": Group.of(np.flatnonzero(MESH.vertices[:, 0] == 0.1)),
})  # fmt: skip


@pytest.mark.parametrize(("name", "centre"), [
    ("end", (0.5, 0.15, 0.1)), ("x-max", (0.5, 0.15, 0.1)), ("z-max", (0.3, 0.15, 0.2)), ("back", (0.4, 0.15, 0.1)), ("corner", (0.5, 0.3, 0.2)),
])  # fmt: skip
def test_a_force_on_a_group_has_that_resultant_at_its_centre(name, centre):
    body = FullModel(GROUPED, StVK(1e5, 0.3), density=700.0, pinned=None)
    force, moment = resultant(body, group_force(body, name, (1.0, -2.0, 3.0)))
    np.testing.assert_allclose(force, (1, -2, 3), rtol=1e-12)
    np.testing.assert_allclose(moment, np.cross(centre, force), atol=1e-12)


def test_a_traction_on_a_group_is_that_on_its_triangles_and_on_a_side_likewise():
    body = FullModel(GROUPED, StVK(1e5, 0.3), density=700.0, pinned=None)
    expected = traction(body, MESH.vertices[:, 0] == 0.5, (10.0, 0.0, -20.0))
    for name in ("end", "x-max"):
        np.testing.assert_allclose(group_traction(body, name, (10.0, 0.0, -20.0)), expected, atol=1e-15)


@pytest.mark.parametrize("load", [group_force, group_traction])
def test_a_load_on_what_is_pinned_or_unknown_is_refused(load):
    body = FullModel(GROUPED, StVK(1e5, 0.3), density=700.0, pinned=MESH.vertices[:, 0] == 0.1)
    with pytest.raises(ValueError, match="on 'wall' does nothing: every vertex of it is pinned"):
        load(body, "wall", (0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"is 'lid'; expected one of x-min.*'back', 'corner', 'end', 'wall'"):
        load(body, "lid", (0.0, 0.0, 1.0))
