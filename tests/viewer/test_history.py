"""What the plots and the dial are made of, without a window."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.viewer import Player
from hodsim.viewer.dial import RADIUS, turned
from hodsim.viewer.history import SAMPLES, SECONDS, History
from hodsim.viewer.plots import Plots, rounded_up


@pytest.fixture
def player() -> Player:
    full = small_beam()
    models = {"curved": ReducedModel(full, curved_subspace(full)), "full": full}
    player = Player(models, bending_loads(full, reach=0.2, twist=0.2), dt=0.01)
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    return player


def test_every_body_has_its_energy_and_its_error(player):
    history = History(player)
    for _ in range(20):
        player.step()
        history.note()
    assert history.times[-1] == pytest.approx(player.time, abs=SECONDS / SAMPLES)
    player.advance(SECONDS / SAMPLES, patient=True)
    history.note()
    assert history.times[-1] == player.time
    np.testing.assert_array_equal(history.energies[-1], [body.energy for body in player.bodies])
    np.testing.assert_array_equal(history.errors[-1], [player.error(player.bodies[0]), 0.0])
    assert (history.energies[-1] > 0).all() and history.errors[-1, 0] > 0


def test_it_holds_the_last_seconds_and_no_more(player):
    history = History(player)
    player.dt = 0.05
    for _ in range(round(1.5 * SECONDS / player.dt)):
        player.step()
        history.note()
    assert np.ptp(history.times) >= SECONDS - player.dt
    assert len(history.times) <= SAMPLES
    assert (np.diff(history.times) > 0).all()


def test_a_reset_begins_anew(player):
    history = History(player)
    player.advance(0.2, patient=True)
    history.note()
    player.reset()
    history.note()
    np.testing.assert_array_equal(history.times, [0.0])


def test_the_top_of_an_axis_is_a_round_number_above_the_value():
    values = 10.0 ** np.random.default_rng(0).uniform(-6, 6, 200)
    tops = np.array([rounded_up(value) for value in values])
    assert (tops > values).all() and (tops <= 2.5 * values).all()  # 1, 2, 5, 10


def test_an_axis_comes_down_with_what_it_shows_but_not_to_rounding(player):
    plots = Plots(player, History(player))
    tops = [plots._top("energy", np.array([[value, np.nan]])) for value in (0.0, 90.0, 10.0, 1e-12)]
    assert tops == [1.0, 100.0, 20.0, 2.0]


def test_a_dial_pulls_to_where_its_knob_is_on_the_screen():
    axes = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # seen along x: y is right, z is up
    np.testing.assert_allclose(turned(np.array([0.0, RADIUS / 2]), axes, 1.0), [0, 0, -0.5])  # half way down
    np.testing.assert_allclose(turned(np.array([9 * RADIUS, 0.0]), axes, 0.8), [0, 0.8, 0])  # beyond its rim


def test_gravity_is_the_load_that_is_a_uniform_acceleration(player):
    name, unit = player.gravity
    assert name == "body"
    weight = bending_loads(player.full, reach=0.2, twist=0.2)["body"][:, 2]
    total = player.full.full_displacement(weight)[:, 2].sum()  # [N] on the free vertices
    assert unit == pytest.approx(total / player.full.vertex_mass[~player.full.pinned].sum())
    assert Player({"full": player.full}, {}, dt=0.01).gravity is None
