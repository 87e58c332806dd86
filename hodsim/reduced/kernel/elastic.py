"""The elastic potential in lanes: of sampled elements, or the cubic polynomial force of a linear subspace.

The deformation gradients of the elements are affine in the features, F = F0 + D g, so that J^T f_int and J^T K J are products of the lanes
of F with the stress and with its variation along those lanes.

In a linear subspace the Green strain is quadratic in g, so that the energy of StVK is a quadratic form of the monomials y = (1, g_i, g_i g_j
with i <= j): V = y . K y / 2, exactly (Barbic & James 2005 expand it into a cubic force; the factored form costs less).
"""

from __future__ import annotations

import numpy as np

from hodsim.reduced.kernel.laws import ENERGY, STRESS, VARIATION, call
from hodsim.reduced.kernel.plan import compiled, merged

DOUBLE = 8  # bytes


@compiled
def call_laws(plan, work, which, out, size):
    """Call each block's law, where each element has so many numbers of what is written."""
    r, F, dF, c, first = plan.widths[0], work.strain, work.dF, plan.constants, 0  # the r lanes, not those that are padding
    for block in range(len(plan.ends)):
        n, at = plan.ends[block] - first, DOUBLE * first
        call(  # pyright: ignore[reportCallIssue]  (an intrinsic has no context to be given)
            plan.laws[block, which], F.ctypes.data + 9 * at, dF.ctypes.data + 9 * at, plan.volumes.ctypes.data + at,
            c.ctypes.data + DOUBLE * c.shape[1] * block, out.ctypes.data + size * at, n, r, dF.shape[1]
        )  # fmt: skip
        first = plan.ends[block]


@merged
def element_stress(plan, work):
    """P of the elements times their weighted volumes, from D g, which becomes F."""
    for i in range(len(plan.rest)):
        work.strain[i] += plan.rest[i]
    call_laws(plan, work, STRESS, work.stress, 9)


@merged
def element_stiffness(plan, work):
    """The variation of the weighted P along each lane of F."""
    call_laws(plan, work, VARIATION, work.dP, 9)


@compiled
def element_energy(plan, work):
    density = work.dP.reshape(-1)[: len(plan.volumes)]  # which the next tangent overwrites
    call_laws(plan, work, ENERGY, density, 1)
    return np.dot(plan.volumes, density)


@compiled
def cubic_force(plan, work, force):
    """dV/dg (m,)."""
    g, y, Ky = work.values[0], work.monomials[0], work.monomials[1]
    m = len(g)
    y[0] = 1.0
    at = 1 + m
    for i in range(m):
        y[1 + i] = g[i]
        for j in range(i, m):
            y[at] = g[i] * g[j]
            at += 1
    np.dot(plan.cubic, y, Ky)
    force[:] = Ky[1 : 1 + m]
    at = 1 + m
    for i in range(m):
        for j in range(i, m):
            force[i] += g[j] * Ky[at]
            force[j] += g[i] * Ky[at]
            at += 1


@compiled
def cubic_stiffness(plan, work):
    """Write d^2 V/dg^2 to work.hessian, where the last cubic_force was taken."""
    g, Ky, K, H, slants = work.values[0], work.monomials[1], plan.cubic, work.hessian, work.slants
    m = len(g)
    slants[:] = K[1 : 1 + m]
    at = 1 + m
    for i in range(m):
        for j in range(i, m):
            for a in range(len(K)):
                slants[i, a] += g[j] * K[at, a]
                slants[j, a] += g[i] * K[at, a]
            at += 1
    H[:] = slants[:, 1 : 1 + m]
    for k in range(m):
        at = 1 + m
        for i in range(m):
            for j in range(i, m):
                H[k, i] += g[j] * slants[k, at]
                H[k, j] += g[i] * slants[k, at]
                at += 1
    at = 1 + m
    for i in range(m):
        for j in range(i, m):
            H[i, j] += Ky[at]
            H[j, i] += Ky[at]
            at += 1
