"""What a compiled step reads and what it overwrites: nothing is allocated within a step."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
UNWRAPPED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # only compiled functions call them
compiled = njit(**OPTIONS, **UNWRAPPED)  # pyright: ignore[reportCallIssue, reportArgumentType]  (options that numba has and its stub lacks)
merged = njit(inline="always", **OPTIONS)  # into its one caller: on its own it would be optimised twice

SILU, SQUARE = 0, 1  # activations
LANES = 8  # lanes come in multiples of it: what one vector instruction holds
NEURONS = 4  # room for neurons comes in multiples of it, and so many are done at a time


def digest(*files: str) -> str:
    """Of the sources that go into a compiled function. numba's cache on disk looks for changes in the function's own file alone; a function
    that closes over a digest of the others is compiled anew when one of them changes."""
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()


class Plan(NamedTuple):
    """What is constant, for r latent coordinates, m features, n elements and a given dt.

    Features that depend on one another linearly would be carried in vain: the m here are orthonormal mixtures B of the decoder's own M.

    Inertia is one element more: its matrix A = R^T R (M, or M/dt^2 + C/dt in the variational form) has the `strain` R g, and R^-T b stands for
    a force b."""

    widths: np.ndarray  # of the layers, from r on
    network: np.ndarray  # weights and bias of each layer, one after the other
    activation: int  # of every layer: SILU or SQUARE
    mixing: np.ndarray  # B (m, M), or (0, 0) where m = M and nothing is mixed
    laws: np.ndarray  # addresses of each material's stress, variation and energy (b, 3)
    constants: np.ndarray  # of each material (b, 3)
    ends: np.ndarray  # elements are in blocks of one material: where each ends (b,)
    strain: np.ndarray  # of each feature, by D, then R, then springs: 9 n + k + s, padded, in tiles (rows / ROWS, m, ROWS); in a block of n' elements
    #                     row (3 i + j) n' + e of D is F_ij of the e-th
    root: np.ndarray  # R (k, m)
    rest: np.ndarray  # F0 (9 n,), in blocks
    volumes: np.ndarray  # weighted (n,) [m^3]; elements of volume 0 fill a block up to whole vectors
    cubic: np.ndarray  # K (N, N) over the monomials of a cubic potential, or (0, 0)
    pull: np.ndarray  # R^-T B (k, M), of forces on the decoder's own features
    drag: np.ndarray  # R^-T C (k, m), or (0, m) without damping
    momentum: np.ndarray  # R^-T M / dt^2 (k, m)
    tethers: np.ndarray  # where the springs' strains have no force (s,)
    gauge: np.ndarray  # G (m, m): |G p| is how far, in the norm of M, one Newton step with every feature free would go
    rounding: float  # a residual below it is rounding


class Work(NamedTuple):
    """What a step overwrites; L lanes, w the widest layer, `own` for the decoder's own features before they are mixed."""

    z: np.ndarray  # each layer before its activation (layers, 3, w)
    y: np.ndarray  # and after it
    slopes: np.ndarray  # s', s'', s''' (layers, 3, w)
    before: np.ndarray  # lanes of z (layers, 3, w, L)
    after: np.ndarray  # lanes of y
    adjoint: np.ndarray  # of y (layers, w)
    scaled: np.ndarray  # of z (w,)
    own: np.ndarray  # (3, M)
    own_lanes: np.ndarray  # (3, M, L)
    own_p: np.ndarray  # (M,)
    values: np.ndarray  # of the features (3, m)
    lanes: np.ndarray  # (3, m, L)
    p: np.ndarray  # unbalanced force on the features (m,)
    force: np.ndarray  # a cubic potential's part of it (m,)
    strain: np.ndarray  # values of F, of inertia and of springs, as in the plan
    stress: np.ndarray  # likewise, weighted
    dragged: np.ndarray  # (k,)
    dF: np.ndarray  # lanes of the strain, by lane (L, strains)
    dP: np.ndarray  # and of the stress
    accelerated: np.ndarray  # lanes of R g_a (k, L)
    drag: np.ndarray  # and of R^-T C g_v
    monomials: np.ndarray  # y and K y (2, N)
    slants: np.ndarray  # K dy/dg_i (m, N)
    hessian: np.ndarray  # of a cubic potential (m, m)
    products: np.ndarray  # (m, L)
    square: np.ndarray  # (2, L, L)
    latent: np.ndarray  # (4, r)
    tangent: np.ndarray  # with its factors, and a square of it (3, r, r)
    pivots: np.ndarray  # (r,)


@compiled
def workspace(plan):
    widths, N = plan.widths, len(plan.cubic)
    layers, w, r, k, M = len(widths) - 1, NEURONS * ((widths.max() + NEURONS - 1) // NEURONS), widths[0], len(plan.pull), plan.mixing.shape[1]
    L = LANES * ((r + LANES - 1) // LANES)
    tiles, m, size = plan.strain.shape
    rows = tiles * size
    of_cubic = m if N > 0 else 0
    return Work(
        np.zeros((layers, 3, w)),
        np.zeros((layers, 3, w)),
        np.zeros((layers, 3, w)),
        np.zeros((layers, 3, w, L)),
        np.zeros((layers, 3, w, L)),
        np.zeros((layers, w)),
        np.zeros(w),
        np.zeros((3, M)),
        np.zeros((3, M, L)),
        np.zeros(M),
        np.zeros((3, m)),
        np.zeros((3, m, L)),
        np.zeros(m),
        np.zeros(m),
        np.zeros(rows),
        np.zeros(rows),
        np.zeros(k),
        np.zeros((L, rows)),
        np.zeros((L, rows)),
        np.zeros((k, L)),
        np.zeros((k, L)),
        np.zeros((2, N)),
        np.zeros((of_cubic, N)),
        np.zeros((of_cubic, of_cubic)),
        np.zeros((m, L)),
        np.zeros((2, L, L)),
        np.zeros((4, r)),
        np.zeros((3, r, r)),
        np.zeros(r, np.int64),
    )


# numba counts the references to an array atomically, and to each array of a tuple at each call that takes it: a third of the time of a step.
# What does not own its memory is not counted.


@intrinsic
def _pointer(typing, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(address), generate


@compiled
def lent(a) -> np.ndarray:
    """The same memory as a float64 array that does not own it: whoever lends it keeps it alive."""
    return numba.carray(_pointer(a.ctypes.data), a.shape)  # pyright: ignore[reportCallIssue, reportPrivateImportUsage]


@compiled
def lent_plan(plan):
    return Plan(
        plan.widths,
        lent(plan.network),
        plan.activation,
        lent(plan.mixing),
        plan.laws,
        lent(plan.constants),
        plan.ends,
        lent(plan.strain),
        lent(plan.root),
        lent(plan.rest),
        lent(plan.volumes),
        lent(plan.cubic),
        lent(plan.pull),
        lent(plan.drag),
        lent(plan.momentum),
        lent(plan.tethers),
        lent(plan.gauge),
        plan.rounding,
    )


@compiled
def lent_work(work):
    return Work(
        lent(work.z),
        lent(work.y),
        lent(work.slopes),
        lent(work.before),
        lent(work.after),
        lent(work.adjoint),
        lent(work.scaled),
        lent(work.own),
        lent(work.own_lanes),
        lent(work.own_p),
        lent(work.values),
        lent(work.lanes),
        lent(work.p),
        lent(work.force),
        lent(work.strain),
        lent(work.stress),
        lent(work.dragged),
        lent(work.dF),
        lent(work.dP),
        lent(work.accelerated),
        lent(work.drag),
        lent(work.monomials),
        lent(work.slants),
        lent(work.hessian),
        lent(work.products),
        lent(work.square),
        lent(work.latent),
        lent(work.tangent),
        work.pivots,
    )
