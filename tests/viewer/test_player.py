"""The player without a window: time, pause, loads, pulls, poses and failure."""

from functools import partial

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import bdf2, newmark, simulate, step
from hodsim.fem import Rayleigh
from hodsim.reduced import Compilation, ReducedModel, variational_step
from hodsim.snapshots import bending_loads
from hodsim.solve import ConvergenceError
from hodsim.viewer import Player
from hodsim.viewer import player as player_module

DT = 0.01


def make(*, full_too: bool = False, **options) -> Player:
    full = small_beam()
    models = {"curved": ReducedModel(full, curved_subspace(full))}
    if full_too:
        models["full"] = full
    return Player(models, bending_loads(full, reach=0.2, twist=0.2), **{"dt": DT, **options})


@pytest.fixture
def player() -> Player:
    return make()


def test_steps_follow_the_clock_whatever_the_frame_rate(player):
    taken = [player.advance(elapsed) for elapsed in (0.004, 0.004, 0.004, 0.033, 0.056)]
    assert taken == [0, 0, 1, 3, 6]
    assert player.time == pytest.approx(0.101 - 0.001)


def test_time_is_neither_lost_nor_won_over_many_frames():
    player = make()
    frames = np.random.default_rng(0).uniform(0.001, 0.03, 400)
    steps = sum(player.advance(elapsed, patient=True) for elapsed in frames)
    assert steps == int(frames.sum() / DT + 1e-6)


@pytest.mark.parametrize(
    "scheme, advance",
    [
        ("variational", variational_step),
        ("backward Euler", step),
        ("BDF2", partial(step, scheme=bdf2)),
        ("Newmark", partial(step, scheme=newmark)),
    ],
)
def test_the_motion_is_that_of_simulate(scheme, advance):
    player = make(scheme=scheme)
    player.amplitudes["tip"][:] = (0, 0.1, -0.5)
    for _ in range(4):
        player.advance(0.025)
    (body,) = player.bodies
    *_, last = simulate(body.model, body.model.state(), DT, force=body.force(player.amplitudes), steps=10, advance=advance)
    np.testing.assert_allclose(body.state.q, last.q, atol=1e-12)


def test_a_slow_machine_falls_behind_instead_of_stalling(player, monkeypatch):
    now = [0.0]

    def slow():  # every look at the clock costs 30 ms: few steps fit into a frame
        now[0] += 0.03
        return now[0]

    monkeypatch.setattr(player_module.time, "perf_counter", slow)
    assert player.advance(10.0) < 10
    assert player.advance(0.0) == 0  # nothing is owed any more


def test_a_frame_that_hung_is_not_made_up_for(player):
    assert player.advance(10.0) == round(player_module.LONGEST_FRAME / DT)


def test_a_scheme_of_two_steps_starts_anew_with_another_time_step():
    player = make(scheme="BDF2")
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    player.advance(0.05)
    (body,) = player.bodies
    before, player.dt = body.state, 0.004
    player.step()
    expected = step(body.model, before, 0.004, force=body.force(player.amplitudes))  # backward Euler, as every first step
    np.testing.assert_allclose(body.state.q, expected.q, atol=1e-12)


def test_paused_time_does_not_pass(player):
    player.toggle()
    assert player.advance(1.0) == 0
    player.single_step()
    assert player.time == pytest.approx(DT)
    player.toggle()
    assert player.advance(0.02) == 2


def test_reset_returns_to_rest_and_keeps_the_loads(player):
    rest = player.bodies[0].positions
    player.amplitudes["body"][:] = (0, 0, -1)
    player.advance(0.05)
    assert np.abs(player.bodies[0].positions - rest).max() > 0
    player.reset()
    assert player.time == 0
    np.testing.assert_array_equal(player.bodies[0].positions, rest)
    np.testing.assert_array_equal(player.amplitudes["body"], (0, 0, -1))


def test_positions_are_the_surface_of_the_decoded_body():
    player = make(full_too=True)
    player.amplitudes["tip"][:] = (0, 0, -1)
    player.advance(0.1)
    for body in player.bodies:
        whole = body.full.mesh.vertices + body.full.full_displacement(body.decode(body.state.q))
        np.testing.assert_allclose(body.positions[body.triangles], whole[body.full.mesh.surface], atol=1e-14)


def test_the_full_model_moves_beside_the_reduced_one_under_the_same_load():
    player = make(full_too=True)
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    player.advance(0.1)
    reduced, full = player.bodies
    assert reduced.state.time == full.state.time == player.time
    tip = full.place(player.tip) - full.full.mesh.vertices[player.tip]
    assert tip[2] < -0.001
    assert player.error(full) == 0
    gap = reduced.place(player.tip) - full.place(player.tip)
    assert player.error(reduced) == pytest.approx(np.linalg.norm(gap) / 0.4, rel=0.05)  # 0.4 m long; the tip is a corner


def test_a_pulled_tip_comes_to_rest_where_spring_and_body_balance():
    player = make(full_too=True)
    start = player.full.mesh.vertices[player.tip]
    small = np.array([0.0, 0.0, 1e-4]) * player.length
    player.pulls[player.tip] = start + small
    player.dt = 0.05
    for _ in range(200):
        player.step()
    body = player.bodies[1]
    moved = body.place(player.tip) - start
    rows, _ = body.rows([player.tip])
    compliance = rows @ np.linalg.solve(player.full.rest_stiffness.toarray(), rows.T)  # linear statics: x = C k (t - x)
    expected = np.linalg.solve(np.eye(3) + player.grip * compliance, player.grip * compliance @ small)
    np.testing.assert_allclose(moved, expected, rtol=2e-3, atol=2e-3 * np.linalg.norm(expected))


def test_a_held_pose_stops_the_motion_of_all_and_releases_it_from_rest():
    player = make(full_too=True)
    player.pose = np.array([0.3, -0.2, 0.1])
    player.advance(0.03)
    lead, full = player.bodies
    np.testing.assert_array_equal(lead.state.q, player.pose)
    np.testing.assert_allclose(full.state.q, lead.decode(player.pose))
    assert player.time == pytest.approx(0.03)
    assert not lead.state.v.any()
    player.pose = None
    player.advance(0.02)
    assert lead.state.v.any() and full.state.v.any()


def test_a_step_that_fails_pauses_with_its_reason_and_can_be_reset(player):
    player.advance(0.03)
    good = player.bodies[0].state
    player.amplitudes["tip"][:] = np.nan
    player.advance(0.03)
    assert player.paused
    assert player.trouble.startswith("curved: ") and "not finite" in player.trouble
    assert player.bodies[0].state is good
    player.toggle()
    player.single_step()
    assert player.paused and player.bodies[0].state is good  # only a reset helps
    player.amplitudes["tip"][:] = 0
    player.start_over()
    assert not player.paused and player.trouble is None
    assert player.advance(0.02) == 2


def test_one_body_that_fails_stops_all_at_the_same_time():
    player = make(full_too=True)
    player.advance(0.02)
    player.bodies[1]._shapes["tip"] = np.full_like(player.bodies[1]._shapes["tip"], np.nan)
    player.advance(0.02)
    assert player.trouble.startswith("full: ")
    assert [body.state.time for body in player.bodies] == [player.time] * 2


def test_the_full_model_takes_shorter_steps_where_one_fails():
    full = small_beam()
    v = -160 * (full.mesh.vertices[~full.pinned] - [0.2, 0.05, 0.05]).ravel()  # imploding at 30 m/s: too much for steps of DT and of DT/2
    state = full.state(np.zeros(full.n_dofs), v)
    with pytest.raises(ConvergenceError):
        step(full, state, DT, force=0 * v)
    player = Player({"full": full}, bending_loads(full), dt=DT, scheme="backward Euler")
    player.bodies[0].state = state
    assert player.step() and player.trouble is None and player.time == pytest.approx(DT)
    expected = state
    for dt in (DT / 4, DT / 4, DT / 2):  # the second half is calm enough
        expected = step(full, expected, dt, force=0 * v)
    np.testing.assert_allclose(player.bodies[0].state.q, expected.q, rtol=1e-12)


@pytest.mark.parametrize("options, message", [({"dt": 0.0}, "dt is"), ({"dt": float("nan")}, "dt is"), ({"scheme": "Euler"}, "scheme is")])
def test_refuses_settings_that_cannot_be_stepped(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_warming_up_leaves_no_trace():
    full = small_beam()
    player = Player({"full model": full, "curved": ReducedModel(full, curved_subspace(full))}, bending_loads(full), dt=0.01)
    before = [body.state for body in player.bodies]
    player.warm_up()
    assert [body.state for body in player.bodies] == before
    assert player.time == 0 and player.recording.steps == 0 and not any(body.milliseconds for body in player.bodies)


@pytest.mark.parametrize("scheme", ["variational", "Newmark"])
def test_another_damping_holds_from_the_next_step_on(scheme):
    player, damping = make(full_too=True, scheme=scheme), Rayleigh(mass=3.0, stiffness=0.02)
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    player.advance(0.05)
    states = [body.state for body in player.bodies]
    player.damping = damping
    player.step()
    for body, before in zip(player.bodies, states, strict=True):
        assert body.full.damping == damping
        fresh = make(full_too=True, scheme=scheme).bodies[player.bodies.index(body)]
        fresh.model, fresh.state = fresh.model.with_damping(damping), before
        expected = fresh.after(DT, loads=player.amplitudes, pulls={}, grip=player.grip, scheme=scheme, index=1)
        np.testing.assert_allclose(body.state.q, expected.q, rtol=1e-12, atol=1e-14)


def test_damping_takes_the_energy_out():
    energies = []
    for damping in (Rayleigh(), Rayleigh(mass=5.0), Rayleigh(stiffness=0.05)):
        player = make(scheme="Newmark")  # which takes nothing out by itself
        player.damping = damping
        player.amplitudes["tip"][:] = (0, 0, -0.5)
        player.advance(0.2, patient=True)
        player.let_go()
        player.advance(1.0, patient=True)
        energies.append(player.bodies[0].energy)
    assert max(energies[1:]) < 0.1 * energies[0]


class StandIn:
    """An indicator that estimates the displacement of the tip, and loses trust with it."""

    def estimate(self, state):
        return float(np.linalg.norm(state.q))

    def level(self, state):
        return int(np.digitize(self.estimate(state), [0.01, 0.1]))


def test_a_model_is_trusted_as_its_indicator_says_and_one_without_says_nothing():
    player = make(full_too=True)
    lead, full = player.bodies
    assert lead.trust is None and full.trust is None
    lead.model.indicator = StandIn()
    assert lead.trust == (0, 0.0)
    player.amplitudes["tip"][:] = (0, 0, -1)
    levels = []
    for _ in range(20):
        player.step()
        level, estimate = lead.trust
        levels.append(level)
        assert estimate == np.linalg.norm(lead.state.q)
    assert levels == sorted(levels) and levels[-1] == 2
    player.damping = Rayleigh(mass=1.0)  # another model, the same indicator
    player.step()
    assert lead.trust is not None
    player.pose = lead.state.q  # no step, and so nothing that tells of it
    player.step()
    assert lead.trust is None
    player.reset()
    assert lead.trust is not None


def test_a_step_of_the_reference_says_nothing_of_trust():
    player = make()
    player.bodies[0].model.indicator = StandIn()
    player.compilation = Pending("StVK")
    player.step()
    assert player.bodies[0].trust is None


class Pending:
    """A compilation that is done when told to."""

    done, stopped, seconds = False, False, 0.0

    def __init__(self, material):
        self.material = material

    def stop(self):
        self.stopped = True


def test_the_reference_steps_until_the_step_is_compiled(monkeypatch):
    expected = make(full_too=True)
    player = make(full_too=True)
    monkeypatch.setattr(player_module, "Compilation", Pending)
    monkeypatch.setattr(Player, "is_compiled", False)
    player.warm_up(wait=False)
    for each in (player, expected):
        each.amplitudes["tip"][:] = (0, 0, -0.5)
    used = []
    after = player.bodies[0].after
    player.bodies[0].after = lambda *arguments, compiled, **rest: used.append(compiled) or after(*arguments, compiled=compiled, **rest)
    player.advance(0.05, patient=True)
    player.compilation.done = True
    player.advance(0.02, patient=True)  # it failed: nothing is compiled yet
    monkeypatch.setattr(Player, "is_compiled", True)
    player.advance(0.05, patient=True)
    assert player.compilation is None and used == 7 * [False] + 5 * [True]
    expected.advance(0.12, patient=True)
    np.testing.assert_allclose(player.bodies[0].state.q, expected.bodies[0].state.q, rtol=1e-3)  # both solve to a tolerance of 1e-5


def test_closing_ends_the_compilation(player, monkeypatch):
    player.close()  # none: nothing to end
    player.compilation = Pending("StVK")
    player.close()
    assert player.compilation.stopped


def test_another_process_compiles_the_step():
    compilation = Compilation("StVK")
    assert compilation._process.wait(timeout=280) == 0 and compilation.done
    assert make().is_compiled


def test_a_compilation_that_is_stopped_leaves_no_process():
    compilation = Compilation("StVK")
    assert not compilation.done
    compilation.stop()
    assert compilation.done
