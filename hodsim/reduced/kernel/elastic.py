"""The elastic potential in lanes: of sampled elements, or the cubic polynomial force of a linear subspace.

The deformation gradients of the elements are affine in the features, F = F0 + D g, so that J^T f_int and J^T K J are products of the lanes
of F with the stress and with its variation along those lanes.

In a linear subspace the Green strain is quadratic in g, so that the energy of StVK is a quadratic form of the monomials y = (1, g_i, g_i g_j
with i <= j): V = y . K y / 2, exactly (Barbic & James 2005 expand it into a cubic force; the factored form costs less).
"""

from __future__ import annotations

import numpy as np

from hodsim.fem import kernels
from hodsim.reduced.kernel.plan import NEO_HOOKEAN, STVK, compiled


@compiled
def element_stress(plan, work):
    """P of the elements times their weighted volumes, from D g, which becomes F."""
    n, c, volumes, strain, rest = len(plan.volumes), plan.constants, plan.volumes, work.strain, plan.rest
    for i in range(9 * n):
        strain[i] += rest[i]
    F, P = strain[: 9 * n].reshape(3, 3, n), work.stress[: 9 * n].reshape(3, 3, n)
    if plan.law == STVK:
        kernels.stvk_stress(F, c[0], c[1], P)
    elif plan.law == NEO_HOOKEAN:
        kernels.neo_hookean_stress(F, c[0], c[1], P)
    else:
        kernels.stable_neo_hookean_stress(F, c[0], c[1], c[2], P)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                P[i, j, e] *= volumes[e]


@compiled
def element_stiffness(plan, work):
    """The variation of the weighted P along each lane of F."""
    n, c, r = len(plan.volumes), plan.constants, plan.widths[0]
    F, dF, dP = work.strain[: 9 * n].reshape(3, 3, n), work.dF[:r], work.dP[:r]  # not those that are padding
    if plan.law == STVK:
        kernels.stvk_variation(F, dF, plan.volumes, c[0], c[1], dP)
    elif plan.law == NEO_HOOKEAN:
        kernels.neo_hookean_variation(F, dF, plan.volumes, c[0], c[1], dP)
    else:
        kernels.stable_neo_hookean_variation(F, dF, plan.volumes, c[0], c[1], c[2], dP)


@compiled
def element_energy(plan, work):
    n, c = len(plan.volumes), plan.constants
    F, density = work.strain[: 9 * n].reshape(3, 3, n), work.dP.reshape(-1)[:n]  # which the next tangent overwrites
    if plan.law == STVK:
        kernels.stvk_energy(F, c[0], c[1], density)
    elif plan.law == NEO_HOOKEAN:
        kernels.neo_hookean_energy(F, c[0], c[1], density)
    else:
        kernels.stable_neo_hookean_energy(F, c[0], c[1], c[2], density)
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
