"""The variational form of a latent step (Fulton et al. 2019; Sharp et al. 2023): q minimises the incremental potential

    1/(2 dt^2) |f(q) - u_pred|_M^2 + 1/(2 dt) |f(q) - u_n|_C^2 + V(f(q)) - f_ext . f(q),    u_pred = 2 u_n - u_(n-1)

Inertia is discretised in displacements, not in q, so that two derivatives of the decoder suffice, and so that its error in time is the
full model's own. The latent Euler-Lagrange equation by backward Euler agrees with it as dt -> 0, but at a given dt adds an error of the
curved coordinates, D^2 f[v, v] at the end of a step instead of along it, which pushes a fast motion sideways into soft directions.
`variational_step` takes the place of `dynamics.step`.
"""

from __future__ import annotations

import numpy as np

from hodsim.dynamics import State, backward_euler, solve_step
from hodsim.reduced.model import ReducedModel
from hodsim.solve import Dense


def variational_step(
    system: ReducedModel,
    state: State,
    dt: float,
    *,
    force: np.ndarray,
    tolerance: float = 1e-5,
    max_iterations: int = 25,
    index: int = 0,
) -> State:
    """The state one time step dt [s] later under a force in feature space (m,). Raises ConvergenceError as `dynamics.step` does."""
    features = system.features
    inertia, damping = system.mass / dt**2, system.damping / dt
    now = features.value(state.q)
    if state.previous is None:  # a first step has a velocity instead of a past
        predicted = now + dt * features.rate(state.q, state.v)
    else:
        predicted = 2 * now - features.value(state.previous.q)

    at_rest = np.zeros_like(state.q)

    def unbalanced(g: np.ndarray, elastic: np.ndarray) -> np.ndarray:
        return inertia @ (g - predicted) + damping @ (g - now) + elastic - force

    def residual(q: np.ndarray) -> np.ndarray:
        motion, elastic = system.evaluate(q, at_rest)
        return motion.jacobian.T @ unbalanced(motion.value, elastic)

    def tangent(q: np.ndarray) -> Dense:
        motion, elastic = system.evaluate(q, at_rest)
        Dg = motion.jacobian
        curvature = np.tensordot(unbalanced(motion.value, elastic), features.hessian(q), 1)
        return Dense(curvature + Dg.T @ (inertia + damping) @ Dg + system.elasticity.stiffness(motion.value, Dg))

    rates = backward_euler(state, dt)
    return solve_step(system, state, dt, rates, residual, tangent, tolerance=tolerance, max_iterations=max_iterations, index=index)
