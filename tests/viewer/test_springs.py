"""Springs on the full and a curved reduced model, and the hand that pulls by them."""

from functools import partial

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import step
from hodsim.reduced import ReducedModel, variational_step
from hodsim.viewer.body import Body
from hodsim.viewer.hand import Hand
from hodsim.viewer.player import STRETCH, Player
from hodsim.viewer.recording import SCHEMES, VARIATIONAL
from hodsim.viewer.springs import Springs, SprungElasticity, SprungFullModel

STIFFNESS = 300.0


@pytest.fixture(params=["full", "curved"])
def body(request) -> Body:
    full = small_beam()
    return Body(request.param, full if request.param == "full" else ReducedModel(full, curved_subspace(full)), {})


def sprung(model, springs: Springs):
    if isinstance(model, ReducedModel):
        return model.with_elasticity(SprungElasticity(model.elasticity, springs))
    return SprungFullModel(model, springs)


@pytest.fixture
def motion(body):
    """q, v, a and a force in the model's coordinates."""
    generator = np.random.default_rng(0)
    scale = 0.002 if body.name == "full" else 0.3
    q, v, a = (scale * generator.standard_normal(body.dim) for _ in range(3))
    return q, v, a, generator.standard_normal(len(body.force({})))


@pytest.fixture
def springs(body) -> Springs:
    vertices = np.flatnonzero(~body.full.pinned)[[3, -1]]
    return Springs(*body.rows(list(vertices)), np.array([0.1, 0.2, -0.1, 0.5, 0.0, 0.3]), STIFFNESS)


def test_the_force_of_a_sprung_elasticity_is_the_gradient_of_its_energy(body, motion, springs):
    if body.name == "full":
        pytest.skip("a full model's springs are not part of its elasticity")
    elasticity = SprungElasticity(body.model.elasticity, springs)
    g, direction, step = body._features(motion[0]), np.random.default_rng(2).standard_normal(len(body.force({}))) * 1e-2, 1e-5
    difference = (elasticity.energy(g + step * direction) - elasticity.energy(g - step * direction)) / (2 * step)
    assert elasticity.force(g) @ direction == pytest.approx(difference, rel=1e-6)


def test_rows_give_the_places_of_the_decoded_field(body, motion):
    q = motion[0]
    rows, rest = body.rows([5, 9])
    whole = body.full.mesh.vertices + body.full.full_displacement(body.decode(q))
    np.testing.assert_allclose(rest + rows @ body._features(q), whole[[5, 9]].ravel(), atol=1e-15)


def test_what_springs_add_to_the_residual_is_the_gradient_of_their_energy(body, motion, springs):
    q, v, a, force = motion
    step = 1e-6
    difference = (springs.energy(body._features(q + step * v)) - springs.energy(body._features(q - step * v))) / (2 * step)
    added = sprung(body.model, springs).residual(q, v, a, force) - body.model.residual(q, v, a, force)
    assert added @ v == pytest.approx(difference, rel=1e-7)


def test_tangent_matches_central_difference_of_the_residual(body, motion, springs):
    q, v, a, force = motion
    model, s1, s2, step = sprung(body.model, springs), 100.0, 1e4, 1e-6
    direction = np.random.default_rng(1).standard_normal(body.dim) * np.linalg.norm(q)

    def residual(h):
        return model.residual(q + h * direction, v + h * s1 * direction, a + h * s2 * direction, force)

    difference = (residual(step) - residual(-step)) / (2 * step)
    found = model.tangent(q, v, a, s1, s2, force).solve(difference)
    np.testing.assert_allclose(found, direction, rtol=1e-5, atol=1e-6 * abs(direction).max())


def test_a_model_does_not_keep_the_springs_that_were_on_it(body, motion, springs):
    before = body.model.residual(*motion)
    sprung(body.model, springs).residual(*motion)
    np.testing.assert_array_equal(body.model.residual(*motion), before)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "while it is being compiled"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_pulled_body_steps_as_the_reference_does(body, springs, scheme, compiled):
    vertices = np.flatnonzero(~body.full.pinned)[[3, -1]]
    pulls = dict(zip(vertices.tolist(), springs.targets.reshape(2, 3), strict=True))
    advance = variational_step if scheme == VARIATIONAL and body.name == "curved" else partial(step, scheme=SCHEMES[scheme])
    reference, model = body.state, sprung(body.model, springs)
    for index in range(1, 9):
        body.state = body.after(0.01, loads={}, pulls=pulls, grip=STIFFNESS, scheme=scheme, index=index, compiled=compiled)
        reference = advance(model, reference, 0.01, force=body.force({}))
    assert np.abs(body.decode(body.state.q)).max() > 0.02
    np.testing.assert_allclose(body.state.q, reference.q, atol=1e-4 * np.abs(reference.q).max())  # both solve to a tolerance of 1e-5


@pytest.fixture
def player() -> Player:
    full = small_beam()
    return Player({"curved": ReducedModel(full, curved_subspace(full))}, {}, dt=0.01)


@pytest.fixture
def hand(player) -> Hand:
    """A hand that holds the tip, seen along y."""
    hand = Hand(player)
    hand.seize(player.bodies[0], player.full.mesh.vertices[player.tip] + 0.01, np.array([0.0, 1.0, 0.0]))
    return hand


def test_the_hand_takes_the_nearest_vertex_that_is_free(player, hand):
    assert hand.vertex == player.tip
    pinned = np.flatnonzero(player.full.pinned)[0]
    hand.seize(player.bodies[0], player.full.mesh.vertices[pinned], np.array([0.0, 1.0, 0.0]))
    assert not player.full.pinned[hand.vertex]


def test_the_hand_pulls_to_where_the_pointer_meets_the_plane_that_faces_the_viewer(player, hand):
    tip = player.full.mesh.vertices[player.tip]
    eye, aim = tip + np.array([0.0, -2.0, 0.0]), tip + np.array([0.01, 0.0, 0.02])
    hand.drag(eye, (aim - eye) / np.linalg.norm(aim - eye))
    np.testing.assert_allclose(player.pulls[player.tip], aim, atol=1e-15)
    hand.drag(eye, np.array([1.0, 0.0, 0.0]))  # along the plane: nothing to aim at
    np.testing.assert_allclose(player.pulls[player.tip], aim, atol=1e-15)


def test_the_hand_reaches_no_farther_than_it_is_strong(player, hand):
    hand.push(np.array([0.0, 0.0, -3.0]))
    pull = player.pulls[player.tip] - player.full.mesh.vertices[player.tip]
    np.testing.assert_allclose(pull, [0, 0, -STRETCH * player.length], atol=1e-15)


def test_the_body_bends_towards_the_hand_and_swings_when_released(player, hand):
    (body,) = player.bodies
    for _ in range(20):
        hand.push(np.array([0.0, 0.0, 1.0]))
        player.step()
    start = player.full.mesh.vertices[player.tip, 2]
    assert body.place(player.tip)[2] - start > 0.1 * (player.pulls[player.tip][2] - start)  # as far as this small subspace lets it
    hand.release()
    assert not player.pulls
    player.step()
    assert body.state.v.any()


def test_a_released_vertex_can_stay_pinned(player, hand):
    hand.release(keep=True)
    assert list(player.pulls) == [player.tip] and hand.vertex is None
    player.let_go()
    assert not player.pulls
