"""Dense linear algebra of the size of the latent space, without allocation."""

from __future__ import annotations

import numpy as np

from hodsim.reduced.kernel.plan import compiled

VANISHING = 1e-14  # a pivot below it, relative to the matrix, is rounding


@compiled
def cholesky(A, shift, L):
    """The lower factor of A + shift I; False if that is not positive definite."""
    n = len(A)
    smallest = VANISHING * np.abs(A).max()
    for j in range(n):
        for i in range(j, n):
            total = A[i, j] + (shift if i == j else 0.0)
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i > j:
                L[i, j] = total / L[j, j]
            elif total > smallest:
                L[j, j] = np.sqrt(total)
            else:
                return False
    return True


@compiled
def cholesky_solve(L, x):
    n = len(x)
    for i in range(n):
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]


@compiled
def lu(A, LU, pivots):
    """The factors of A with row exchanges; False if a pivot vanishes."""
    n = len(A)
    LU[:] = A
    smallest = VANISHING * np.abs(A).max()
    for j in range(n):
        pivot = j
        for i in range(j + 1, n):
            if abs(LU[i, j]) > abs(LU[pivot, j]):
                pivot = i
        pivots[j] = pivot
        if not abs(LU[pivot, j]) > smallest:
            return False
        for k in range(n):
            LU[j, k], LU[pivot, k] = LU[pivot, k], LU[j, k]
        for i in range(j + 1, n):
            LU[i, j] /= LU[j, j]
            for k in range(j + 1, n):
                LU[i, k] -= LU[i, j] * LU[j, k]
    return True


@compiled
def lu_solve(LU, pivots, x):
    n = len(x)
    for j in range(n):
        x[j], x[pivots[j]] = x[pivots[j]], x[j]
    for i in range(n):
        for k in range(i):
            x[i] -= LU[i, k] * x[k]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= LU[i, k] * x[k]
        x[i] /= LU[i, i]


@compiled
def norm(x):
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i]
    return np.sqrt(total)


@compiled
def largest(A):
    """In size, of the entries of A (n, m)."""
    found = 0.0
    for row in A:
        for value in row:
            found = max(found, abs(value))
    return found
