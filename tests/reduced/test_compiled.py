"""The compiled step against the reference: the same residual, tangent and trajectories; robust where Newton alone is not."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cases import curved_subspace, quadratic_subspace, small_beam
from hodsim.dynamics import State, backward_euler, bdf2, newmark, simulate, step
from hodsim.fem import FullModel, Material, NeoHookean, Rayleigh, StableNeoHookean, StVK, gravity
from hodsim.mesh import TetMesh
from hodsim.reduced import CompiledStep, Cubature, CubicForce, ReducedModel, ahead, kernel, variational_step
from hodsim.reduced.compiled import scheme_table
from hodsim.solve import ConvergenceError
from hodsim.subspace import Subspace, modal

MATERIALS = [cls(youngs_modulus=1e5, poisson_ratio=0.3) for cls in (StVK, NeoHookean, StableNeoHookean)]
SCHEMES = [backward_euler, bdf2, newmark]
DAMPINGS = [Rayleigh(), Rayleigh(mass=0.5, stiffness=1e-3)]


def model(*, kind="network", features="independent", material=MATERIALS[0], damping=DAMPINGS[0], elasticity="exact", dim=3):
    full = small_beam(material=material, damping=damping)
    subspace = {"network": curved_subspace, "quadratic": quadratic_subspace, "linear": modal}[kind](full, dim)
    made = ReducedModel(full, subspace)
    if elasticity == "cubature":
        poses = subspace.decode(0.3 * np.random.default_rng(0).standard_normal((20, subspace.dim)))
        return made.with_elasticity(Cubature.select(full, subspace, poses, elements=7))
    made = made.with_elasticity(CubicForce(full, subspace)) if elasticity == "cubic" else made
    return dependent(made) if features == "dependent" else made


def dependent(reduced):
    """The same model with features that are linear combinations of fewer: its decoder's image lies in six directions."""
    subspace, rng = reduced.subspace, np.random.default_rng(5)
    mixing = rng.standard_normal((6, subspace.width))
    basis = subspace.basis[:, :6] @ mixing
    other = replace(subspace, basis=basis, origin=-basis @ subspace.features(np.zeros(subspace.dim)))
    made = ReducedModel(reduced.full, other)
    return made.with_elasticity(CubicForce(made.full, other)) if isinstance(reduced.elasticity, CubicForce) else made


def gravitation(reduced, strength=1.0):
    return strength * reduced.generalized_force(gravity(reduced.full))


ALL = (
    [{"kind": kind, "material": material, "damping": damping} for kind in ("network", "linear") for material in MATERIALS for damping in DAMPINGS]
    + [{"kind": kind, "elasticity": elasticity} for kind in ("network", "linear", "quadratic") for elasticity in ("cubature", "cubic")]
    + [{"features": "dependent", "elasticity": elasticity, "damping": DAMPINGS[1]} for elasticity in ("exact", "cubic")]
)  # fmt: skip


def named(options):
    return "-".join(type(value).__name__ if isinstance(value, Material) else str(value) for value in options.values())


@pytest.mark.parametrize("options", ALL, ids=named)
@pytest.mark.parametrize("size", [0.1, 0.5])
def test_residual_and_tangent_are_those_of_the_reference(options, size):
    reduced = model(**options)
    compiled, r = CompiledStep(reduced, form="euler-lagrange"), reduced.subspace.dim
    plan, force, rng = compiled.plan(0.01), gravitation(reduced), np.random.default_rng(1)
    q, v0, a0, s1, s2 = size * rng.standard_normal(r), rng.standard_normal(r), 50 * rng.standard_normal(r), 3.0, 40.0
    R, T = np.empty(r), np.empty((r, r))
    kernel.evaluate(plan, kernel.Equation(kernel.EULER_LAGRANGE, s1, s2, v0, a0, plan.pull @ force), q, R, T)
    v, a = s1 * q + v0, s2 * q + a0
    expected, tangent = reduced.residual(q, v, a, force), reduced.tangent_matrix(q, v, a, s1, s2, force)
    np.testing.assert_allclose(R, expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(T, tangent, atol=1e-12 * np.abs(tangent).max())


@pytest.mark.parametrize("options", ALL, ids=named)
def test_variational_residual_is_the_gradient_of_the_incremental_potential_and_the_tangent_its_hessian(options):
    reduced, dt = model(**options), 0.02
    plan, r = CompiledStep(reduced).plan(dt), reduced.subspace.dim
    g = reduced.subspace.features
    now, before = g(0.1 * np.ones(r)), g(0.08 * np.ones(r))
    force, predicted = gravitation(reduced), 2 * now - before

    def potential(q):
        inertial, dragged = g(q) - predicted, g(q) - now
        return (
            inertial @ reduced.mass @ inertial / (2 * dt**2) + dragged @ reduced.damping @ dragged / (2 * dt)
            + reduced.elasticity.energy(g(q)) - force @ g(q)
        )  # fmt: skip

    def evaluated(q):
        R, T = np.empty(r), np.empty((r, r))
        B = plan.mixing if len(plan.mixing) else np.eye(len(now))
        c = plan.momentum @ B @ predicted + plan.pull @ force + (plan.drag @ B @ now / dt if len(plan.drag) else 0)
        kernel.evaluate(plan, kernel.Equation(kernel.VARIATIONAL, 0.0, 0.0, np.zeros(r), np.zeros(r), c), q, R, T)
        return R, T

    q, h = 0.2 * np.random.default_rng(0).standard_normal(r), 1e-5
    R, T = evaluated(q)
    gradient = np.array([(potential(q + h * e) - potential(q - h * e)) / (2 * h) for e in np.eye(r)])
    hessian = np.stack([(evaluated(q + h * e)[0] - evaluated(q - h * e)[0]) / (2 * h) for e in np.eye(r)], axis=1)
    np.testing.assert_allclose(R, gradient, atol=1e-7 * np.abs(gradient).max())
    np.testing.assert_allclose(T, hessian, atol=1e-7 * np.abs(hessian).max())
    np.testing.assert_allclose(T, T.T, atol=1e-12 * np.abs(T).max())


@pytest.mark.parametrize("options", ALL, ids=named)
@pytest.mark.parametrize("form", ["variational", *SCHEMES], ids=lambda form: getattr(form, "__name__", form))
def test_trajectories_are_those_of_the_reference(options, form):
    reduced = model(**options)
    compiled = CompiledStep(reduced, form="variational" if form == "variational" else "euler-lagrange")
    reference = variational_step if form == "variational" else partial(step, scheme=form)
    taken = compiled if form == "variational" else partial(compiled, scheme=form)
    run = partial(simulate, reduced, reduced.state(), 0.01, force=gravitation(reduced), steps=12, tolerance=1e-11)
    for fast, slow in zip(run(advance=taken), run(advance=reference), strict=True):
        assert abs(fast.iterations - slow.iterations) <= 1  # the last correction is of the size of rounding
        for name in ("q", "v", "a"):
            expected = getattr(slow, name)
            np.testing.assert_allclose(getattr(fast, name), expected, atol=1e-8 * max(1e-3, np.abs(expected).max()))


@pytest.mark.parametrize("dim", [1, 6, 7, 8, 15, 20])
@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
def test_any_latent_dimension(dim, form):
    reduced = model(kind="linear", dim=dim)
    run = partial(simulate, reduced, reduced.state(), 0.01, force=gravitation(reduced, 0.3), steps=5, tolerance=1e-11)
    fast, slow = list(run(advance=CompiledStep(reduced, form=form))), list(run(advance=variational_step))
    np.testing.assert_allclose(fast[-1].q, slow[-1].q, atol=1e-9 * np.abs(slow[-1].q).max())  # in a linear subspace the forms are one


def test_sixty_four_latent_coordinates():
    mesh = TetMesh.box((0.4, 0.1, 0.1), (6, 2, 2))
    full = FullModel(mesh, MATERIALS[0], density=1e3, pinned=mesh.vertices[:, 0] == 0)
    reduced = ReducedModel(full, modal(full, 64))
    run = partial(simulate, reduced, reduced.state(), 0.01, force=gravitation(reduced, 0.3), steps=3, tolerance=1e-11)
    fast, slow = list(run(advance=CompiledStep(reduced))), list(run(advance=variational_step))
    np.testing.assert_allclose(fast[-1].q, slow[-1].q, atol=1e-9 * np.abs(slow[-1].q).max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_is_its_table(scheme):
    rng, dt = np.random.default_rng(0), 0.03
    q, v, a, past_q, past_v = rng.standard_normal((5, 4))
    for started, past in enumerate((None, State(0.0, past_q, past_v, np.zeros(4)))):
        rates, table = scheme(State(0.0, q, v, a, past), dt), scheme_table(scheme, dt)[started]
        history = np.stack([q, v, a, past_q, past_v])
        np.testing.assert_allclose(table[0, :5] @ history, rates.v0, rtol=1e-12)
        np.testing.assert_allclose(table[1, :5] @ history, rates.a0, rtol=1e-12)
        assert (table[0, 5], table[1, 5]) == pytest.approx((rates.s1, rates.s2))


@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_rollout_is_a_simulation_and_can_be_continued(form, scheme):
    reduced = model(damping=DAMPINGS[1])
    compiled = CompiledStep(reduced, form=form)
    forces = np.linspace(0, 1, 20)[:, None] * gravitation(reduced)
    states = list(simulate(
        reduced, reduced.state(), 0.01, force=lambda t: forces[round(t / 0.01) - 1], steps=20, advance=partial(compiled, scheme=scheme)
    ))  # fmt: skip
    whole = compiled.rollout(reduced.state(), 0.01, forces, scheme=scheme)
    rest = compiled.rollout(states[7], 0.01, forces[8:], scheme=scheme)
    assert whole.failure is rest.failure is None
    np.testing.assert_array_equal(whole.q, [state.q for state in states])
    np.testing.assert_array_equal(whole.a, [state.a for state in states])
    np.testing.assert_array_equal(whole.iterations, [state.iterations for state in states])
    np.testing.assert_allclose(rest.q, whole.q[8:], rtol=1e-9)


def test_many_rollouts_at_once_are_the_single_ones():
    reduced = model(elasticity="cubature")
    compiled, rng = CompiledStep(reduced), np.random.default_rng(0)
    states = [reduced.state(0.1 * rng.standard_normal(3), rng.standard_normal(3)) for _ in range(9)]
    forces = rng.standard_normal((9, 15, 1)) * gravitation(reduced)
    for state, force, run in zip(states, forces, compiled.rollouts(states, 0.01, forces), strict=True):
        np.testing.assert_allclose(run.q, compiled.rollout(state, 0.01, force).q, rtol=1e-12)
    shared = compiled.rollouts(states, 0.01, forces[0])
    np.testing.assert_allclose(shared[3].q, compiled.rollout(states[3], 0.01, forces[0]).q, rtol=1e-12)


def test_a_failing_step_is_named_and_what_was_done_is_kept():
    reduced = model(material=MATERIALS[1])
    forces = np.concatenate([np.tile(gravitation(reduced), (3, 1)), np.tile(gravitation(reduced, 1e7), (2, 1))])
    run = CompiledStep(reduced).rollout(reduced.state(), 0.01, forces, max_iterations=3)
    assert len(run.q) == 3 and np.isfinite(run.q).all()
    assert isinstance(run.failure, ConvergenceError)
    assert (run.failure.step, run.failure.time) == (4, pytest.approx(0.04))
    assert len(run.failure.history) > 1
    with pytest.raises(ConvergenceError, match="step 7 at time 0.01 s"):
        CompiledStep(reduced)(reduced, reduced.state(), 0.01, force=forces[-1], max_iterations=3, index=7)


def crushed():
    """A linear model whose body is squeezed to where StVK has a negative stiffness, with next to no inertia."""
    full = small_beam()
    squeeze = full.restrict(np.stack([-full.mesh.vertices[:, 0], *np.zeros((2, len(full.mesh.vertices)))], axis=1))
    subspace = Subspace("squeeze", 1, np.zeros(full.n_dofs), squeeze[:, None], squeeze[None] / (squeeze @ squeeze))
    return ReducedModel(full, subspace)


@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
def test_where_the_tangent_is_indefinite_the_step_still_finds_a_minimum(form):
    reduced, dt = crushed(), 1e3
    start = State(0.0, np.array([0.55]), np.zeros(1), np.zeros(1))
    motion = reduced.features.motion(start.q, start.v)
    assert reduced.elasticity.stiffness(motion.value, motion.jacobian)[0, 0] < 0
    after = CompiledStep(reduced, form=form)(reduced, start, dt, force=np.zeros(1), max_iterations=60)
    if form == "variational":  # it goes downhill, not to the nearest point without force
        assert reduced.elasticity.energy(after.q) < reduced.elasticity.energy(start.q)
        assert reduced.elasticity.stiffness(after.q, np.eye(1))[0, 0] > 0
    assert np.abs(reduced.elasticity.force(after.q)) < 1e-4 * np.abs(reduced.elasticity.force(start.q))


@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
def test_where_the_tangent_is_singular_the_step_is_damped(form):
    reduced, dt = crushed(), 1e6
    low, high = 0.3, 0.6  # the stiffness changes its sign in between
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reduced.elasticity.stiffness(np.array([middle]), np.eye(1))[0, 0] > 0 else (low, middle)
    start = State(0.0, np.array([low]), np.zeros(1), np.zeros(1))
    after = CompiledStep(reduced, form=form)(reduced, start, dt, force=np.zeros(1), max_iterations=60)
    assert np.abs(reduced.elasticity.force(after.q)) < 1e-4 * np.abs(reduced.elasticity.force(start.q))


def test_what_has_no_compiled_step_is_refused():
    full = small_beam()

    class Odd(torch.nn.Module):
        def forward(self, q):
            return torch.sin(q)

    basis = modal(full, 2)
    odd = Subspace("odd", 2, basis.origin, basis.basis, basis.projection, Odd(), None)
    with pytest.raises(ValueError, match="a trunk of type Odd has no compiled step"):
        CompiledStep(ReducedModel(full, odd))

    class Mine(StVK):
        pass

    with pytest.raises(ValueError, match="Mine has no compiled step; expected one of StVK, NeoHookean, StableNeoHookean"):
        CompiledStep(model(kind="linear", material=Mine(youngs_modulus=1e5, poisson_ratio=0.3)))
    with pytest.raises(ValueError, match="form is 'newton'; expected one of variational, euler-lagrange"):
        CompiledStep(model(), form="newton")


@pytest.mark.parametrize("options", ALL[::4], ids=named)
def test_what_is_compiled_ahead_serves_every_model(options):
    ahead.compile_step()
    reduced = model(**options)
    compiled = CompiledStep(reduced)
    start = reduced.state()
    assert compiled.is_compiled(start, 0.01)
    assert compiled.is_compiled(compiled(reduced, start, 0.01, force=gravitation(reduced)), 0.01)
    size = reduced.subspace.width
    assert compiled.pulled(np.ones((3, size)), np.zeros(3), np.ones(3), 10.0).is_compiled(start, 0.01)


def test_what_is_not_compiled_is_told_from_what_is():
    compiled = CompiledStep(model())
    foreign = (*compiled._arguments([model().state()], 0.01, np.zeros((1, 1, 11)), backward_euler, 1e-5, 1)[:-1], "no array")
    assert not kernel.is_compiled(kernel.rollouts, foreign)


@pytest.mark.parametrize("kind", ["network", "linear"])
@pytest.mark.parametrize("form, advance", [("variational", variational_step), ("euler-lagrange", step)])
def test_another_damping_is_that_of_the_reference(kind, form, advance):
    before, damping = model(kind=kind), Rayleigh(mass=2.0, stiffness=5e-3)
    built, changed = model(kind=kind, damping=damping), before.with_damping(damping)
    np.testing.assert_allclose(changed.damping, built.damping, rtol=1e-14, atol=0)
    assert changed.full.damping == damping and not before.damping.any()
    compiled = CompiledStep(before, form=form)
    compiled(before, before.state(), 0.01, force=gravitation(before))  # a plan of the old damping is there
    options = {"force": gravitation(built), "steps": 5, "tolerance": 1e-12}
    *_, expected = simulate(built, built.state(), 0.01, advance=advance, **options)
    *_, found = simulate(changed, changed.state(), 0.01, advance=compiled.damped(changed.damping), **options)
    np.testing.assert_allclose(found.q, expected.q, rtol=1e-8, atol=1e-8 * np.abs(expected.q).max())
