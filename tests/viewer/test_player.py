"""The player without a window: time, pause, loads and failure."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import simulate
from hodsim.reduced import ReducedModel, variational_step
from hodsim.snapshots import bending_loads
from hodsim.viewer import player as player_module
from hodsim.viewer.player import Player

DT = 0.01


@pytest.fixture
def player():
    full = small_beam()
    return Player(ReducedModel(full, curved_subspace(full)), bending_loads(full, reach=0.2, twist=0.2), dt=DT)


def test_steps_follow_the_clock_whatever_the_frame_rate(player):
    taken = [player.advance(elapsed) for elapsed in (0.004, 0.004, 0.004, 0.033, 0.056)]
    assert taken == [0, 0, 1, 3, 6]
    assert player.state.time == pytest.approx(0.1)


def test_the_motion_is_that_of_simulate(player):
    player.amplitudes["tip"][:] = (0, 0.1, -0.5)
    for _ in range(4):
        player.advance(0.025)
    *_, last = simulate(player.model, player.model.state(), DT, force=player.force, steps=10, advance=variational_step)
    np.testing.assert_allclose(player.state.q, last.q, atol=1e-12)


def test_a_slow_machine_falls_behind_instead_of_stalling(player, monkeypatch):
    now = [0.0]

    def slow():  # every look at the clock costs 30 ms: three steps are all that fit into a frame
        now[0] += 0.03
        return now[0]

    monkeypatch.setattr(player_module.time, "perf_counter", slow)
    assert player.advance(10.0) < 10
    assert player.advance(0.0) == 0  # nothing is owed any more


def test_paused_time_does_not_pass(player):
    player.paused = True
    assert player.advance(1.0) == 0
    assert player.step()
    assert player.state.time == pytest.approx(DT)


def test_reset_returns_to_rest_and_keeps_the_loads(player):
    player.amplitudes["body"][:] = (0, 0, -1)
    player.advance(0.05)
    assert np.abs(player.positions - player._rest).max() > 0
    player.reset()
    assert player.state.time == 0
    np.testing.assert_allclose(player.positions, player._rest, atol=1e-15)
    np.testing.assert_array_equal(player.amplitudes["body"], (0, 0, -1))


def test_positions_are_the_surface_of_the_decoded_body(player):
    player.amplitudes["tip"][:] = (0, 0, -1)
    player.advance(0.1)
    full = player.model.full
    whole = full.mesh.vertices + full.full_displacement(player.model.displacement(player.state))
    np.testing.assert_allclose(player.positions[player.surface], whole[full.mesh.surface], atol=1e-14)


def test_a_step_that_fails_pauses_with_its_reason_and_can_be_reset(player):
    player.advance(0.03)
    good = player.state
    player.amplitudes["tip"][:] = np.nan
    player.advance(0.03)
    assert player.paused
    assert "not finite" in player.trouble
    assert player.state is good
    player.amplitudes["tip"][:] = 0
    player.reset()
    assert not player.paused and player.trouble is None
    assert player.advance(0.02) == 2


@pytest.mark.parametrize("dt", [0.0, float("nan")])
def test_refuses_a_time_step_that_is_not_positive(player, dt):
    with pytest.raises(ValueError, match="dt is"):
        Player(player.model, {}, dt=dt)
