"""Fields that colour a body, against what they are by hand."""

import numpy as np
import pytest

from cases import small_beam
from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.reduced import Cubature, ReducedModel
from hodsim.subspace import modal
from hodsim.viewer import Player
from hodsim.viewer.colour import FIELDS


@pytest.fixture
def stretched() -> Player:
    """A box stretched evenly along x by 1 %, so that its stress is one everywhere."""
    mesh = TetMesh.box((1.0, 0.5, 0.5), (2, 1, 1))
    full = FullModel(mesh, StVK(youngs_modulus=1e6, poisson_ratio=0.3), density=1e3, pinned=mesh.vertices[:, 0] == 0)
    player = Player({"full": full}, {}, dt=0.01)
    field = np.zeros(mesh.vertices.shape)
    field[:, 0] = 0.01 * mesh.vertices[:, 0]
    player.bodies[0].state = full.state(full.restrict(field))
    return player


def test_displacement_is_the_distance_from_rest(stretched):
    (body,) = stretched.bodies
    np.testing.assert_allclose(FIELDS["displacement"].values(stretched, body), 0.01 * body.full.mesh.vertices[body.vertices, 0], atol=1e-15)


def test_von_mises_stress_of_an_even_stretch(stretched):
    strain = 0.01 + 0.01**2 / 2  # Green
    mu, lam = 1e6 / 2.6, 1e6 * 0.3 / (1.3 * 0.4)
    along, across = (2 * mu + lam) * strain * 1.01, lam * strain / 1.01  # sigma = F S F^T / det F
    np.testing.assert_allclose(FIELDS["von Mises stress"].values(stretched, stretched.bodies[0]), along - across, rtol=1e-12)


def test_error_is_the_distance_from_the_full_model(stretched):
    (full,) = stretched.bodies
    reduced = Player({"full": full.full, "modal": ReducedModel(full.full, modal(full.full, 2))}, {}, dt=0.01)
    reduced.bodies[0].state = full.state
    np.testing.assert_allclose(
        FIELDS["error"].values(reduced, reduced.bodies[1]), FIELDS["displacement"].values(stretched, full), atol=1e-15
    )
    assert not FIELDS["error"].values(reduced, reduced.bodies[0]).any()


def test_cubature_weights_are_those_of_the_chosen_elements_around_a_vertex(stretched):
    full = stretched.full
    chosen = np.array([0, 3])
    subspace = modal(full, 2)
    model = ReducedModel(full, subspace, elasticity=Cubature(full, subspace, chosen, np.array([2.0, 1.0])))
    values = FIELDS["cubature weights"].values(stretched, Player({"cubature": model}, {}, dt=0.01).bodies[0])
    around = sum(weight * np.isin(np.arange(len(full.mesh.vertices)), full.mesh.tetrahedra[e]) for e, weight in zip(chosen, (2.0, 1.0), strict=True))
    np.testing.assert_allclose(values, around[stretched.bodies[0].vertices] / around.max())
    assert 0 < (values > 0).sum() < len(values)
    assert not FIELDS["cubature weights"].values(stretched, stretched.bodies[0]).any()


@pytest.mark.parametrize("name", ["displacement", "von Mises stress"])
def test_scales_are_of_the_size_of_what_they_scale(name):
    player = Player({"full": small_beam()}, {}, dt=0.01)
    (body,) = player.bodies
    player.pulls[player.tip] = player.full.mesh.vertices[player.tip] + [0.0, 0.0, 0.2 * player.length]
    for _ in range(30):
        player.step()
    share = FIELDS[name].values(player, body).max() / FIELDS[name].scale(player)
    assert 0.05 < share < 3
