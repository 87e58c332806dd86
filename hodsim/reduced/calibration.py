"""Calibrate the error indicator of a reduced model on validation rollouts.

Half of them are under twice their loads: an estimate that has seen small errors only is too hopeful about large ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hodsim.dynamics import simulate
from hodsim.fem import FullModel
from hodsim.reduced.compiled import CompiledStep
from hodsim.reduced.indicator import SMALLEST, Indicator
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.rollouts import case_rollout
from hodsim.snapshots import LoadShapes, Snapshots
from hodsim.solve import ConvergenceError

POSES, CODES = 2000, 256  # training poses that are encoded, and codes that are kept
BEYOND = 2.0  # times the loads of a validation case
REACH = 2.0  # how far from a code the training range is left, in units of how far any training pose is from the nearest


def calibrate(model: ReducedModel, snapshots: Snapshots, shapes: LoadShapes) -> Indicator:
    """The indicator of a model, from the codes of the training poses and rollouts of the validation cases.

    Raises ValueError when there is no validation case."""
    train, validation = snapshots.split("train"), snapshots.split("validation")
    if not len(validation.cases):
        raise ValueError("there are 0 validation cases to calibrate the error indicator on; expected some")
    poses = train.poses()
    poses = poses[:: max(1, len(poses) // POSES)].astype(float)
    subspace = model.subspace
    codes = subspace.encode(poses)
    spread = codes.std(axis=0)
    chosen, covering = spread_out(codes / spread, min(CODES, max(1, len(codes) // 4)))
    scale = float(np.sqrt(np.mean(_norms(model.full, poses) ** 2)))
    blank = Indicator(codes[chosen], spread, np.zeros(3), scale, REACH * covering, 1.0)
    rows, errors, step = [], [], CompiledStep(model)
    for case, truth in zip(validation.cases, validation.displacements, strict=True):
        beyond = _motion(model.full, BEYOND * case.load(shapes).at_steps(snapshots.dt, len(truth)), snapshots.dt)
        for times, motion in ((1.0, truth.astype(float)), (BEYOND, beyond)):
            run = case_rollout(step, model, case, shapes, dt=snapshots.dt, steps=len(truth), times=times)
            n = min(len(run.q), len(motion))
            errors.append(_norms(model.full, subspace.decode(run.q[:n]) - motion[:n]) / scale)
            rows.append(blank.signs(run.q[:n], run.defect[:n]))
    signs, logarithms = np.concatenate(rows), np.log(np.concatenate(errors) + SMALLEST)
    coefficients, *_ = np.linalg.lstsq(signs, logarithms, rcond=None)
    factor = float(np.exp(np.sqrt(np.mean((signs @ coefficients - logarithms) ** 2))))
    return replace(blank, coefficients=coefficients, factor=factor)


def spread_out(points: np.ndarray, number: int) -> tuple[np.ndarray, float]:
    """Indices of points (n, r), each the farthest from those before it (Gonzalez 1985), and how far any point is from the nearest of them."""
    chosen = [int(np.argmin(np.linalg.norm(points, axis=1)))]
    distances = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(number, len(points)):
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen), float(distances.max())


def _motion(full: FullModel, forces: np.ndarray, dt: float) -> np.ndarray:
    """Displacements (n, d) of the full model from rest under forces (steps, d), up to a step that fails, if one does."""
    acting, motion = iter(forces), []
    try:
        for state in simulate(full, full.state(), dt, force=lambda time: next(acting), steps=len(forces)):
            motion.append(state.q)
    except ConvergenceError:
        pass
    return np.array(motion).reshape(-1, full.n_dofs)


def _norms(full: FullModel, fields: np.ndarray) -> np.ndarray:
    """|u|_M (n,) of displacements (n, d)."""
    return np.sqrt(np.einsum("nd,nd->n", fields, (full.mass @ fields.T).T))
