"""Many states at once against each alone by the reference: residuals, tangents, rollouts, failures."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cases import curved_subspace, quadratic_subspace, small_beam
from hodsim.dynamics import SCHEMES, simulate, step
from hodsim.fem import NeoHookean, Rayleigh, StableNeoHookean, StVK
from hodsim.reduced import BatchedStep, Cubature, CubicForce, ReducedModel, variational_step
from hodsim.reduced.batched import _Step
from hodsim.reduced.batched_newton import newton_batched
from hodsim.reduced.compiled import CompiledStep, history_of, scheme_table
from hodsim.reduced.kernel import CONVERGED, NO_DECREASE, NOT_FINITE, TOO_MANY
from hodsim.solve import newton
from hodsim.solve.newton import Dense
from hodsim.subspace import Subspace, modal

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]
MATERIALS = [law(youngs_modulus=1e5, poisson_ratio=0.3) for law in (StVK, NeoHookean, StableNeoHookean)]
DT = 0.01


def of_another_kind(full) -> Subspace:
    """A trunk that the compiled step does not cover."""
    curved = curved_subspace(full)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trunk = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, curved.width)).double().requires_grad_(False)
        for layer in trunk[::2]:
            nn.init.orthogonal_(layer.weight)
    return Subspace("another", 3, curved.origin, curved.basis, curved.projection, trunk, curved.encoder)


SUBSPACES = {"network": curved_subspace, "quadratic": quadratic_subspace, "linear": lambda full: modal(full, 3), "another": of_another_kind}


def reduced(subspace="network", material=MATERIALS[0], *, sampled=True) -> ReducedModel:
    full = small_beam(material=material, damping=Rayleigh(0.3, 1e-3))
    space = SUBSPACES[subspace](full)
    rng = np.random.default_rng(0)
    return ReducedModel(full, space, elasticity=Cubature(full, space, np.arange(0, 20, 3), rng.uniform(1, 3, 7)) if sampled else None)


def loads(model, count, steps, strength=1.0):
    rng = np.random.default_rng(1)
    return model.generalized_force(strength * rng.standard_normal(model.full.n_dofs)) * rng.uniform(-1, 1, (count, steps, 1))


def alone(model, forces, *, form, scheme, **options):
    """One trajectory by the reference."""
    advance = variational_step if form == "variational" else partial(step, scheme=SCHEMES[scheme])
    force = lambda time: forces[round(time / DT) - 1]  # noqa: E731
    return list(simulate(model, model.state(), DT, force=force, steps=len(forces), advance=advance, **options))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
@pytest.mark.parametrize("subspace", SUBSPACES)
@pytest.mark.parametrize("material", MATERIALS, ids=lambda law: type(law).__name__)
def test_rollouts_are_those_of_the_reference(device, form, subspace, material):
    model = reduced(subspace, material)
    forces = loads(model, 3, 6, 0.3)
    runs = BatchedStep(model, form=form, device=device).rollouts([model.state()] * 3, DT, forces, tolerance=1e-12)
    for run, force in zip(runs, forces, strict=True):
        states = alone(model, force, form=form, scheme="backward-euler", tolerance=1e-12)
        assert run.failure is None
        for name in "qva":
            expected = np.array([getattr(state, name) for state in states])
            np.testing.assert_allclose(getattr(run, name), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_that_of_the_reference(scheme):
    model = reduced(sampled=False)
    forces = loads(model, 2, 5)
    runs = BatchedStep(model, form="euler-lagrange", device="cpu").rollouts([model.state()] * 2, DT, forces, scheme=SCHEMES[scheme], tolerance=1e-12)
    for run, force in zip(runs, forces, strict=True):
        states = alone(model, force, form="euler-lagrange", scheme=scheme, tolerance=1e-12)
        np.testing.assert_allclose(run.q, [state.q for state in states], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("subspace", SUBSPACES)
def test_residual_and_tangent_are_those_of_the_reference(device, subspace):
    """To rounding; what is left is the order of sums."""
    model = reduced(subspace)
    rng = np.random.default_rng(2)
    batched = BatchedStep(model, form="euler-lagrange", device=device)
    states = [model.state(*0.3 * rng.standard_normal((2, 3))) for _ in range(4)]
    force = loads(model, 4, 1)[:, 0]
    table = torch.from_numpy(scheme_table(SCHEMES["newmark"], DT)[0]).to(device)
    past = torch.from_numpy(np.stack([history_of(state) for state in states])).to(device)
    at = _Step(batched, past, torch.from_numpy(force).to(device), DT, table, False)
    q = 0.3 * rng.standard_normal((4, 3))
    R, T = (part(torch.from_numpy(q).to(device), *at.rows).cpu().numpy() for part in (batched.residual, batched.tangent))
    for b, state in enumerate(states):
        rates = SCHEMES["newmark"](state, DT)
        v, a = rates.velocity(q[b]), rates.acceleration(q[b])
        expected = model.residual(q[b], v, a, force[b])
        np.testing.assert_allclose(R[b], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
        expected = model.tangent_matrix(q[b], v, a, rates.s1, rates.s2, force[b])
        np.testing.assert_allclose(T[b], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_many_are_each_alone_and_agree_with_the_compiled_step():
    model = reduced()
    forces, start = loads(model, 5, 8), [model.state(q) for q in 0.2 * np.random.default_rng(3).standard_normal((5, 3))]
    batched = BatchedStep(model, device="cpu")
    together = batched.rollouts(start, DT, forces, tolerance=1e-12)
    compiled = CompiledStep(model).rollouts(start, DT, forces, tolerance=1e-12)
    for b, (run, other) in enumerate(zip(together, compiled, strict=True)):
        (single,) = batched.rollouts(start[b : b + 1], DT, forces[b], tolerance=1e-12)
        np.testing.assert_allclose(run.q, single.q, rtol=1e-11, atol=1e-13)
        np.testing.assert_array_equal(run.iterations, single.iterations)
        np.testing.assert_allclose(run.q, other.q, rtol=1e-7, atol=1e-9)


def test_it_goes_on_from_where_it_was():
    model = reduced()
    forces = loads(model, 1, 6)[0]
    batched = BatchedStep(model, device="cpu")
    (whole,) = batched.rollouts([model.state()], DT, forces, tolerance=1e-12)
    states = alone(model, forces, form="variational", scheme="backward-euler", tolerance=1e-12)
    (rest,) = batched.rollouts([states[2]], DT, forces[3:], tolerance=1e-12)
    np.testing.assert_allclose(rest.q, whole.q[3:], rtol=1e-7, atol=1e-10)


def test_a_failure_ends_its_own_trajectory_alone():
    model = reduced(material=MATERIALS[1])
    forces = loads(model, 3, 5, 0.3)
    forces[1, 2] *= 1e9
    states = [model.state()] * 3
    runs = BatchedStep(model, device="cpu").rollouts(states, DT, forces, max_iterations=8)
    assert [run.failure is None for run in runs] == [True, False, True]
    assert [len(run.q) for run in runs] == [5, 2, 5]
    failure = runs[1].failure
    assert failure.step == 3 and failure.time == pytest.approx(3 * DT) and len(failure.history) > 1
    for b in (0, 2):
        (single,) = BatchedStep(model, device="cpu").rollouts(states[:1], DT, forces[b])
        np.testing.assert_allclose(runs[b].q, single.q, rtol=1e-9, atol=1e-12)


def test_what_it_does_not_take_is_refused():
    model = reduced()
    with pytest.raises(ValueError, match="form is 'midpoint'"):
        BatchedStep(model, form="midpoint")
    with pytest.raises(ValueError, match="an elasticity of type CubicForce has no batched step"):
        BatchedStep(model.with_elasticity(CubicForce(model.full, model.subspace)))
    with pytest.raises(ValueError, match="forces"):
        BatchedStep(model).rollouts([model.state()], DT, np.full((2, model.subspace.width), np.nan))
    with pytest.raises(ValueError, match="some of the states have a previous one"):
        (run,) = alone(model, loads(model, 1, 1)[0], form="variational", scheme="backward-euler")
        BatchedStep(model).rollouts([model.state(), run], DT, np.zeros((2, model.subspace.width)))


# Newton's method for many systems

SYSTEMS = {  # residual, tangent and start, of one system
    "regular": (lambda x: torch.stack([x[0] ** 3 + x[1] - 9, x[0] + x[1] ** 2 - 3]), [3.0, 2.0]),
    "overshoots": (torch.arctan, [5.0, -2.0]),
    "leaves its domain": (lambda x: torch.log(x) + 1, [3.0, 2.0]),
    "singular at the start": (lambda x: torch.stack([x[0] ** 2 - 1, x[1] - 2]), [0.0, 0.0]),
    "singular and damped": (lambda x: torch.stack([x[0] ** 2 + x[1] - 1, x[1] * x[0]]), [0.0, 0.5]),
    "without a root": (lambda x: x**2 + 1, [1.0, 0.5]),
    "solved": (lambda x: x - 1, [1.0, 1.0]),
    "not finite": (lambda x: torch.log(x), [-1.0, 1.0]),
}


@pytest.mark.parametrize("device", DEVICES)
def test_newton_for_many_goes_the_way_of_each_alone(device):
    residuals = [residual for residual, _ in SYSTEMS.values()]
    starts = torch.tensor([start for _, start in SYSTEMS.values()], dtype=torch.float64, device=device)

    def of_some(function):
        return lambda some, x: torch.stack([function(residuals[int(i)])(y) for i, y in zip(some, x, strict=True)])

    found = newton_batched(of_some(lambda f: f), of_some(torch.func.jacfwd), starts, tolerance=1e-10, rounding=1e-13, max_iterations=20)
    endings = {"converged": CONVERGED, "not finite": NOT_FINITE, "did not reach": TOO_MANY, "no decrease": NO_DECREASE}
    for i, (name, (residual, start)) in enumerate(SYSTEMS.items()):
        single = newton(
            lambda x, f=residual: f(torch.from_numpy(x)).numpy(),
            lambda x, f=residual: Dense(torch.func.jacfwd(f)(torch.from_numpy(x)).numpy()),
            np.array(start),
            tolerance=lambda first: max(1e-10 * first, 1e-13),
            max_iterations=20,
        )
        ended = int(found.ended[i])
        assert (ended == CONVERGED) == single.converged, name
        assert single.converged or ended in [code for word, code in endings.items() if word in single.reason or "singular" in single.reason], name
        assert len(found.history(i)) == len(single.history), name
        np.testing.assert_allclose(found.history(i), single.history, rtol=1e-6, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found.x[i].cpu(), single.x, rtol=1e-7, err_msg=name)
