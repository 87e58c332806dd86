"""The equation of a step, Dg^T p = 0, with its exact tangent.

    variational      p = A g - b + dV/dg,                A = M/dt^2 + C/dt, the gradient of an incremental potential
    Euler-Lagrange   p = M g_a + C g_v - b + dV/dg       along v = s1 q + v0 and a = s2 q + a0 (HoD-Net, eq. 12)

With A (or M) = R^T R inertia takes part as an element whose strain is R g and whose stress is R g - c (or R g_a + R^-T C g_v - c),
c = R^-T b: the rows of R lie below those of D, and one product serves both. So do those of springs, which pull points of the body to a place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hodsim.reduced.kernel.elastic import cubic_force, cubic_stiffness, element_energy, element_stiffness, element_stress
from hodsim.reduced.kernel.network import add_curvature, propagate
from hodsim.reduced.kernel.plan import CUBIC, compiled

VARIATIONAL, EULER_LAGRANGE = 0, 1


class Equation(NamedTuple):
    form: int
    s1: float
    s2: float
    v0: np.ndarray  # (r,)
    a0: np.ndarray  # (r,)
    c: np.ndarray  # (k + s,), of inertia and of springs


@compiled
def residual(plan, work, equation, q, R):
    """R (r,). Leaves behind what `tangent` and `potential` read. The seeds of the derivatives are set already."""
    r, features, strain, stress, dP = len(q), work.features, work.F, work.stress, work.dP
    n9, k_rows, variational = 9 * len(plan.volumes), len(plan.pull), equation.form == VARIATIONAL
    for i in range(r):
        features[0, i, 0] = q[i]
        if not variational:
            features[1, i, 0] = equation.s1 * q[i] + equation.v0[i]
            features[2, i, 0] = equation.s2 * q[i] + equation.a0[i]
    propagate(plan, work, 1 if variational else 3)

    np.dot(plan.strain, features[0], strain)
    if plan.law != CUBIC:
        element_stress(plan, work)
    if not variational:
        np.dot(plan.strain[n9 : n9 + k_rows], features[2], dP[n9 : n9 + k_rows])
        if len(plan.drag):
            np.dot(plan.drag, features[1], work.drag)
    for i in range(len(equation.c)):
        for k in range(strain.shape[1]):
            if variational or i >= k_rows:
                dP[n9 + i, k] = strain[n9 + i, k]
            elif len(plan.drag):
                dP[n9 + i, k] += work.drag[i, k]
        stress[n9 + i] = dP[n9 + i, 0] - equation.c[i]
    np.dot(strain.T, stress, work.lanes)
    for k in range(r):
        R[k] = work.lanes[1 + k]
    if plan.law == CUBIC:
        for i in range(len(work.value)):
            work.value[i] = features[0, i, 0]
        cubic_force(plan, work, work.p)
        np.dot(features[0].T, work.p, work.lanes)
        for k in range(r):
            R[k] += work.lanes[1 + k]


@compiled
def tangent(plan, work, equation, T):
    """dR/dq (r, r) where the last residual was taken."""
    r, features, square, p = len(T), work.features, work.square, work.p
    if plan.law != CUBIC:
        element_stiffness(plan, work)
    np.dot(work.F.T, work.dP, square[0])
    if plan.law == CUBIC:
        cubic_stiffness(plan, work)
        np.dot(work.hessian, features[0], work.products)
        np.dot(features[0].T, work.products, square[1])
        square[0] += square[1]
    if len(plan.widths) > 1:
        if plan.law == CUBIC:
            work.value[:] = p
            np.dot(plan.strain.T, work.stress, p)
            p += work.value
        else:
            np.dot(plan.strain.T, work.stress, p)
        add_curvature(plan, work, p, square[0])
    for i in range(r):
        for k in range(r):
            T[i, k] = square[0, 1 + i, 1 + k]


@compiled
def potential(plan, work):
    """The incremental potential |R g - c|^2 / 2 + V of the variational form, where the last residual was taken."""
    inertia = work.stress[9 * len(plan.volumes) :]
    elastic = 0.5 * np.dot(work.monomials[0], work.monomials[1]) if plan.law == CUBIC else element_energy(plan, work)
    return 0.5 * np.dot(inertia, inertia) + elastic
