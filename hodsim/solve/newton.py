"""Newton's method with a line search: x <- x - g T(x)^-1 R(x), where T = dR/dx.

The step length g is halved until the step is monotone in the residual, |R(x')| <= (1 - g/4) |R(x)|, or in the natural sense of
Deuflhard (Newton Methods for Nonlinear Problems, 2011, section 3.3): |T(x)^-1 R(x')| <= (1 - g/4) |T(x)^-1 R(x)|. The natural test
does not depend on how equations are scaled, which matters where soft and stiff directions differ by orders of magnitude; it costs a
solve with the factors at hand, and only where the residual alone does not decide. A residual that is not finite (an inverted element,
an overflow) counts as 'step too long'. Convergence being quadratic, a correction below sqrt(eps) |x| leaves nothing but rounding behind:
it is the last.

Where a dense T is singular, or so nearly that no length will do, a damped step (Levenberg 1944, Marquardt 1963) takes its place,

    x <- x - p,     (T^T T + m |T|^2) p = T^T R,     m growing until |R|^2 falls

which turns towards the steepest descent of |R|^2 and so finds a decrease wherever that has a slope, T^T R != 0. An indefinite T needs
nothing special as long as it is regular: Newton's direction leads downhill in |R|^2 all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import scipy.linalg

SHORTEST_STEP = 2.0**-20
SQRT_EPSILON = 2.0**-26
DAMPINGS = 10.0 ** np.arange(-6, 13)  # m: from hardly any to a step of 1e-12 |R| / |T|
SUFFICIENT = 1e-3  # of the decrease along a damped step to first order; half of it would be had by Newton's own


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

    def __reduce__(self):  # an exception is rebuilt from its message alone, unless told otherwise: its process would die of that
        return partial(ConvergenceError, **vars(self)), ()


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
    """LU factorisation of a square matrix (n, n), which is kept, not copied."""

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix
        self._lu, self._pivots, info = scipy.linalg.lapack.dgetrf(matrix)
        self._is_regular = info == 0 and bool(np.isfinite(self._lu).all())

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """Raises numpy.linalg.LinAlgError when the matrix is singular or not finite."""
        if not self._is_regular:
            raise np.linalg.LinAlgError(f"the {self.matrix.shape[0]} x {self.matrix.shape[1]} tangent is singular or not finite")
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
        except np.linalg.LinAlgError as error:
            return result(False, str(error))
        found, reason = None, "the line search found no decrease"
        try:
            direction = factors.solve(r)
            size = float(np.linalg.norm(direction))
            if size <= SQRT_EPSILON * np.linalg.norm(x):
                x = x - direction
                history.append(float(np.linalg.norm(residual(x))))
                return result(True, "the correction is of the size of rounding")
            found = _searched(residual, factors, x, direction, norm=norm, size=size, target=target)
        except np.linalg.LinAlgError as error:
            reason = str(error)
        if found is None and isinstance(factors, Dense):
            found = _damped(residual, factors.matrix, x, r, norm=norm)
        if found is None:
            return result(False, reason)
        x, r, norm = found
        history.append(norm)
    return result(True, "converged")


Found = tuple[np.ndarray, np.ndarray, float]  # x, R(x), |R(x)|


def _searched(
    residual: Callable[[np.ndarray], np.ndarray],
    factors: Factorisation,
    x: np.ndarray,
    direction: np.ndarray,
    *,
    norm: float,
    size: float,
    target: float,
) -> Found | None:
    """The longest step along Newton's direction that is monotone, or None."""
    length = 1.0
    while length >= SHORTEST_STEP:
        candidate = x - length * direction
        r = residual(candidate)
        trial, factor = float(np.linalg.norm(r)), 1 - length / 4
        if trial <= max(factor * norm, target) or (math.isfinite(trial) and float(np.linalg.norm(factors.solve(r))) <= factor * size):
            return candidate, r, trial
        length /= 2
    return None


def _damped(residual: Callable[[np.ndarray], np.ndarray], T: np.ndarray, x: np.ndarray, r: np.ndarray, *, norm: float) -> Found | None:
    """The least damped step that lowers |R|^2 by some of what its slope promises, or None where it has no slope."""
    slope = T.T @ r
    if not (slope.any() and np.isfinite(T).all()):
        return None
    for damping in DAMPINGS:
        step = np.linalg.solve(T.T @ T + damping * np.sum(T**2) * np.eye(len(T)), slope)
        candidate = x - step
        r_candidate = residual(candidate)
        trial = float(np.linalg.norm(r_candidate))
        if trial**2 <= norm**2 - SUFFICIENT * float(slope @ step):
            return candidate, r_candidate, trial
    return None
