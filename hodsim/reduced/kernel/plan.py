"""What a compiled step reads and what it overwrites: nothing is allocated within a step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
compiled = njit(**OPTIONS)

STVK, NEO_HOOKEAN, STABLE_NEO_HOOKEAN, CUBIC = 0, 1, 2, 3
LANES = 8  # lanes come in multiples of it: what one vector instruction holds


class Plan(NamedTuple):
    """What is constant, for r latent coordinates, m features, n elements and a given dt.

    Inertia is one element more: its matrix A = R^T R (M, or M/dt^2 + C/dt in the variational form) has the `strain` R g, and R^-T b stands for
    a force b."""

    widths: np.ndarray  # of the layers, from r on
    network: np.ndarray  # weights and bias of each layer, one after the other
    law: int  # the material, or CUBIC
    constants: np.ndarray  # of the material (3,)
    strain: np.ndarray  # D over R over springs (9 n + k + s, m); row (3 i + j) n + e of D is for F_ij of element e
    rest: np.ndarray  # F0 (9 n,)
    volumes: np.ndarray  # weighted (n,) [m^3]
    cubic: np.ndarray  # K (N, N) over the monomials of a CUBIC potential
    pull: np.ndarray  # R^-T (k, m)
    drag: np.ndarray  # R^-T C (k, m), or (0, m) without damping
    momentum: np.ndarray  # R^-T M / dt^2 (k, m)
    tethers: np.ndarray  # where the springs' strains have no force (s,)
    rounding: float  # a residual below it is rounding


class Work(NamedTuple):
    """What a step overwrites; L lanes, w the widest layer."""

    before: np.ndarray  # each layer before its activation (layers, 3, w, L)
    after: np.ndarray  # and after it
    slopes: np.ndarray  # s' and s'' (layers, 2, w)
    adjoint: np.ndarray  # (layers, w)
    features: np.ndarray  # (3, m, L)
    value: np.ndarray  # of the features (m,)
    p: np.ndarray  # unbalanced force in feature space (m,)
    F: np.ndarray  # (9 n + k + s, L)
    dP: np.ndarray  # likewise, weighted
    drag: np.ndarray  # (k, L)
    deformation: np.ndarray  # values of F (9 n,)
    stress: np.ndarray  # values of P (9 n + k + s,), weighted
    monomials: np.ndarray  # y and K y (2, N)
    slants: np.ndarray  # K dy/dg_i (m, N)
    hessian: np.ndarray  # of a CUBIC potential (m, m)
    products: np.ndarray  # (m, L)
    square: np.ndarray  # (2, L, L)
    lanes: np.ndarray  # (L,)
    latent: np.ndarray  # (4, r)
    tangent: np.ndarray  # with its factors, and a square of it (3, r, r)
    pivots: np.ndarray  # (r,)


@compiled
def workspace(plan):
    widths, n, N = plan.widths, len(plan.volumes), len(plan.cubic)
    layers, w, r = len(widths) - 1, widths.max(), widths[0]
    L = LANES * ((r + LANES) // LANES)
    rows, m = plan.strain.shape
    of_cubic = m if N > 0 else 0
    return Work(
        np.zeros((layers, 3, w, L)),
        np.zeros((layers, 3, w, L)),
        np.zeros((layers, 2, w)),
        np.zeros((layers, w)),
        np.zeros((3, m, L)),
        np.zeros(m),
        np.zeros(m),
        np.zeros((rows, L)),
        np.zeros((rows, L)),
        np.zeros((len(plan.pull), L)),
        np.zeros(9 * n),
        np.zeros(rows),
        np.zeros((2, N)),
        np.zeros((of_cubic, N)),
        np.zeros((of_cubic, of_cubic)),
        np.zeros((m, L)),
        np.zeros((2, L, L)),
        np.zeros(L),
        np.zeros((4, r)),
        np.zeros((3, r, r)),
        np.zeros(r, np.int64),
    )
