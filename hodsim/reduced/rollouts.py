"""Rollouts of load cases by a reduced model: how much they err against snapshots, and what a step of them costs."""

from __future__ import annotations

import time

import numpy as np

from hodsim.fem import FullModel
from hodsim.reduced.compiled import CompiledStep, Rollout
from hodsim.reduced.model import ReducedModel
from hodsim.snapshots import LoadCase, LoadShapes, Snapshots
from hodsim.subspace import Subspace

STRIDE = 5  # steps between those at which displacements are compared


def case_rollout(
    advance: CompiledStep, model: ReducedModel, case: LoadCase, shapes: LoadShapes, *, dt: float, steps: int, times: float = 1.0
) -> Rollout:
    """The rollout of a load case, so many times as strong, from rest by the model's own compiled step."""
    forces = times * case.load(shapes).project(model.subspace.basis).at_steps(dt, steps)
    return advance.rollout(model.state(), dt, forces)


def completed(run: Rollout) -> bool:
    """Whether a rollout came to its end with finite values."""
    return run.failure is None and bool(np.isfinite(run.q).all())


def rollout_error(model: ReducedModel, snapshots: Snapshots, shapes: LoadShapes) -> float:
    """The mean position error of a model's rollouts of the snapshots' load cases; a case that fails counts as 1."""
    advance, mass, errors = CompiledStep(model), model.full.mass, []
    for case, truth in zip(snapshots.cases, snapshots.displacements, strict=True):
        run = case_rollout(advance, model, case, shapes, dt=snapshots.dt, steps=len(truth))
        expected = truth[STRIDE - 1 :: STRIDE].astype(float)
        if completed(run):
            difference = model.subspace.decode(run.q[STRIDE - 1 :: STRIDE]) - expected
            squares = [float(np.sum(x * (mass @ x.T).T)) for x in (difference, expected)]
            errors.append(min(1.0, np.sqrt(squares[0] / squares[1])) if squares[1] > 0 else 0.0)
        else:
            errors.append(1.0)
    return float(np.mean(errors))


def subspace_error(full: FullModel, snapshots: Snapshots, shapes: LoadShapes, subspace: Subspace) -> float:
    """The error of a subspace's own: `rollout_error` with the exact elastic force."""
    return rollout_error(ReducedModel(full, subspace), snapshots, shapes)


def step_microseconds(model: ReducedModel, snapshots: Snapshots, shapes: LoadShapes) -> float:
    """Median over rollouts of the snapshots' load cases of the time of a step."""
    advance, steps, times = CompiledStep(model), snapshots.displacements.shape[1], []
    for case in (snapshots.cases[0], *snapshots.cases):  # the first twice: a step may have to be compiled
        started = time.perf_counter()
        run = case_rollout(advance, model, case, shapes, dt=snapshots.dt, steps=steps)
        times.append((time.perf_counter() - started) / max(1, len(run.q)))
    return 1e6 * float(np.median(times[1:]))
