"""The weights of a cubature, refined by simulations.

A fit of forces on given poses (`cubature`) does not see how its errors add up along a motion. Here the weights xi of the chosen elements are
moved to where the motion itself is met,

    minimise  sum over training cases of  sum_t |u_t(xi) - u_t|_M^2 / sum_t |u_t|_M^2,      xi >= 0,

u_t(xi) a rollout of the reduced model and u_t the snapshots: nonlinear least squares in few unknowns, by Gauss-Newton steps in a trust region
that respects the bounds (Branch, Coleman & Li 1999), with differences of rollouts as derivatives. Distances are taken within the decoder's range,
in M-orthonormal coordinates z of it; what the trajectory has beside it no weight can change. What is left of the subspace's own spurious
stiffness is made up for, too, so that fewer elements do.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from hodsim.reduced.compiled import CompiledStep, independent
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.rollouts import STRIDE
from hodsim.snapshots import LoadShapes, Snapshots

CASES = 24  # training cases that are simulated
EVALUATIONS = 3  # of the objective, each but the last with its derivatives; a third step changed the errors by less than 0.1 %
DIFFERENCE = 1e-4  # of a weight, relative
TOLERANCE = 1e-9  # of the rollouts' steps, well below what a difference changes


def refine_weights(model: ReducedModel, snapshots: Snapshots, shapes: LoadShapes) -> Cubature:
    """The cubature of a model with its weights refined by rollouts of the train split's load cases, evenly chosen.

    Raises ValueError for a model without cubature or without training cases, and as `CompiledStep` does."""
    cubature = model.elasticity
    if not isinstance(cubature, Cubature):
        raise ValueError(f"the elasticity is a {type(cubature).__name__}; expected a Cubature to refine the weights of")
    train = snapshots.split("train")
    if not len(train.cases):
        raise ValueError("there are 0 training cases to refine the weights by; expected some")
    subspace, mass, dt, steps = model.subspace, model.full.mass, train.dt, train.displacements.shape[1]
    mixing = independent(model.mass)
    root = np.linalg.cholesky(mixing @ model.mass @ mixing.T).T  # R (k, k), so that |W g|_M = |R B g|
    loads, wanted = [], []
    for i in range(0, len(train.cases), max(1, len(train.cases) // CASES)):
        loads.append(train.cases[i].load(shapes).project(subspace.basis).at_steps(dt, steps))
        u = train.displacements[i][STRIDE - 1 :: STRIDE].astype(float)
        projected = np.linalg.solve(root.T, mixing @ subspace.basis.T @ (mass @ (u - subspace.origin).T)).T
        wanted.append((projected, float(np.sqrt(np.sum(u * (mass @ u.T).T))) or 1.0))

    def scaled(factors: np.ndarray) -> Cubature:
        return Cubature(model.full, subspace, cubature.chosen, factors * cubature.weights)

    def errors(factors: np.ndarray) -> np.ndarray:
        other = model.with_elasticity(scaled(factors))
        advance, found = CompiledStep(other), []
        for load, (z, size) in zip(loads, wanted, strict=True):
            run = advance.rollout(other.state(), dt, load, tolerance=TOLERANCE)
            difference = -z  # what a rollout that failed did not reach counts as undeformed
            g = subspace.features(run.q[STRIDE - 1 :: STRIDE])
            difference[: len(g)] += g @ (root @ mixing).T
            found.append(difference.ravel() / size)
        return np.concatenate(found)

    start = np.ones(len(cubature.weights))  # in units of the weights as they are
    found = least_squares(errors, start, bounds=(0, np.inf), diff_step=DIFFERENCE * start, max_nfev=EVALUATIONS)
    return scaled(found.x)
