"""The load cases that are worth simulating next."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import simulate
from hodsim.reduced import Indicator, ReducedModel, hardest, variational_step
from hodsim.reduced.acquisition import estimated_errors
from hodsim.snapshots import LoadCase, Piecewise, bending_loads

DT, STEPS = 0.01, 12
DISTANCE = Indicator(np.zeros((1, 3)), np.ones(3), np.array([0.0, 0.0, 1.0]), 0.1, np.inf, 1.0)  # its estimate is |q|


def case(name: str, force: float) -> LoadCase:
    return LoadCase(name, "train", (("tip", Piecewise((1.0,), ((0.0, 0.0, force),))),))


@pytest.fixture
def model():
    full = small_beam()
    return ReducedModel(full, curved_subspace(full), indicator=DISTANCE)


def test_the_estimate_is_that_of_a_rollout_of_the_reduced_model(model):
    shapes = bending_loads(model.full)
    force = model.generalized_force(shapes["tip"] @ [0.0, 0.0, 0.1])
    states = simulate(model, model.state(), DT, force=force, steps=STEPS, advance=variational_step)
    expected = np.sqrt(np.mean([float(state.q @ state.q) for state in states]))
    found = estimated_errors(model, [case("a", 0.1), case("b", 0.0)], shapes, dt=DT, steps=STEPS)
    assert found == pytest.approx([expected, 0.0], rel=1e-5, abs=1e-5)


def test_the_hardest_come_first_and_those_that_fail_before_them(model):
    candidates = [case("small", 0.01), case("none", 0.0), case("large", 0.1), case("absurd", 1e12)]
    chosen = hardest(model, candidates, bending_loads(model.full), dt=DT, steps=STEPS, number=3)
    assert [candidates[i].name for i in chosen] == ["absurd", "large", "small"]


def test_a_model_that_cannot_tell_its_error_is_refused(model):
    with pytest.raises(ValueError, match="no error indicator to choose load cases by; train it again"):
        hardest(model.with_elasticity(model.elasticity), [case("a", 0.1)], {}, dt=DT, steps=STEPS, number=1)
