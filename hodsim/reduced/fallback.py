"""Simulate with a reduced model as long as its error indicator allows it, and with the full model where it does not.

At a red light the full model goes on from the reduced state, u = f(q), u' = J v. It hands back what lies in the subspace again: after at least
the time 1 / omega of the slowest vibration, when the nearest point of the subspace is within the training range and nearer than the green
limit. The nearest point, in the norm of M, is found by Gauss-Newton from the encoder's guess, and the velocity is projected onto its tangent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hodsim.dynamics import Force, Scheme, State, backward_euler, step
from hodsim.reduced.compiled import CompiledStep
from hodsim.reduced.indicator import LIMITS, Indicator
from hodsim.reduced.model import ReducedModel

PROJECTIONS = 5  # Gauss-Newton iterations of a projection, which start close by


@dataclass(frozen=True)
class Guarded:
    """A step of either model: time [s], displacement u (d,) [m], whether the full model took it, and the light shown then, None for the full."""

    time: float
    displacement: np.ndarray
    by_full: bool
    light: int | None


def simulate_with_fallback(
    model: ReducedModel,
    dt: float,
    *,
    force: np.ndarray | Force,
    steps: int,
    scheme: Scheme = backward_euler,
    form: str = "variational",
) -> Iterator[Guarded]:
    """Yield steps of dt [s] from rest under nodal forces (d,) [N], constant or a function of time.

    Raises ValueError for a model without an indicator, ConvergenceError where the full model cannot take a step either."""
    if model.indicator is None:
        raise ValueError(f"{model.subspace.name} has no error indicator to say when to fall back; train it with `hodsim train`")
    full, indicator, reduced_step = model.full, model.indicator, CompiledStep(model, form=form)
    patience = reduced_step.memory
    state, by_full, since = model.state(), False, 0.0
    for index in range(1, steps + 1):
        time = index * dt
        now = force(time) if callable(force) else force
        if by_full:
            state = step(full, state, dt, force=now, scheme=scheme, index=index)
            yield Guarded(time, state.q, True, None)
            if time - since >= patience and (back := returned(model, indicator, state, force=now)) is not None:
                state, by_full = back, False
            continue
        state = reduced_step(model, state, dt, force=model.subspace.basis.T @ now, scheme=scheme, index=index)
        light = indicator.level(state)
        yield Guarded(time, model.displacement(state), False, light)
        if light == 2:
            state, by_full, since = handed_over(model, state, dt, force=now, form=form), True, time


def handed_over(model: ReducedModel, state: State, dt: float, *, force: np.ndarray, form: str) -> State:
    """A reduced state as the full model's, under nodal forces (d,).

    The variational form moves in displacements: its velocity is their difference, not J v."""
    u = model.displacement(state)
    if form == "variational" and state.previous is not None:
        velocity = (u - model.displacement(state.previous)) / dt
    else:
        velocity = model.velocity(state)
    return replace(model.full.state(u, velocity, force=force), time=state.time)


def returned(model: ReducedModel, indicator: Indicator, state: State, *, force: np.ndarray) -> State | None:
    """The reduced state nearest to one of the full model under nodal forces (d,), or None if that is too far away or out of the training range."""
    q = project(model, state.q)
    difference = state.q - model.subspace.decode(q)
    distance = float(np.sqrt(difference @ (model.full.mass @ difference))) / indicator.scale
    nearest = model.state(q, _projected_velocity(model, q, state.v), force=model.subspace.basis.T @ force)
    return None if distance > LIMITS[0] or indicator.left(nearest) else replace(nearest, time=state.time)


def project(model: ReducedModel, u: np.ndarray) -> np.ndarray:
    """The q (r,) of the point f(q) nearest to a displacement u (d,) in the norm of M, by Gauss-Newton from the encoder's guess."""
    subspace = model.subspace
    target = subspace.basis.T @ (model.full.mass @ (u - subspace.origin))
    q = subspace.encode(u)
    for _ in range(PROJECTIONS):
        motion = model.features.motion(q, np.zeros_like(q))
        Dg = motion.jacobian
        q = q + np.linalg.solve(Dg.T @ model.mass @ Dg, Dg.T @ (target - model.mass @ motion.value))
    return q


def _projected_velocity(model: ReducedModel, q: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """The v (r,) with J v nearest to a velocity (d,) in the norm of M."""
    Dg = model.features.motion(q, np.zeros_like(q)).jacobian
    return np.linalg.solve(Dg.T @ model.mass @ Dg, Dg.T @ (model.subspace.basis.T @ (model.full.mass @ velocity)))
