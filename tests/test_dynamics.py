"""Time stepping, against systems with closed-form motion; the systems are a few lines, the stepper does not know them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from hodsim.dynamics import State, backward_euler, bdf2, newmark, simulate
from hodsim.solve import ConvergenceError, Dense

DECAYING_NEWMARK = partial(newmark, beta=0.36, gamma=0.7)


@dataclass
class Oscillator:
    """a + 2 zeta omega v + omega^2 q + epsilon q^3 = force."""

    omega: float = 2.0
    zeta: float = 0.0
    epsilon: float = 0.0
    rounding_force: float = 1e-15

    def residual(self, q, v, a, force):
        return a + 2 * self.zeta * self.omega * v + self.omega**2 * q + self.epsilon * q**3 - force

    def tangent(self, q, v, a, s1, s2, force):
        return Dense(np.diag(self.omega**2 + 3 * self.epsilon * q**2 + 2 * self.zeta * self.omega * s1 + s2))

    def energy(self, state):
        return float((state.v**2 + self.omega**2 * state.q**2 + self.epsilon * state.q**4 / 2).sum() / 2)

    def state(self, q, v):
        q, v = np.array([float(q)]), np.array([float(v)])
        return State(0.0, q, v, -self.residual(q, v, np.zeros(1), np.zeros(1)))


def final(system, dt, scheme, *, time=1.0, q=1.0, v=0.5):
    *_, last = simulate(system, system.state(q, v), dt, force=np.zeros(1), scheme=scheme, steps=round(time / dt), tolerance=1e-12)
    return last


def damped_motion(system, t, q=1.0, v=0.5):
    decay = system.zeta * system.omega
    frequency = system.omega * np.sqrt(1 - system.zeta**2)
    return np.exp(-decay * t) * (q * np.cos(frequency * t) + (v + decay * q) / frequency * np.sin(frequency * t))


@pytest.mark.parametrize(
    ("scheme", "order"), [(backward_euler, 1), (bdf2, 2), (newmark, 2), (DECAYING_NEWMARK, 1)],
    ids=["backward Euler", "BDF2", "Newmark", "Newmark with gamma > 1/2"],
)
@pytest.mark.parametrize("zeta", [0.0, 0.2])
def test_observed_order_of_each_scheme(scheme, order, zeta):
    system = Oscillator(zeta=zeta)
    errors = [abs(final(system, dt, scheme).q[0] - damped_motion(system, 1.0)) for dt in (1 / 200, 1 / 400, 1 / 800)]
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(observed, order, atol=0.15)


def test_average_acceleration_keeps_the_energy_of_a_linear_oscillator():
    system = Oscillator()
    start = system.state(1.0, 0.0)
    energies = [system.energy(s) for s in simulate(system, start, 0.1, force=np.zeros(1), scheme=newmark, steps=1000, tolerance=1e-14)]
    np.testing.assert_allclose(energies, system.energy(start), rtol=1e-10)  # 1000 steps of rounding


@pytest.mark.parametrize("scheme", [backward_euler, bdf2])
def test_stiffly_stable_schemes_never_gain_energy_at_any_step_size(scheme):
    system = Oscillator(omega=50.0)
    energies = [system.energy(s) for s in simulate(system, system.state(1.0, 0.0), 0.1, force=np.zeros(1), scheme=scheme, steps=50)]
    assert energies[-1] < 1e-3 * system.energy(system.state(1.0, 0.0))


def test_a_nonlinear_oscillator_agrees_with_a_much_finer_run():
    system = Oscillator(epsilon=5.0)
    reference = final(system, 1 / 6400, newmark).q[0]
    errors = [abs(final(system, dt, newmark).q[0] - reference) for dt in (1 / 100, 1 / 200)]
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_each_new_velocity_and_acceleration_satisfy_the_equation_of_motion():
    system = Oscillator(zeta=0.1, epsilon=1.0)
    for scheme in (backward_euler, bdf2, newmark):
        for state in simulate(system, system.state(1.0, 0.5), 0.02, force=np.zeros(1), scheme=scheme, steps=5, tolerance=1e-12):
            assert abs(system.residual(state.q, state.v, state.a, 0.0)) < 1e-9


def test_a_force_that_varies_acts_at_the_end_of_each_step():
    times = []
    system = Oscillator()
    states = list(simulate(system, system.state(0, 0), 0.1, force=lambda t: (times.append(t), np.zeros(1))[1], steps=30))
    np.testing.assert_array_equal(times, [0.1 * i for i in range(1, 31)])
    assert [s.time for s in states] == times


def test_states_hold_only_one_past():
    system = Oscillator()
    *_, last = simulate(system, system.state(1, 0), 0.1, force=np.zeros(1), steps=5)
    assert last.previous is not None and last.previous.previous is None


def test_a_step_that_cannot_converge_names_itself():
    class Impossible(Oscillator):
        def residual(self, q, v, a, force):
            return super().residual(q, v, a, force) if abs(q[0]) < 1.02 else q * np.nan

    with pytest.raises(ConvergenceError, match=r"step 3 at time 0\.06 s with dt = 0\.02 s.*not finite.*Try a smaller dt") as caught:
        list(simulate(Impossible(), Oscillator().state(1.0, 0.5), 0.02, force=np.zeros(1), steps=10))
    assert (caught.value.step, caught.value.dt) == (3, 0.02)
    assert len(caught.value.history) == 1


@pytest.mark.parametrize("dt", [0.0, -0.1, float("nan")])
def test_refuses_a_time_step_that_is_not_positive(dt):
    with pytest.raises(ValueError, match="dt is .*greater than 0"):
        next(simulate(Oscillator(), Oscillator().state(0, 0), dt, force=np.zeros(1)))


def test_refuses_a_load_that_is_not_finite():
    with pytest.raises(ValueError, match=r"force holds 1 value\(s\) that are not finite \(first: nan at index \[0\]\)"):
        next(simulate(Oscillator(), Oscillator().state(0, 0), 0.1, force=np.array([np.nan])))
