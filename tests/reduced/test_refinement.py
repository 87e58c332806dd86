"""Weights are refined to where simulations meet the snapshots."""

from dataclasses import dataclass

import numpy as np
import pytest

from cases import small_beam
from hodsim.reduced import CompiledStep, Cubature, ReducedModel, refine_weights
from hodsim.snapshots import LoadCase, bending_loads, sweep
from hodsim.subspace import modal

STEPS, DT = 20, 0.01


@dataclass
class Trajectories:
    """As much of `Snapshots` as is read: cases of the train split and their displacements (case, step, d)."""

    cases: list[LoadCase]
    displacements: np.ndarray
    dt: float = DT

    def split(self, name: str) -> "Trajectories":
        assert name == "train"
        return self


@pytest.fixture(scope="module")
def sampled():
    """A model of four elements, load shapes, cases, and the trajectories of the model itself."""
    full = small_beam()
    shapes, cases = bending_loads(full), sweep(train=4, duration=STEPS * DT)
    n = len(full.mesh.tetrahedra)
    subspace = modal(full, 3)
    chosen = np.linspace(0, n - 1, 4).astype(int)
    model = ReducedModel(full, subspace, elasticity=Cubature(full, subspace, chosen, n / 4 * np.array([0.7, 1.0, 1.2, 0.9])))
    return model, shapes, cases, Trajectories(cases, rolled(model, shapes, cases))


def rolled(model, shapes, cases):
    advance = CompiledStep(model)
    loads = (case.load(shapes).project(model.subspace.basis).at_steps(DT, STEPS) for case in cases)
    return np.stack([model.subspace.decode(advance.rollout(model.state(), DT, load, tolerance=1e-9).q) for load in loads])


def with_weights(model, weights):
    return model.with_elasticity(Cubature(model.full, model.subspace, model.elasticity.chosen, weights))


def test_weights_that_made_the_trajectories_are_found_again(sampled):
    model, shapes, cases, own = sampled
    truth = model.elasticity.weights
    start = with_weights(model, truth * [1.3, 0.8, 0.9, 1.2])
    found = refine_weights(start, own, shapes)
    np.testing.assert_array_equal(found.chosen, model.elasticity.chosen)

    def error(weights):
        return np.linalg.norm(rolled(with_weights(model, weights), shapes, cases) - own.displacements)

    # Gauss-Newton with a vanishing residual converges quadratically: three steps of it leave next to nothing of the error
    assert error(found.weights) < 1e-3 * error(start.elasticity.weights)
    assert (found.weights >= 0).all()


def test_only_a_cubature_is_refined_and_only_by_training_cases(sampled):
    model, shapes, _, own = sampled
    with pytest.raises(ValueError, match="ExactElasticity; expected a Cubature"):
        refine_weights(ReducedModel(model.full, model.subspace), own, shapes)
    with pytest.raises(ValueError, match="0 training cases"):
        refine_weights(model, Trajectories([], own.displacements[:0]), shapes)
