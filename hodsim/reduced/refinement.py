"""The weights of a cubature, refined by simulations.

A fit of forces on given poses (`cubature`) does not see how its errors add up along a motion. Here the weights xi of the chosen elements are
moved to where the motion itself is met,

    minimise  sum over training cases of  sum_t |u_t(xi) - u_t|_M^2 / sum_t |u_t|_M^2,      xi >= 0,

u_t(xi) a rollout of the reduced model and u_t the snapshots: nonlinear least squares in few unknowns, by Gauss-Newton steps in a trust region
that respects the bounds (Branch, Coleman & Li 1999), with differences of rollouts as derivatives. What is left of the subspace's own spurious
stiffness is made up for, too, so that fewer elements do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from hodsim.reduced.compiled import CompiledStep
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.rollouts import STRIDE, case_rollout
from hodsim.snapshots import LoadShapes, Snapshots

CASES = 24  # training cases that are simulated
EVALUATIONS = 4  # of the objective, each but the last with its derivatives
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
    chosen = range(0, len(train.cases), max(1, len(train.cases) // CASES))
    truths = [_Truth.of(model, train, i) for i in chosen]
    cases = [train.cases[i] for i in chosen]

    def scaled(factors: np.ndarray) -> Cubature:
        return Cubature(model.full, model.subspace, cubature.chosen, factors * cubature.weights)

    def errors(factors: np.ndarray) -> np.ndarray:
        other = model.with_elasticity(scaled(factors))
        advance, steps = CompiledStep(other), train.displacements.shape[1]
        runs = (case_rollout(advance, other, case, shapes, dt=train.dt, steps=steps, tolerance=TOLERANCE) for case in cases)
        features = (model.subspace.features(run.q[STRIDE - 1 :: STRIDE]) for run in runs)
        return np.concatenate([truth.errors(g) for truth, g in zip(truths, features, strict=True)])

    start = np.ones(len(cubature.weights))
    found = least_squares(errors, start, bounds=(0, np.inf), diff_step=DIFFERENCE, max_nfev=EVALUATIONS)
    return scaled(found.x)


@dataclass(frozen=True)
class _Truth:
    """A snapshot trajectory of a size |u|_M in M-orthonormal coordinates z (n, k) of the decoder's range, where |R g - z| is the distance of
    u0 + W g from it within that range."""

    z: np.ndarray
    root: np.ndarray  # R (k, m) with R^T R = W^T M W
    size: float

    @classmethod
    def of(cls, model: ReducedModel, snapshots: Snapshots, case: int) -> _Truth:
        subspace, mass = model.subspace, model.full.mass
        u = snapshots.displacements[case][STRIDE - 1 :: STRIDE].astype(float)
        squares, V = np.linalg.eigh(model.mass)
        kept = squares > len(squares) * np.finfo(float).eps * squares[-1]
        sizes, V = np.sqrt(squares[kept]), V[:, kept]
        z = (mass @ (u - subspace.origin).T).T @ subspace.basis @ (V / sizes)
        return cls(z, (V * sizes).T, float(np.sqrt(np.sum(u * (mass @ u.T).T))) or 1.0)

    def errors(self, g: np.ndarray) -> np.ndarray:
        """Of the features g (n, m) of a rollout, relative to the trajectory's size; what a failed one did not reach counts as undeformed."""
        difference = -self.z
        difference[: len(g)] += g @ self.root.T
        return difference.ravel() / self.size
