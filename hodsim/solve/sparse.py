"""Solvers for symmetric sparse matrices that share one pattern: the symbolic part is done once, a factorisation is numbers only.

`Banded` and `Sparse` factorise A = L D L^T with pivots of either sign, so that an indefinite tangent needs nothing special. `Banded`
renumbers for a narrow band: fastest while the band fits in memory. `Sparse` is QDLDL (Stellato et al. 2020) under a minimum-degree
ordering: it stores least. There is no pivoting; instead, every solution is checked against its equation. Where a factorisation takes
too long, `Iterative` takes over. `linear_solver` chooses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import qdldl
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from hodsim.solve import banded
from hodsim.solve.iterative import Iterative
from hodsim.solve.newton import Factorisation

LARGEST_BAND = 2**27  # numbers in a band, 1 GiB; below it Banded took a quarter to two thirds of Sparse's time, slender bodies and cubes alike
MOST_WORK = 2**30  # multiply-adds of a factorisation in a band, 0.1 s; above it Iterative solves to a thousandth in less time
LARGEST_DEFECT = 1e-3  # |A x - b| / |b| above it says that rounding has taken over: a condition number beyond 1e12


class LinearSolver(Protocol):
    """Solves with matrices on the one pattern it was made for."""

    def factor(self, data: np.ndarray, *, tolerance: float = 1e-10) -> Factorisation:
        """Prepare to solve with the matrix of CSR values data (nnz,) on the pattern; its solve takes (n,) or (n, k). It is kept where
        the one before lay, so that only the newest of a solver can solve.

        tolerance is the relative residual with which an iterative solver may end; direct ones go to the end of their digits.
        Raises numpy.linalg.LinAlgError, here or from solve, when the matrix is singular or not finite."""
        ...


def linear_solver(pattern: csr_matrix, *, order: np.ndarray | None = None, near_kernel: np.ndarray | None = None) -> LinearSolver:
    """The solver that suits a symmetric pattern (n, n) with sorted indices; its values do not matter.

    order (n,) is a numbering that may give a narrow band, e.g. along the axis of a body; it is taken if it is the narrowest.
    near_kernel (n, k) is what `Iterative` needs; without it a large matrix is factorised all the same."""
    order, bandwidth = _narrowest(pattern, order)
    n = pattern.shape[0]
    if near_kernel is not None and n * bandwidth**2 > MOST_WORK:
        return Iterative(pattern, near_kernel=near_kernel)
    return Banded(pattern, order=order) if n * bandwidth <= LARGEST_BAND else Sparse(pattern)


class Banded:
    """L D L^T within a band."""

    def __init__(self, pattern: csr_matrix, *, order: np.ndarray | None = None):
        self._order, self.bandwidth = _narrowest(pattern, order)
        self._pattern, n = pattern, pattern.shape[0]
        place = np.argsort(self._order)
        # row i of the upper CSR triangle is column i of the lower one: read and written from one end to the other
        columns, rows = place[np.repeat(np.arange(n), np.diff(pattern.indptr))], place[pattern.indices]
        width = self.bandwidth + 1 + banded.PADDING
        lower = np.flatnonzero(rows >= columns)
        target = (columns * width + rows - columns)[lower]
        along = np.argsort(target)
        self._source, self._target = lower[along], target[along]
        self._band, self._pivots = np.empty((n, width)), np.empty(n)
        self._newest = 0

    def factor(self, data: np.ndarray, *, tolerance: float = 1e-10) -> Factorisation:
        self._newest += 1
        banded.fill(data, self._source, self._target, self._band.ravel())
        if not banded.factor(self._band, self._pivots):
            raise _failure(data)
        return _Factor(self._pattern, data, partial(self._solve, self._newest), self._order)

    def _solve(self, number: int, rhs: np.ndarray) -> np.ndarray:
        _check_newest(number, self._newest)
        n, columns = len(rhs), rhs.reshape(len(rhs), -1).T
        padded = np.zeros((len(columns), n + self._band.shape[1]))
        padded[:, :n] = columns
        for x in padded:
            banded.solve(self._band, self._pivots, x)
        return padded[:, :n].T


class Sparse:
    """L D L^T of a sparse matrix."""

    def __init__(self, pattern: csr_matrix):
        self._pattern = pattern
        rows = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
        # row i of the lower CSR triangle is column i of the upper CSC triangle
        self._lower = np.flatnonzero(pattern.indices <= rows)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[self._lower], minlength=pattern.shape[0]))])
        self._upper = csc_matrix((np.zeros(len(self._lower)), pattern.indices[self._lower], indptr), pattern.shape)
        self._solver: qdldl.Solver | None = None
        self._order = np.arange(pattern.shape[0])
        self._newest = 0

    def factor(self, data: np.ndarray, *, tolerance: float = 1e-10) -> Factorisation:
        self._newest += 1
        if not np.isfinite(data).all():
            raise _failure(data)
        self._upper.data[:] = data[self._lower]
        try:
            if self._solver is None:
                self._solver = qdldl.Solver(self._upper, upper=True)
            else:
                self._solver.update(self._upper, upper=True)
        except RuntimeError:
            self._solver = None
            raise _failure(data) from None
        return _Factor(self._pattern, data, partial(self._solve, self._newest, self._solver), self._order)

    def _solve(self, number: int, solver: qdldl.Solver, rhs: np.ndarray) -> np.ndarray:
        _check_newest(number, self._newest)
        if rhs.ndim == 1:
            return solver.solve(rhs)
        return np.stack([solver.solve(column) for column in rhs.T], axis=1)


class _Factor:
    """A factorised matrix; solve works on unknowns in the given order."""

    def __init__(self, pattern: csr_matrix, data: np.ndarray, solve: Callable[[np.ndarray], np.ndarray], order: np.ndarray):
        self._matrix = copy.copy(pattern)
        self._matrix.data = data
        self._solve, self._order = solve, order

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        solution = np.empty(rhs.shape)
        solution[self._order] = self._solve(rhs[self._order]).reshape(rhs.shape)
        if not np.linalg.norm(self._matrix @ solution - rhs) <= LARGEST_DEFECT * np.linalg.norm(rhs):
            raise _failure(self._matrix.data)
        return solution


def _check_newest(number: int, newest: int) -> None:
    if number != newest:
        raise np.linalg.LinAlgError(f"factorisation {number} of this solver was replaced by number {newest}; only the newest can solve")


def _failure(data: np.ndarray) -> np.linalg.LinAlgError:
    fault = "is singular" if np.isfinite(data).all() else "holds values that are not finite"
    return np.linalg.LinAlgError(f"the sparse matrix {fault}; expected a regular one: is the body held, and is its state sound?")


def _narrowest(pattern: csr_matrix, order: np.ndarray | None) -> tuple[np.ndarray, int]:
    """The order that gives the narrower band, the one given or reverse Cuthill & McKee's, and its half bandwidth."""
    orders = [reverse_cuthill_mckee(pattern, symmetric_mode=True)] + ([] if order is None else [order])
    widths = [banded.bandwidth(pattern.indptr, pattern.indices, np.argsort(candidate)) for candidate in orders]
    narrowest = int(np.argmin(widths))
    return orders[narrowest], widths[narrowest]
