"""How many elements a cubature needs: as few as move the body as well as all of them do, on validation load cases.

The residual of a fit says how well forces are met on given poses, not how well the body moves; so each size is judged by simulating
what it was not fitted to, and the smallest whose error is within a few percent of that of the exact elasticity is taken, its weights refined
by simulations of training cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hodsim.fem import FullModel
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.refinement import refine_weights
from hodsim.reduced.rollouts import rollout_error
from hodsim.snapshots import LoadShapes, Poses, Snapshots
from hodsim.subspace import Subspace

SIZES = (8, 11, 16, 22, 32, 45, 64, 90)
EXCESS = 1.05  # times the error without cubature
PROMISING = 5.0  # times the error without cubature: a fit that errs more is not refined
FITTED = 400  # training poses that a cubature is fitted to
JUDGED = 50  # poses on which the residual of a fit is quoted


@dataclass(frozen=True)
class Sampling:
    """What so many elements are worth: the relative residual of the fit on training and on validation poses (0 for all elements), and the
    position error of validation rollouts, mean over cases of sqrt(sum |u - u_full|_M^2 / sum |u_full|_M^2), before and after the weights were
    refined, None where they were not."""

    elements: int
    fit: float
    validation_fit: float
    error: float
    refined: float | None = None


def fitting_poses(snapshots: Snapshots) -> np.ndarray:
    """Training poses to fit a cubature to, evenly chosen, (n, d) [m]."""
    return _some(snapshots.split("train").poses(), FITTED)


def choose_cubature(
    full: FullModel, subspace: Subspace, snapshots: Snapshots, shapes: LoadShapes, *, sizes: Sequence[int] = SIZES, refine: bool = True
) -> tuple[Cubature, tuple[Sampling, ...]]:
    """The cubature, fitted to training poses, that validation load cases ask for, and the curve it was chosen by, all elements last.

    The weights are refined by rollouts of training cases, which takes a minute or so, unless refine is False. The largest, as it was fitted, if
    none is within EXCESS of the exact elasticity. Raises ValueError when there is no validation case."""
    poses, validation = fitting_poses(snapshots), snapshots.split("validation")
    if not len(validation.cases):
        raise ValueError("there are 0 validation cases to choose the number of elements by; expected some, or a number of elements")
    exact = ReducedModel(full, subspace)
    candidates = Cubature.path(full, subspace, poses, sizes=sizes)
    some, held = _some(poses, JUDGED), _some(validation.poses(), JUDGED)
    best = rollout_error(exact, validation, shapes)
    chosen, curve = None, []
    for candidate in candidates:
        model = exact.with_elasticity(candidate)
        error, refined = rollout_error(model, validation, shapes), None
        if chosen is None and not refine and error <= EXCESS * best:
            chosen = candidate
        if chosen is None and refine and error <= PROMISING * best:
            better = refine_weights(model, snapshots, shapes)
            refined = rollout_error(exact.with_elasticity(better), validation, shapes)
            if refined <= EXCESS * best:
                chosen = better
        curve.append(Sampling(len(candidate.chosen), candidate.residual(some), candidate.residual(held), error, refined))
    return chosen or candidates[-1], (*curve, Sampling(len(full.mesh.tetrahedra), 0.0, 0.0, best))


def _some(poses: np.ndarray | Poses, number: int) -> np.ndarray:
    return poses[:: max(1, len(poses) // number)]
