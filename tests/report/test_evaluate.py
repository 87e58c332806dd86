"""Evaluation runs against models whose errors are known: the full model in other coordinates, and models made to fail."""

from dataclasses import replace

import numpy as np
import pytest

from cases import small_beam
from hodsim.dynamics import simulate, step
from hodsim.reduced import ReducedModel, variational_step
from hodsim.report import Contender, evaluate
from hodsim.snapshots import LoadCase, Periodic, bending_loads
from hodsim.solve import ConvergenceError
from hodsim.subspace import modal
from hodsim.subspace.subspace import Subspace

DT, STEPS = 0.01, 8
FULL = small_beam()
CASES = [
    LoadCase(f"test-{i:04d}", "test", ((shape, Periodic(amplitude, 2.0, 0.7)),))
    for i, (shape, amplitude) in enumerate([("tip", (0.1, 0.2, 0.4)), ("body", (0.0, -0.3, 0.3)), ("twist", (0.5,))])
]


@pytest.fixture(scope="module")
def shapes():
    return bending_loads(FULL)


def everything() -> Subspace:
    """All of the full model's space, in coordinates turned by an orthogonal matrix."""
    rotation, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((FULL.n_dofs, FULL.n_dofs)))
    return Subspace("everything", FULL.n_dofs, np.zeros(FULL.n_dofs), rotation, rotation.T.copy())


def failing_at(failing: int, case_of_failure: int = 1):
    """A step that raises at a given index of one load case; cases begin at time zero."""
    begun = 0

    def advance(system, state, dt, *, force, tolerance, index):
        nonlocal begun
        begun += index == 1
        if begun == case_of_failure + 2 and index == failing:  # the warm-up is the first beginning
            raise ConvergenceError(reason="it was made to fail", step=index, time=state.time + dt, dt=dt, history=(1.0,))
        return step(system, state, dt, force=force, tolerance=tolerance, index=index)

    return advance


def test_the_full_model_in_other_coordinates_has_no_error(shapes):
    made = evaluate(FULL, [ReducedModel(FULL, everything())], CASES, shapes, dt=DT, steps=STEPS, tolerance=1e-10)
    model = made.models[0]
    for error in (model.tip_error, model.position_error, model.velocity_error, model.energy_error):
        assert error.max() < 1e-7  # Newton's tolerance, accumulated over the steps
    assert model.failed_steps == 0 and model.r == FULL.n_dofs == made.dofs


def test_a_body_held_at_rest_errs_by_exactly_one(shapes):
    still = Contender(ReducedModel(FULL, modal(FULL, 2)), advance=lambda system, state, dt, **options: replace(state, time=state.time + dt))
    model = evaluate(FULL, [still], CASES, shapes, dt=DT, steps=STEPS).models[0]
    for error in (model.tip_error, model.position_error, model.velocity_error):
        np.testing.assert_allclose(error, 1.0, rtol=1e-12)
    assert model.newton_iterations == 0


def test_more_modes_err_less_and_every_step_is_timed(shapes):
    seen = []
    models = [ReducedModel(FULL, modal(FULL, r)) for r in (2, 40)]
    made = evaluate(FULL, models, CASES, shapes, dt=DT, steps=STEPS, progress=lambda *now: seen.append(now))
    coarse, fine = made.models
    assert fine.tip_error.mean() < 0.5 * coarse.tip_error.mean()
    for record in (made.full, coarse, fine):
        assert record.seconds.shape == (3, STEPS) and (record.seconds > 0).all()
        assert 0 < record.milliseconds(50) <= record.milliseconds(95)
        assert record.surface.shape == (3, STEPS, len(made.rest), 3)
    assert seen == [(i, 9) for i in range(1, 10)]
    assert made.cases[2] == ("test-0002", "twist")


def test_the_tip_is_the_vertex_farthest_from_the_pins(shapes):
    made = evaluate(FULL, [ReducedModel(FULL, modal(FULL, 2))], CASES[:1], shapes, dt=DT, steps=2)
    assert FULL.mesh.vertices[made.tip][0] == pytest.approx(0.4) and made.length == pytest.approx(0.4)


def test_the_recorded_energy_and_tip_are_the_full_models_own(shapes):
    made = evaluate(FULL, [ReducedModel(FULL, modal(FULL, 2))], CASES[:1], shapes, dt=DT, steps=STEPS)
    states = list(simulate(FULL, FULL.state(), DT, force=CASES[0].load(shapes), steps=STEPS))
    np.testing.assert_allclose(made.full.energy[0], [FULL.energy(state) for state in states], rtol=1e-12)
    np.testing.assert_allclose(made.full.tip[0], [FULL.full_displacement(state.q)[made.tip] for state in states], rtol=1e-12)


def test_variational_steps_stand_beside_euler_lagrange(shapes):
    reduced = ReducedModel(FULL, modal(FULL, 6))
    contenders = [Contender(reduced), Contender(reduced, name="variational", advance=variational_step)]
    first, second = evaluate(FULL, contenders, CASES[:1], shapes, dt=DT, steps=STEPS, tolerance=1e-10).models
    assert second.name == "variational"
    np.testing.assert_allclose(second.tip, first.tip, atol=1e-7)  # in a linear subspace both forms are the same equation


def test_a_failed_step_is_named_and_never_improves_an_error(shapes):
    contender = Contender(ReducedModel(FULL, everything()), name="fragile", advance=failing_at(5))
    model = evaluate(FULL, [contender], CASES, shapes, dt=DT, steps=STEPS).models[0]
    (failure,) = model.failures
    assert (failure.model, failure.case, failure.step, failure.lost) == ("fragile", "test-0001", 5, STEPS - 4)
    assert failure.time == pytest.approx(5 * DT) and failure.reason == "it was made to fail"
    assert model.failed_steps == STEPS - 4
    assert model.tip_error[1] >= 1 and model.energy_error[1] >= 1 and model.tip_error[[0, 2]].max() < 1e-3
    assert np.isnan(model.seconds[1, 4:]).all() and np.isfinite(model.seconds[1, :4]).all()


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not finite"), (1e4, "blew up")])
def test_nan_and_blow_up_are_failures(shapes, value, reason):
    def advance(system, state, dt, *, force, tolerance, index):
        return replace(state, time=state.time + dt, q=np.full_like(state.q, value if index == 4 else 0.0))

    model = evaluate(FULL, [Contender(ReducedModel(FULL, modal(FULL, 3)), advance=advance)], CASES, shapes, dt=DT, steps=STEPS).models[0]
    assert [failure.step for failure in model.failures] == [4, 4, 4]
    assert all(reason in failure.reason for failure in model.failures)
    assert model.failed_steps == 3 * (STEPS - 3) and (model.tip_error >= 1).all()


def test_cases_the_full_model_fails_on_are_left_out_and_named(shapes):
    unloaded = dict(shapes)
    broken = [CASES[0], LoadCase("impossible", "test", (("storm", Periodic((1.0,), 1.0, 1.0)),))]
    unloaded["storm"] = 1e30 * np.ones((FULL.n_dofs, 1))
    made = evaluate(FULL, [ReducedModel(FULL, modal(FULL, 2))], broken, unloaded, dt=DT, steps=3)
    assert [name for name, _ in made.cases] == ["test-0000"]
    assert [failure.case for failure in made.full.failures] == ["impossible"]
    with pytest.raises(ConvergenceError, match="full model completes none of the 1"):
        evaluate(FULL, [ReducedModel(FULL, modal(FULL, 2))], broken[1:], unloaded, dt=DT, steps=3)


def test_nothing_to_evaluate_is_refused(shapes):
    reduced = ReducedModel(FULL, modal(FULL, 2))
    with pytest.raises(ValueError, match="0 load cases"):
        evaluate(FULL, [reduced], [], shapes, dt=DT, steps=1)
    with pytest.raises(ValueError, match="0 models"):
        evaluate(FULL, [], CASES, shapes, dt=DT, steps=1)
    with pytest.raises(ValueError, match="several models are named modal 2"):
        evaluate(FULL, [reduced, reduced], CASES, shapes, dt=DT, steps=1)
    with pytest.raises(ValueError, match="tip is vertex 0; expected a vertex that is not pinned"):
        evaluate(FULL, [reduced], CASES, shapes, dt=DT, steps=1, tip=int(np.flatnonzero(FULL.pinned)[0]))
    calm = LoadCase("calm", "test", (("twist", Periodic((0.0,), 1.0, 0.0)),))
    with pytest.raises(ValueError, match="calm leaves the tip of the full model at rest"):
        evaluate(FULL, [reduced], [calm], shapes, dt=DT, steps=2)
