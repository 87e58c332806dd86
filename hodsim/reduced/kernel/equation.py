"""The equation of a step, Dg^T p = 0, with its exact tangent.

    variational      p = A g - b + dV/dg,                A = M/dt^2 + C/dt, the gradient of an incremental potential
    Euler-Lagrange   p = M g_a + C g_v - b + dV/dg       along v = s1 q + v0 and a = s2 q + a0 (HoD-Net, eq. 12)

With A (or M) = R^T R inertia takes part as an element whose strain is R g and whose stress is R g - c (or R g_a + R^-T C g_v - c),
c = R^-T b: the strains of R come after those of D, and one product serves both. So do those of springs, which pull points of the body to a place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hodsim.reduced.kernel.elastic import cubic_force, cubic_stiffness, element_energy, element_stiffness, element_stress
from hodsim.reduced.kernel.network import add_curvature, propagate_lanes, propagate_values, pull_back
from hodsim.reduced.kernel.plan import compiled, merged
from hodsim.reduced.kernel.product import apply, lanes_of_neurons, lanes_of_strains, project, square_of_lanes, square_of_neurons, strains_of

VARIATIONAL, EULER_LAGRANGE = 0, 1


class Equation(NamedTuple):
    form: int
    s1: float
    s2: float
    v0: np.ndarray  # (r,)
    a0: np.ndarray  # (r,)
    c: np.ndarray  # (k + s,), of inertia and of springs


@merged
def residual(plan, work, equation, q, R):
    """R (r,). Leaves behind what `tangent` and `potential` read."""
    strain, stress, p, values = work.strain, work.stress, work.p, work.values
    n9, inertial, variational = 9 * len(plan.volumes), len(plan.pull), equation.form == VARIATIONAL
    own = work.own if len(plan.mixing) else values
    v0, a0, c, dragged = equation.v0, equation.a0, equation.c, work.dragged
    for i in range(len(q)):
        own[0, i] = q[i]
        if not variational:
            own[1, i] = equation.s1 * q[i] + v0[i]
            own[2, i] = equation.s2 * q[i] + a0[i]
    propagate_values(plan, work, 1 if variational else 3)

    strains_of(plan.strain, values[0], strain)
    if not variational:
        apply(plan.root, values[2], strain[n9 : n9 + inertial])
        if len(plan.drag):
            apply(plan.drag, values[1], dragged)
            for i in range(inertial):
                strain[n9 + i] += dragged[i]
    for i in range(len(c)):
        stress[n9 + i] = strain[n9 + i] - c[i]
    if not len(plan.cubic):
        element_stress(plan, work)
    project(plan.strain, stress, p)
    if len(plan.cubic):
        cubic_force(plan, work, work.force)
        p += work.force
    pull_back(plan, work, p, R)


@merged
def tangent(plan, work, equation, T):
    """dR/dq (r, r) where the last residual was taken."""
    dF, dP, lanes, square, accelerated, drag = work.dF, work.dP, work.lanes, work.square[0], work.accelerated, work.drag
    n9, inertial, variational, damped = 9 * len(plan.volumes), len(plan.pull), equation.form == VARIATIONAL, len(plan.drag) > 0
    propagate_lanes(plan, work, 1 if variational else 3)
    lanes_of_strains(plan.strain, lanes[0], len(T), dF)
    if not len(plan.cubic):
        element_stiffness(plan, work)
    for k in range(len(T)):
        for i in range(n9, dF.shape[1]):
            dP[k, i] = dF[k, i]
    if not variational:
        lanes_of_neurons(plan.root, lanes[2], accelerated)
        if damped:
            lanes_of_neurons(plan.drag, lanes[1], drag)
        for i in range(inertial):
            for k in range(len(T)):
                dP[k, n9 + i] = accelerated[i, k] + (drag[i, k] if damped else 0.0)
    square_of_lanes(dF, dP, len(T), square)
    if len(plan.cubic):
        cubic_stiffness(plan, work)
        lanes_of_neurons(work.hessian, lanes[0], work.products)
        square_of_neurons(lanes[0], work.products, len(T), work.square[1])
        square += work.square[1]
    add_curvature(plan, work, square)
    for i in range(len(T)):
        for k in range(len(T)):
            T[i, k] = square[i, k]


@compiled
def potential(plan, work):
    """The incremental potential |R g - c|^2 / 2 + V of the variational form, springs included, where the last residual was taken."""
    quadratic = work.stress[9 * len(plan.volumes) :]
    elastic = 0.5 * np.dot(work.monomials[0], work.monomials[1]) if len(plan.cubic) else element_energy(plan, work)
    return 0.5 * np.dot(quadratic, quadratic) + elastic
