"""The latent dimension: train at several r and weigh the error of simulations against the cost of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hodsim.fem import FullModel
from hodsim.reduced import Cubature, ReducedModel, fitting_poses, step_microseconds
from hodsim.snapshots import LoadShapes, Snapshots
from hodsim.subspace import Subspace
from hodsim.trainers.autoencoder import Training, train_autoencoder

DIMENSIONS = (2, 3, 4, 6, 8, 12)
ELEMENTS = 45  # that sample the elastic force where a step is timed
ENOUGH = 1.25  # times the smallest error: an r that is as good as that is chosen, if no target is given


@dataclass(frozen=True)
class Trial:
    """A latent dimension r, the error of its simulations [fraction], microseconds a step takes, and seconds the training took."""

    dim: int
    error: float
    microseconds: float
    seconds: float


def try_dimensions(
    full: FullModel,
    snapshots: Snapshots,
    shapes: LoadShapes,
    training: Training,
    judge: Callable[[Subspace], float],
    *,
    checkpoint: Callable[[int], Path],
    dimensions: Sequence[int] = DIMENSIONS,
    target: float | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, int, Trial], None] | None = None,
) -> list[Trial]:
    """Train at each r, checkpoint saying in which file; end with the first whose error is at most the target, if there is one.

    judge gives the error of a subspace, as `train_autoencoder` takes it. Raises ValueError when there is no validation case,
    KeyboardInterrupt when Ctrl-C ended a training: what is done is not done again."""
    if not snapshots.split("validation").cases:
        raise ValueError("there are 0 validation cases to choose the latent dimension by; expected some")
    trials: list[Trial] = []
    for number, dim in enumerate(dimensions, 1):
        if dim >= training.coordinates:
            break
        subspace, fitted, refined = train_autoencoder(
            full, snapshots, replace(training, dim=dim), checkpoint=checkpoint(dim), device=device, judge=judge
        )
        if fitted.interrupted or refined.interrupted:
            raise KeyboardInterrupt
        error = refined.best if refined.epochs else judge(subspace)
        trials.append(Trial(dim, error, _microseconds(full, subspace, snapshots, shapes), fitted.seconds + refined.seconds))
        if progress:
            progress(number, len(dimensions), trials[-1])
        if target is not None and error <= target:
            break
    return trials


def choose(trials: Sequence[Trial], target: float | None = None) -> Trial:
    """The smallest r whose error is at most the target, or else at most ENOUGH times the smallest error."""
    best = min(trial.error for trial in trials)
    bound = target if target is not None and best <= target else ENOUGH * best
    return next(trial for trial in sorted(trials, key=lambda trial: trial.dim) if trial.error <= bound)


def _microseconds(full: FullModel, subspace: Subspace, snapshots: Snapshots, shapes: LoadShapes) -> float:
    """What a step costs in the validation cases, with the elastic force sampled."""
    (*_, cubature) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[ELEMENTS])
    return step_microseconds(ReducedModel(full, subspace, elasticity=cubature), snapshots.split("validation"), shapes)
