"""L D L^T factorisation of symmetric banded matrices, compiled: A = L D L^T with L unit lower triangular and pivots D of either sign.

A matrix of n unknowns and half bandwidth w lies by columns in band (n, w + 1 + PADDING): band[j, d] = A[j + d, j], zero beyond the matrix
and beyond w. Four columns at a time are factorised and then subtracted from the rest, so that each load and store serves four products;
loops run over whole vectors of eight and may end in the padding. LAPACK's dpbtrf takes half as long again on one core, and
a hundred times as long when its threads wait for each other on a busy machine. Golub & Van Loan 2013, sections 4.1 and 4.3.
"""

from __future__ import annotations

from numba import njit

PADDING = 11

compiled = njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})


@compiled
def bandwidth(indptr, indices, place):
    """The half bandwidth of a symmetric CSR pattern whose unknown i gets the number place[i]."""
    widest = 0
    for i in range(indptr.size - 1):
        for k in range(indptr[i], indptr[i + 1]):
            widest = max(widest, place[i] - place[indices[k]])
    return widest


@compiled
def fill(data, source, target, band):
    """Set band, flat, to zero but for band[target[i]] = data[source[i]]."""
    for i in range(band.size):
        band[i] = 0.0
    for i in range(source.size):
        band[target[i]] = data[source[i]]


@compiled
def factor(band, pivots):
    """Replace band by L and write D to pivots (n,). Returns False at a pivot that is zero or not a number."""
    n, w = band.shape[0], band.shape[1] - 1 - PADDING
    for j in range(0, n, 4):
        last = min(j + 4, n)
        for k in range(j, last):
            column = band[k]
            for p in range(j, k):
                before = band[p, k - p :]
                a = before[0] * pivots[p]
                for d in range(_whole(w + 1)):
                    column[d] -= a * before[d]
            pivots[k] = column[0]
            if not abs(pivots[k]) > 0:
                return False
            inverse = 1 / pivots[k]
            for d in range(_whole(w + 1)):
                column[d] *= inverse
        for k in range(last, min(last + w, n)):  # empty for the last columns
            m = k - j
            column, L0, L1, L2, L3 = band[k], band[j, m:], band[j + 1, m - 1 :], band[j + 2, m - 2 :], band[j + 3, m - 3 :]
            a0, a1, a2, a3 = L0[0] * pivots[j], L1[0] * pivots[j + 1], L2[0] * pivots[j + 2], L3[0] * pivots[j + 3]
            for d in range(_whole(w + 4 - m)):
                column[d] -= a0 * L0[d] + a1 * L1[d] + a2 * L2[d] + a3 * L3[d]
    return True


@compiled
def solve(band, pivots, x):
    """Replace x by A^-1 x; x (n + band.shape[1],) is the right-hand side followed by zeros."""
    n, w = band.shape[0], band.shape[1] - 1 - PADDING
    for j in range(n):
        below, rest, value = band[j, 1:], x[j + 1 :], x[j]
        for d in range(_whole(w)):
            rest[d] -= below[d] * value
    for j in range(n - 1, -1, -1):
        below, rest, total = band[j, 1:], x[j + 1 :], 0.0
        for d in range(_whole(w)):
            total += below[d] * rest[d]
        x[j] = x[j] / pivots[j] - total


@compiled
def _whole(length):
    return 8 * ((length + 7) // 8)
