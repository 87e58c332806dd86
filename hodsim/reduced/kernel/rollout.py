"""Whole trajectories: the entry points of the kernel, cached on disk."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
from numba import njit

from hodsim.reduced.kernel.dense import norm
from hodsim.reduced.kernel.equation import VARIATIONAL, Equation, residual, tangent
from hodsim.reduced.kernel.network import propagate_values, seed
from hodsim.reduced.kernel.newton import CONVERGED, ROUNDING, newton
from hodsim.reduced.kernel.plan import OPTIONS, digest, lent_plan, lent_work, merged, workspace
from hodsim.reduced.kernel.product import apply, apply_transposed


@merged
def roll(plan, work, form, rates, dt, history, started, forces, tolerance, max_iterations, states, iterations, norms, defects):
    """Step through forces (steps, M) on the decoder's own features from history (5, r), rows q, v, a, and q, v a step earlier (if started),
    and keep that up to date.

    rates[started] are the scheme's maps: v0 = rates[s, 0, :5] . history and s1 = rates[s, 0, 5], a0 and s2 likewise in rates[s, 1]. Writes
    states (steps, 3, r), rows q, v, a, the Newton iterations (steps,), the norms of the last step's residuals, and the defects |G p| (steps,).
    Returns how many steps were done and how the last one ended."""
    steps, m = len(forces), plan.strain.shape[1]
    r, k = history.shape[1], len(plan.pull)
    q, v0, a0, term, c = np.empty(r), np.zeros(r), np.zeros(r), np.empty(k), np.empty(k + len(plan.tethers))
    inertial = c[:k]
    c[k:] = plan.tethers
    now, before, predicted = np.zeros(m), np.zeros(m), np.empty(m)
    damped = len(plan.drag) > 0
    own = work.own if len(plan.mixing) else work.values
    seed(plan, work, 0, 1.0)
    if form == VARIATIONAL:
        for past in range(2):  # g a step earlier, then now
            own[0, :r], own[1, :r], own[2, :r] = history[3 - 3 * past], history[4 - 3 * past], 0.0
            propagate_values(plan, work, 3)
            before[:] = now
            now[:] = work.values[0]
        if not started:  # a first step has a velocity instead of a past
            for i in range(m):
                before[i] = now[i] - dt * work.values[1, i]
    for step in range(steps):
        table = rates[1 if started else 0]
        apply_transposed(history, table[0, :5], v0)
        apply_transposed(history, table[1, :5], a0)
        apply(plan.pull, forces[step], inertial)
        if form == VARIATIONAL:
            for i in range(m):
                predicted[i] = 2 * now[i] - before[i]
            apply(plan.momentum, predicted, term)
            inertial += term
            if damped:
                for i in range(m):
                    predicted[i] = now[i] / dt
                apply(plan.drag, predicted, term)
                inertial += term
        else:
            seed(plan, work, 1, table[0, 5])
            seed(plan, work, 2, table[1, 5])
        equation = Equation(form, table[0, 5], table[1, 5], v0, a0, c)
        for i in range(r):
            q[i] = history[0, i] + dt * history[1, i]
        ended, iterations[step] = newton(plan, work, equation, q, tolerance, max_iterations, norms)
        if ended > ROUNDING:
            return step, ended
        for i in range(r):
            history[3, i], history[4, i] = history[0, i], history[1, i]
            history[0, i], history[1, i], history[2, i] = q[i], table[0, 5] * q[i] + v0[i], table[1, 5] * q[i] + a0[i]
        states[step] = history[:3]
        apply(plan.gauge, work.p, predicted)
        defects[step] = norm(predicted)
        started = True
        before[:] = now
        now[:] = work.values[0]
    return steps, CONVERGED


def entries(sources):
    """The functions that Python calls; they close over a digest of the files they are compiled from."""

    @njit(cache=True, nogil=True, **OPTIONS)
    def rollouts(plan, form, rates, dt, histories, started, forces, tolerance, max_iterations, states, iterations, norms, defects, done, ended):
        """B trajectories, one after the other, without Python's lock: its threads may each do a share at the same time."""
        # not by prange: numba takes for dead there what is written to an array and read from it by another name
        _ = sources
        work = workspace(plan)
        lent, within = lent_plan(plan), lent_work(work)
        for b in range(len(histories)):
            done[b], ended[b] = roll(
                lent, within, form, rates, dt, histories[b], started, forces[b], tolerance, max_iterations,
                states[b], iterations[b], norms[b], defects[b],
            )  # fmt: skip
        work.pivots[0] = len(plan.strain)  # both are needed to the end

    @njit(cache=True, **OPTIONS)
    def evaluate(plan, equation, q, R, T):
        _ = sources
        work = workspace(plan)
        seed(plan, work, 0, 1.0)
        seed(plan, work, 1, equation.s1)
        seed(plan, work, 2, equation.s2)
        residual(plan, work, equation, q, R)
        tangent(plan, work, equation, T)

    return rollouts, evaluate


rollouts, evaluate = entries(digest(*sorted(map(str, Path(__file__).parent.glob("*.py")))))


def is_compiled(entry, arguments: tuple) -> bool:
    """Whether a call of an entry point with such arguments finds it compiled, in memory or in numba's cache on disk."""
    signature = tuple(map(numba.typeof, arguments))
    return signature in entry.overloads or entry._cache.load_overload(signature, entry.targetctx) is not None
