"""Falling back to the full model at a red light, and coming back by projection."""

from dataclasses import replace

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim import dynamics
from hodsim.dynamics import simulate
from hodsim.reduced import CompiledStep, Indicator, ReducedModel, simulate_with_fallback
from hodsim.reduced.fallback import handed_over, project, returned
from hodsim.subspace import modal

DT = 0.01
TRUSTED = Indicator(np.zeros((1, 3)), np.ones(3), np.array([-30.0, 0.0, 0.0]), 0.1, np.inf, 1.0)


@pytest.fixture
def model():
    full = small_beam()
    return ReducedModel(full, curved_subspace(full), indicator=TRUSTED)


def push(model: ReducedModel) -> np.ndarray:
    return 0.02 * model.subspace.basis.sum(axis=1)


@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
def test_a_model_that_is_trusted_goes_alone(model, form):
    force = push(model)
    steps = list(simulate_with_fallback(model, DT, force=force, steps=8, form=form))
    run = CompiledStep(model, form=form).rollout(model.state(), DT, np.tile(force @ model.subspace.basis, (8, 1)))
    assert not any(each.by_full for each in steps) and {each.light for each in steps} == {0}
    np.testing.assert_allclose([each.displacement for each in steps], model.subspace.decode(run.q), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose([each.time for each in steps], DT * np.arange(1, 9))


@pytest.mark.parametrize("scheme", [dynamics.backward_euler, dynamics.bdf2, dynamics.newmark])
def test_a_model_that_is_not_trusted_hands_over_after_its_first_step(model, scheme):
    model.indicator = replace(TRUSTED, reach=-1.0)  # every place is out of range
    force, full = push(model), model.full
    first, *others = simulate_with_fallback(model, DT, force=force, steps=8, scheme=scheme)
    assert first.light == 2 and not first.by_full and all(each.by_full and each.light is None for each in others)
    state = CompiledStep(model)(model, model.state(), DT, force=force @ model.subspace.basis, scheme=scheme)
    start = handed_over(model, state, DT, force=force, form="variational")
    np.testing.assert_allclose(start.v, (model.displacement(state) - model.displacement(model.state())) / DT, rtol=1e-12)
    expected = [each.q for each in simulate(full, start, DT, force=force, scheme=scheme, steps=7)]
    np.testing.assert_allclose([each.displacement for each in others], expected, rtol=1e-12, atol=1e-15)


def test_the_full_model_hands_back_once_the_motion_lies_in_the_subspace():
    full = small_beam()
    model = ReducedModel(full, modal(full, 3), indicator=replace(TRUSTED, coefficients=np.array([np.log(3), 0.0, 1.0]), scale=1.0))
    force = 5 * full.mass @ model.subspace.basis[:, 0]
    steps = list(simulate_with_fallback(model, 0.02, force=force, steps=120))
    by_full = [each.by_full for each in steps]
    first = by_full.index(True)
    back = by_full.index(False, first)
    assert steps[first - 1].light == 2
    assert (back - first) * 0.02 >= CompiledStep(model).memory
    assert any(by_full[back:])  # the light is red by the distance from rest: again and again as it swings


def test_projection_finds_the_nearest_point(model):
    q = np.array([0.3, -0.2, 0.1])
    u = model.subspace.decode(q)
    np.testing.assert_allclose(project(model, u), q, atol=1e-9)
    off = u + 0.002 * np.random.default_rng(1).normal(size=u.shape)
    nearest = project(model, off)
    J = model.subspace.basis @ model.features.motion(nearest, np.zeros(3)).jacobian
    gradient = J.T @ (model.full.mass @ (off - model.subspace.decode(nearest)))
    assert np.abs(gradient).max() < 1e-4 * np.abs(J.T @ (model.full.mass @ (off - u))).max()


def test_a_state_comes_back_as_it_went(model):
    q, v = np.array([0.1, -0.2, 0.05]), np.array([1.0, 2.0, -1.0])
    force = push(model)
    state = model.state(q, v, force=force @ model.subspace.basis)
    lifted = handed_over(model, state, DT, force=force, form="euler-lagrange")
    back = returned(model, TRUSTED, lifted, force=force)
    np.testing.assert_allclose(back.q, q, atol=1e-9)
    np.testing.assert_allclose(back.v, v, atol=1e-7)
    np.testing.assert_allclose(back.a, state.a, rtol=1e-6, atol=1e-6)
    assert returned(model, replace(TRUSTED, reach=0.01), lifted, force=force) is None
    away = replace(lifted, q=lifted.q + 0.1 * np.random.default_rng(0).normal(size=lifted.q.shape))
    assert returned(model, TRUSTED, away, force=force) is None


def test_a_model_without_an_indicator_is_refused(model):
    model.indicator = None
    with pytest.raises(ValueError, match="no error indicator"):
        next(simulate_with_fallback(model, DT, force=push(model), steps=1))
