"""The latent equation of motion, against differences, energies and the full model."""

from functools import partial

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import backward_euler, bdf2, newmark, simulate
from hodsim.fem import Load, NeoHookean, Rayleigh, StableNeoHookean, StVK, gravity
from hodsim.reduced import ReducedModel, variational_step
from hodsim.solve import newton
from hodsim.subspace import Subspace, modal

MATERIALS = [cls(youngs_modulus=1e5, poisson_ratio=0.3) for cls in (StVK, NeoHookean, StableNeoHookean)]


@pytest.fixture(params=["network", "linear"])
def reduced(request):
    full = small_beam(damping=Rayleigh(mass=0.5, stiffness=1e-3))
    return ReducedModel(full, curved_subspace(full) if request.param == "network" else modal(full, 4))


@pytest.fixture
def curved():
    return ReducedModel(small_beam(), curved_subspace(small_beam()))


def point(model, seed=0, size=0.5):
    """A position, velocity, acceleration and force of sizes that make every term of the residual matter."""
    rng = np.random.default_rng(seed)
    r = model.subspace.dim
    q, v, a = size * rng.standard_normal(r), 5 * rng.standard_normal(r), 50 * rng.standard_normal(r)
    return q, v, a, model.generalized_force(gravity(model.full))


def derivative(f, x, step=1e-5):
    """Jacobian of f by central differences."""
    return np.stack([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))], axis=-1)


def test_residual_is_the_full_residual_projected_on_the_tangent_space(reduced):
    q, v, a, force = point(reduced)
    J = derivative(reduced.subspace.decode, q)
    h = 1e-4
    curvature = (reduced.subspace.decode(q + h * v) - 2 * reduced.subspace.decode(q) + reduced.subspace.decode(q - h * v)) / h**2
    expected = J.T @ reduced.full.residual(reduced.subspace.decode(q), J @ v, J @ a + curvature, gravity(reduced.full))
    # second differences with h = 1e-4 are good to about eps / h^2 = 1e-8 of the curvature term
    np.testing.assert_allclose(reduced.residual(q, v, a, force), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("part", ["dR/dq", "dR/dv", "dR/da"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tangent_matches_central_difference(reduced, part, seed):
    q, v, a, force = point(reduced, seed)
    tangent = partial(reduced.tangent_matrix, q, v, a, force=force)
    position = tangent(0.0, 0.0)
    # R is quadratic in v and linear in a, where a central difference of any width is exact: a wide one rounds least
    exact, difference = {
        "dR/dq": lambda: (position, derivative(lambda x: reduced.residual(x, v, a, force), q)),
        "dR/dv": lambda: (tangent(1.0, 0.0) - position, derivative(lambda x: reduced.residual(q, x, a, force), v, 1.0)),
        "dR/da": lambda: (tangent(0.0, 1.0) - position, derivative(lambda x: reduced.residual(q, v, x, force), a, 1.0)),
    }[part]()
    np.testing.assert_allclose(exact, difference, atol=1e-7 * np.abs(difference).max())


@pytest.mark.parametrize("material", MATERIALS, ids=lambda m: type(m).__name__)
def test_tangent_of_a_step_matches_central_difference_for_every_material(material):
    full = small_beam(material=material)
    model = ReducedModel(full, curved_subspace(full))
    q, v, a, force = point(model, size=0.3)
    state = model.state(q, v, force=force)
    for scheme in (backward_euler, newmark):
        rates = scheme(state, 0.01)
        difference = derivative(lambda x, rates=rates: model.residual(x, rates.velocity(x), rates.acceleration(x), force), q)
        exact = model.tangent_matrix(q, rates.velocity(q), rates.acceleration(q), rates.s1, rates.s2, force)
        np.testing.assert_allclose(exact, difference, atol=1e-7 * np.abs(difference).max())


def test_without_its_third_derivative_the_tangent_is_wrong(curved):
    # the term that only a high-order differentiable decoder gives must be visible to the test above
    q, v, a, force = point(curved)
    motion = curved.features.motion(q, v)
    third = motion.jacobian.T @ curved.mass @ motion.third
    assert np.abs(third).max() > 1e-3 * np.abs(curved.tangent_matrix(q, v, a, 0.0, 0.0, force)).max()


def test_newton_converges_quadratically(curved):
    q, v, _, force = point(curved)
    state = curved.state(q, v, force=force)
    rates = backward_euler(state, 0.02)
    solved = newton(
        lambda x: curved.residual(x, rates.velocity(x), rates.acceleration(x), force),
        lambda x: curved.tangent(x, rates.velocity(x), rates.acceleration(x), rates.s1, rates.s2, force),
        q,
        tolerance=lambda first: 1e-13 * first,
    )
    history = np.array(solved.history) / solved.history[0]
    orders = [np.log(c / b) / np.log(b / a) for a, b, c in zip(history, history[1:], history[2:], strict=False) if 1e-12 < c and a < 0.1]
    assert solved.converged
    assert orders and max(orders) > 1.7


@pytest.mark.parametrize("kind", ["network", "linear"])
def test_undamped_energy_is_conserved(kind):
    full = small_beam()
    model = ReducedModel(full, curved_subspace(full) if kind == "network" else modal(full, 4))
    start = model.state(v=2.0 * np.ones(model.subspace.dim))
    drifts = []
    for dt in (2e-3, 1e-3):
        states = simulate(model, start, dt, force=np.zeros(model.subspace.width), scheme=newmark, steps=round(0.4 / dt), tolerance=1e-9)
        energies = np.array([model.energy(state) for state in states])
        drifts.append(np.abs(energies / model.energy(start) - 1).max())
    assert drifts[1] < 0.02
    assert drifts[0] / drifts[1] > 3  # second order in the step


@pytest.mark.parametrize(("scheme", "order"), [(backward_euler, 1), (bdf2, 2), (newmark, 2)], ids=["backward Euler", "BDF2", "Newmark"])
def test_observed_order_of_each_scheme_in_a_curved_subspace(curved, scheme, order):
    def final(dt, scheme):
        *_, last = simulate(
            curved, curved.state(v=np.ones(3)), dt, force=np.zeros(curved.subspace.width), scheme=scheme, steps=round(0.1 / dt), tolerance=1e-11
        )
        return last.q

    reference = final(0.1 / 1600, newmark)
    errors = [np.linalg.norm(final(0.1 / n, scheme) - reference) for n in (100, 200)]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, atol=0.25)


def test_variational_and_euler_lagrange_steps_agree_as_the_step_shrinks(curved):
    force = curved.generalized_force(gravity(curved.full))

    def final(steps, **advance):
        *_, last = simulate(curved, curved.state(v=np.ones(3)), 0.1 / steps, force=force, steps=steps, tolerance=1e-10, **advance)
        return last.q

    gaps = [np.linalg.norm(final(n) - final(n, advance=variational_step)) for n in (50, 100, 200)]
    assert gaps[0] > 1e-6  # they do differ
    np.testing.assert_allclose(np.log2(np.array(gaps[:-1]) / gaps[1:]), 1, atol=0.3)


def test_variational_step_minimises_the_incremental_potential(curved):
    force, dt = curved.generalized_force(gravity(curved.full)), 0.02
    first = variational_step(curved, curved.state(v=np.ones(3)), dt, force=force, tolerance=1e-10)
    second = variational_step(curved, first, dt, force=force, tolerance=1e-10)
    g = curved.features.value
    predicted = 2 * g(first.q) - g(first.previous.q)

    def potential(q):
        error = g(q) - predicted
        return error @ curved.mass @ error / (2 * dt**2) + curved.elasticity.energy(g(q)) - force @ g(q)

    lowest = potential(second.q)
    for direction in np.random.default_rng(0).standard_normal((10, 3)):
        assert potential(second.q + 1e-3 * direction) > lowest
        assert potential(second.q - 1e-3 * direction) > lowest


def test_a_subspace_of_full_rank_is_the_full_model():
    full = small_beam()
    everything = Subspace("all", full.n_dofs, np.zeros(full.n_dofs), np.eye(full.n_dofs), np.eye(full.n_dofs))
    model = ReducedModel(full, everything)
    for a, b in zip(
        simulate(full, full.state(), 0.01, force=gravity(full), steps=10, tolerance=1e-10),
        simulate(model, model.state(), 0.01, force=model.generalized_force(gravity(full)), steps=10, tolerance=1e-10),
        strict=True,
    ):
        np.testing.assert_allclose(model.displacement(b), a.q, atol=1e-9 * np.abs(a.q).max())
        np.testing.assert_allclose(model.energy(b), full.energy(a), rtol=1e-8)


def test_velocity_is_the_rate_of_the_displacement(curved):
    q, v, _, force = point(curved)
    state, h = curved.state(q, v, force=force), 1e-6
    rate = (curved.subspace.decode(q + h * v) - curved.subspace.decode(q - h * v)) / (2 * h)
    np.testing.assert_allclose(curved.velocity(state), rate, atol=1e-8 * np.abs(rate).max())


def test_initial_acceleration_balances_the_forces(reduced):
    q, v, _, force = point(reduced)
    state = reduced.state(q, v, force=force)
    scale = np.abs(reduced.residual(q, v, np.zeros_like(q), force)).max()
    np.testing.assert_allclose(reduced.residual(q, v, state.a, force), 0, atol=1e-12 * scale)


def test_a_load_in_time_is_projected_once(curved):
    load = Load(np.stack([gravity(curved.full), 2 * gravity(curved.full)], axis=1), lambda t: np.array([t, 1.0]))
    np.testing.assert_allclose(curved.generalized_force(load)(0.3), curved.generalized_force(load(0.3)), atol=1e-12)


def test_refuses_a_subspace_of_another_mesh():
    full = small_beam()
    other = Subspace("other", 2, np.zeros(9), np.zeros((9, 2)), np.zeros((2, 9)))
    with pytest.raises(ValueError, match=f"subspace other has 9 degrees of freedom, the full model {full.n_dofs}"):
        ReducedModel(full, other)


def test_refuses_forces_of_the_wrong_length(curved):
    with pytest.raises(ValueError, match="force has shape"):
        curved.generalized_force(np.zeros(7))


def test_a_body_at_rest_without_load_stays_there(reduced):
    # its residual is rounding from the start: no relative tolerance can be met
    for state in simulate(reduced, reduced.state(), 0.01, force=np.zeros(reduced.subspace.width), steps=5):
        assert np.abs(state.q).max() < 1e-10
