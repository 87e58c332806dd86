"""Newton's method with a line search, as in `solve.newton`, and a damped step where that has no answer.

A step is accepted if it is monotone in |R| or in the natural sense (Deuflhard 2011). Where the tangent T is singular, in the variational form
not positive definite, or where no length of its step is accepted, the step is taken from T + shift I (variational) or T^T T + shift I,
with a growing shift, until it lowers the incremental potential (variational) or |R|: which both these steps do if short enough.
"""

from __future__ import annotations

import numpy as np

from hodsim.reduced.kernel.dense import cholesky, cholesky_solve, largest, lu, lu_solve, norm
from hodsim.reduced.kernel.equation import VARIATIONAL, potential, residual, tangent
from hodsim.reduced.kernel.plan import merged

CONVERGED, ROUNDING, NOT_FINITE, TOO_MANY, NO_DECREASE = 0, 1, 2, 3, 4
SHORTEST_STEP, SQRT_EPSILON = 2.0**-20, 2.0**-26
SMALLEST_SHIFT, LARGEST_SHIFT = 1e-8, 1e3
FIRST, SEARCHING, SHIFTED, LAST = 0, 1, 2, 3  # what the residual is taken for: the guess, a trial, the base of a damped step, a last correction


@merged
def factor(equation, work, shift, size):
    """Factorise what the step is taken from; False if it is singular or, where it should be, not positive definite.

    The shift is in units of the tangent and, where that vanishes, of the residual's norm: as if q were of order one."""
    T, factors, normal = work.tangent[0], work.tangent[1], work.tangent[2]
    unit = largest(T) + size
    if equation.form == VARIATIONAL:
        return cholesky(T, shift * unit, factors)
    if shift == 0:
        return lu(T, factors, work.pivots)
    np.dot(T.T, T, normal)
    return cholesky(normal, shift * unit**2, factors)


@merged
def solve(equation, work, shift, R, x):
    x[:] = R
    if equation.form == VARIATIONAL:
        cholesky_solve(work.tangent[1], x)
    elif shift == 0:
        lu_solve(work.tangent[1], work.pivots, x)
    else:
        np.dot(work.tangent[0].T, R, x)
        cholesky_solve(work.tangent[1], x)


@merged
def newton(plan, work, equation, q, tolerance, max_iterations, history):
    """Solve the step's equation from the guess q (r,), in place. Returns how it ended and the number of iterations;
    history[: iterations + 1] are the norms of the residuals."""
    R, direction, trial, base = work.latent[0], work.latent[1], work.latent[2], work.latent[3]
    purpose, iterations = FIRST, 0
    shift, length, size, newton_size, energy, target = 0.0, 1.0, 0.0, 0.0, 0.0, 0.0
    trial[:] = q
    while True:
        residual(plan, work, equation, trial, R)
        trial_size = norm(R)
        merit = potential(plan, work) if shift > 0 and equation.form == VARIATIONAL else 0.0
        if purpose == SHIFTED:
            energy = merit
        else:
            if purpose == FIRST:
                if not np.isfinite(trial_size):
                    return NOT_FINITE, 0
                target = max(tolerance * trial_size, plan.rounding)
                accepted = True
            elif purpose == LAST or trial_size <= target:
                accepted = True
            elif not np.isfinite(trial_size):
                accepted = False
            elif shift == 0:
                accepted = trial_size <= (1 - length / 4) * size
                if not accepted:
                    solve(equation, work, shift, R, direction)
                    accepted = norm(direction) <= (1 - length / 4) * newton_size
            elif equation.form == VARIATIONAL:
                accepted = merit < energy
            else:
                accepted = trial_size < size

            if accepted:
                if purpose != FIRST:
                    iterations += 1
                history[iterations] = trial_size
                q[:], base[:], size = trial, R, trial_size
                if size <= target:
                    return CONVERGED, iterations
                if purpose == LAST:
                    return ROUNDING, iterations
                if iterations == max_iterations:
                    return TOO_MANY, iterations
                tangent(plan, work, equation, work.tangent[0])
                shift, length = 0.0, 1.0
            else:
                length /= 2
                if length < SHORTEST_STEP:
                    shift, length = max(10 * shift, SMALLEST_SHIFT), 1.0
        if length == 1:
            positive = factor(equation, work, shift, size)
            if not positive:
                shift = max(10 * shift, SMALLEST_SHIFT)
            if shift > LARGEST_SHIFT:
                return NO_DECREASE, iterations
            if shift > 0 and purpose != SHIFTED:  # the merit function at the base first
                trial[:] = q
                purpose = SHIFTED
                continue
            if not positive:
                continue
        solve(equation, work, shift, base, direction)
        if length == 1:
            newton_size = norm(direction)
        purpose = LAST if shift == 0 and length == 1 and newton_size <= SQRT_EPSILON * norm(q) else SEARCHING
        for i in range(len(q)):
            trial[i] = q[i] - length * direction[i]
