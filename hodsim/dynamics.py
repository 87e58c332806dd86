"""Implicit time stepping of 0 = R(q, v, a): one step and one loop for every model.

A scheme writes the new velocity and acceleration as affine maps of the unknown position,  v = s1 q + v0,  a = s2 q + a0,  so that
the equation of a step is R(q, s1 q + v0, s2 q + a0) = 0 with the tangent dR/dq + s1 dR/dv + s2 dR/da. Nothing here knows whether
the unknown is the displacement of a mesh or a latent coordinate.
Hairer & Wanner, Solving Ordinary Differential Equations II; Newmark 1959 for `newmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np

from hodsim.checks import finite, positive
from hodsim.solve import ConvergenceError, Factorisation, newton

Force = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class State:
    """Position q, velocity v and acceleration a, each (n,), at a time [s].

    previous is the state one step earlier, which multistep schemes read (it keeps none of its own); iterations counts the Newton
    iterations of the step that led here. defect is how far the motion of late misses the equation that the model stands for, in the norm of
    the mass matrix [m kg^(1/2)], where the model knows it.
    """

    time: float
    q: np.ndarray
    v: np.ndarray
    a: np.ndarray
    previous: State | None = None
    iterations: int = 0
    defect: float = 0.0


class SecondOrderSystem(Protocol):
    """What can be stepped. force is in the system's own coordinates: nodal forces (d,) or their projection W^T f (m,)."""

    @property
    def rounding_force(self) -> float:
        """The norm below which a residual is nothing but rounding: where a body at rest without load ends."""
        ...

    def residual(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, force: np.ndarray) -> np.ndarray: ...

    def tangent(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> Factorisation:
        """dR/dq + s1 dR/dv + s2 dR/da, ready to solve with."""
        ...


class Rates(NamedTuple):
    """The affine maps v = s1 q + v0 and a = s2 q + a0 of one step."""

    s1: float
    v0: np.ndarray
    s2: float
    a0: np.ndarray

    def velocity(self, q: np.ndarray) -> np.ndarray:
        return self.s1 * q + self.v0

    def acceleration(self, q: np.ndarray) -> np.ndarray:
        return self.s2 * q + self.a0


Scheme = Callable[[State, float], Rates]
Advance = Callable[..., State]  # the signature of `step`, less the scheme


def backward_euler(state: State, dt: float) -> Rates:
    """First order, L-stable, dissipative: v = (q - q_n) / dt, a = (v - v_n) / dt."""
    v0 = -state.q / dt
    return Rates(1 / dt, v0, 1 / dt**2, (v0 - state.v) / dt)


def bdf2(state: State, dt: float) -> Rates:
    """Second order, L-stable: v = (3 q - 4 q_n + q_(n-1)) / (2 dt), a likewise from v. Its first step is backward Euler's."""
    previous = state.previous
    if previous is None:
        return backward_euler(state, dt)
    s1 = 1.5 / dt
    v0 = (previous.q - 4 * state.q) / (2 * dt)
    a0 = s1 * v0 + (previous.v - 4 * state.v) / (2 * dt)
    return Rates(s1, v0, s1**2, a0)


def newmark(state: State, dt: float, *, beta: float = 0.25, gamma: float = 0.5) -> Rates:
    """Second order for gamma = 1/2; beta = 1/4 is the average acceleration method, which adds no damping."""
    s2 = 1 / (beta * dt**2)
    a0 = -s2 * (state.q + dt * state.v) - (0.5 / beta - 1) * state.a
    s1 = gamma * dt * s2
    v0 = state.v + dt * ((1 - gamma) * state.a + gamma * a0)
    return Rates(s1, v0, s2, a0)


def step(
    system: SecondOrderSystem,
    state: State,
    dt: float,
    *,
    force: np.ndarray,
    scheme: Scheme = backward_euler,
    tolerance: float = 1e-5,
    max_iterations: int = 25,
    index: int = 0,
) -> State:
    """The state one time step dt [s] later, under a force that acts at the end of the step.

    The solve ends when the residual is tolerance times that of the first guess q_n + dt v_n, or it or a correction is no more than rounding.
    Raises ConvergenceError naming the step (its index), its time, dt and the history of residual norms.
    """
    rates = scheme(state, dt)

    def residual(q: np.ndarray) -> np.ndarray:
        return system.residual(q, rates.velocity(q), rates.acceleration(q), force)

    def tangent(q: np.ndarray) -> Factorisation:
        return system.tangent(q, rates.velocity(q), rates.acceleration(q), rates.s1, rates.s2, force)

    return solve_step(system, state, dt, rates, residual, tangent, tolerance=tolerance, max_iterations=max_iterations, index=index)


def solve_step(
    system: SecondOrderSystem,
    state: State,
    dt: float,
    rates: Rates,
    residual: Callable[[np.ndarray], np.ndarray],
    tangent: Callable[[np.ndarray], Factorisation],
    *,
    tolerance: float,
    max_iterations: int,
    index: int,
) -> State:
    """Solve residual(q) = 0 for the position a step later and complete the state by the rates; shared by every way to pose a step."""
    solved = newton(
        residual,
        tangent,
        state.q + dt * state.v,
        tolerance=lambda first: max(tolerance * first, system.rounding_force),
        max_iterations=max_iterations,
    )
    time = state.time + dt
    if not solved.converged:
        raise ConvergenceError(reason=solved.reason, step=index, time=time, dt=dt, history=solved.history)
    q = solved.x
    return State(time, q, rates.velocity(q), rates.acceleration(q), replace(state, previous=None), solved.iterations)


def simulate(
    system: SecondOrderSystem,
    state: State,
    dt: float,
    *,
    force: np.ndarray | Force,
    scheme: Scheme = backward_euler,
    steps: int | None = None,
    tolerance: float = 1e-5,
    advance: Advance | None = None,
) -> Iterator[State]:
    """Yield the states after each step of dt [s], without end unless steps is given.

    advance takes the place of `step` with the given scheme, e.g. `reduced.variational_step`. force is constant or a function of time
    [s]; it is evaluated at the end of each step. Raises ValueError for a dt that is not positive or a force that is not finite,
    ConvergenceError as `step` does.
    """
    positive("dt", dt)
    advance = partial(step, scheme=scheme) if advance is None else advance
    start = state.time
    for index in count(1) if steps is None else range(1, steps + 1):
        # the time is counted in whole steps, so that rounding does not accumulate over a long run
        now = force(start + index * dt) if callable(force) else force
        finite("force", now)
        state = replace(advance(system, state, dt, force=now, tolerance=tolerance, index=index), time=start + index * dt)
        yield state


SCHEMES: dict[str, Scheme] = {"backward-euler": backward_euler, "bdf2": bdf2, "newmark": newmark}
