"""Which load cases to simulate next with the full model: those in which the reduced model, by its own estimate, errs most.

The estimate is that of the error indicator, averaged over a rollout (root mean square), so that a candidate costs a rollout of the
reduced model only. A candidate whose rollout fails comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hodsim.reduced.compiled import CompiledStep
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.rollouts import case_rollout, completed
from hodsim.snapshots import LoadCase, LoadShapes


def hardest(model: ReducedModel, candidates: Sequence[LoadCase], shapes: LoadShapes, *, dt: float, steps: int, number: int) -> np.ndarray:
    """Indices of the candidates of the largest estimated errors, the largest first. Raises ValueError for a model without an error indicator."""
    errors = estimated_errors(model, candidates, shapes, dt=dt, steps=steps)
    return np.argsort(-errors, kind="stable")[:number]


def estimated_errors(model: ReducedModel, candidates: Sequence[LoadCase], shapes: LoadShapes, *, dt: float, steps: int) -> np.ndarray:
    """The estimated error of a rollout of each candidate (n,), in units of a typical motion; infinite where the rollout fails."""
    if model.indicator is None:
        raise ValueError("the model has no error indicator to choose load cases by; train it again")
    advance, errors = CompiledStep(model), np.full(len(candidates), np.inf)
    for i, case in enumerate(candidates):
        run = case_rollout(advance, model, case, shapes, dt=dt, steps=steps)
        if completed(run):
            errors[i] = np.sqrt(np.mean(model.indicator.estimates(run.q, run.defect) ** 2))
    return errors
