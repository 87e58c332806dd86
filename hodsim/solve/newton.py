"""Newton's method with a line search: x <- x - g T(x)^-1 R(x), where T = dR/dx.

The step length g is halved until the step is monotone in the residual, |R(x')| <= (1 - g/4) |R(x)|, or in the natural sense of
Deuflhard (Newton Methods for Nonlinear Problems, 2011, section 3.3): |T(x)^-1 R(x')| <= (1 - g/4) |T(x)^-1 R(x)|. The natural test
does not depend on how equations are scaled, which matters where soft and stiff directions differ by orders of magnitude; it costs a
solve with the factors at hand, and only where the residual alone does not decide. A residual that is not finite (an inverted element,
an overflow) counts as 'step too long'. Convergence being quadratic, a correction below sqrt(eps) |x| leaves nothing but rounding behind:
it is the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

SHORTEST_STEP = 2.0**-20
SQRT_EPSILON = 2.0**-26


class Factorisation(Protocol):
    """A linear operator that can be inverted on a right-hand side (n,) or (n, k)."""

    def solve(self, rhs: np.ndarray) -> np.ndarray: ...


class ConvergenceError(RuntimeError):
    """A step whose equation could not be solved: names the step, its time and dt, and the history of residual norms."""

    def __init__(self, *, reason: str, step: int, time: float, dt: float, history: tuple[float, ...]):
        self.reason, self.step, self.time, self.dt, self.history = reason, step, time, dt, history
        norms = " -> ".join(f"{norm:.2e}" for norm in history)
        super().__init__(
            f"step {step} at time {time:.6g} s with dt = {dt:.3g} s did not converge: {reason}; residual norms {norms}. "
            "Try a smaller dt or a smaller load"
        )


@dataclass(frozen=True)
class NewtonResult:
    """The last iterate with the norms of its residual; a failed solve is a value, the caller decides what it means."""

    x: np.ndarray
    history: tuple[float, ...]
    converged: bool
    reason: str

    @property
    def iterations(self) -> int:
        return len(self.history) - 1


class Dense:
    """LU factorisation of a square matrix (n, n). Raises numpy.linalg.LinAlgError when it is singular or not finite."""

    def __init__(self, matrix: np.ndarray):
        self._lu, self._pivots, info = scipy.linalg.lapack.dgetrf(matrix)
        if info > 0 or not np.isfinite(self._lu).all():
            raise np.linalg.LinAlgError(f"the {matrix.shape[0]} x {matrix.shape[1]} tangent is singular or not finite")

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        return scipy.linalg.lapack.dgetrs(self._lu, self._pivots, rhs)[0]


def newton(
    residual: Callable[[np.ndarray], np.ndarray],
    tangent: Callable[[np.ndarray], Factorisation],
    x: np.ndarray,
    *,
    tolerance: Callable[[float], float],
    max_iterations: int = 25,
) -> NewtonResult:
    """Solve residual(x) = 0 from the guess x (n,).

    tolerance maps the norm of the first residual to the norm at which the solve ends. Does not raise when it fails to converge: see
    NewtonResult.converged and .reason.
    """
    r = residual(x)
    norm = float(np.linalg.norm(r))
    history = [norm]
    target = tolerance(norm)

    def result(converged: bool, reason: str) -> NewtonResult:
        return NewtonResult(x, tuple(history), converged, reason)

    if not math.isfinite(norm):
        return result(False, "the residual of the first guess is not finite")
    while norm > target:
        if len(history) > max_iterations:
            return result(False, f"{max_iterations} Newton iterations did not reach {target:.2e}")
        try:
            factors = tangent(x)
            direction = factors.solve(r)
        except np.linalg.LinAlgError as error:
            return result(False, str(error))
        size = float(np.linalg.norm(direction))
        if size <= SQRT_EPSILON * np.linalg.norm(x):
            x = x - direction
            history.append(float(np.linalg.norm(residual(x))))
            return result(True, "the correction is of the size of rounding")
        length = 1.0
        while True:
            candidate = x - length * direction
            r = residual(candidate)
            trial, factor = float(np.linalg.norm(r)), 1 - length / 4
            if trial <= max(factor * norm, target) or (
                math.isfinite(trial) and float(np.linalg.norm(factors.solve(r))) <= factor * size
            ):
                break
            length /= 2
            if length < SHORTEST_STEP:
                return result(False, "the line search found no decrease")
        x, norm = candidate, trial
        history.append(norm)
    return result(True, "converged")
