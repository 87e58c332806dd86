"""Direct solvers for symmetric sparse matrices that share one pattern: the symbolic part is done once, a factorisation is numbers only.

`Banded` renumbers by reverse Cuthill-McKee and uses LAPACK's banded Cholesky factorisation, or banded LU when the matrix is not positive
definite: best for slender bodies. `Sparse` is the L D L^T factorisation of QDLDL (Stellato et al. 2020) under a minimum-degree
ordering: best for the rest. `direct_solver` chooses.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import qdldl
import scipy.linalg.lapack as lapack
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from hodsim.solve.newton import Factorisation

WIDEST_BAND = 400  # above it a banded factor costs more than a sparse one, measured on boxes of 1500 to 15000 unknowns


class DirectSolver(Protocol):
    """Factorises matrices on the one pattern it was made for."""

    def factor(self, data: np.ndarray) -> Factorisation:
        """Factorise the matrix with CSR values data (nnz,) on the pattern.

        Raises numpy.linalg.LinAlgError when it is singular or not finite."""
        ...


def direct_solver(pattern: csr_matrix) -> DirectSolver:
    """The solver that suits a symmetric pattern (n, n) with sorted indices; its values do not matter."""
    banded = Banded(pattern)
    return banded if banded.bandwidth <= WIDEST_BAND else Sparse(pattern)


class Banded:
    """Banded Cholesky, or LU where the matrix is indefinite."""

    def __init__(self, pattern: csr_matrix):
        self._order = reverse_cuthill_mckee(csr_matrix(pattern), symmetric_mode=True)
        place = np.argsort(self._order)
        rows = place[np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))]
        columns = place[pattern.indices]
        self.bandwidth = int((rows - columns).max(initial=0))
        self._lower = np.flatnonzero(rows >= columns)
        self._rows, self._columns = rows, columns
        # LAPACK's lower band in Fortran order: column j holds rows j .. j + bandwidth
        self._target = (columns * (self.bandwidth + 1) + rows - columns)[self._lower]
        self._shape = (pattern.shape[0], self.bandwidth + 1)

    def factor(self, data: np.ndarray) -> Factorisation:
        band = np.zeros(self._shape)
        band.ravel()[self._target] = data[self._lower]
        factor, info = lapack.dpbtrf(band.T, lower=True, overwrite_ab=True)
        if info == 0 and np.isfinite(factor[0]).all():
            return _BandedCholesky(factor, self._order)
        return self._factor_indefinite(data)

    def _factor_indefinite(self, data: np.ndarray) -> Factorisation:
        width = self.bandwidth
        band = np.zeros((3 * width + 1, self._shape[0]), order="F")
        band[2 * width + self._rows - self._columns, self._columns] = data
        factor, pivots, info = lapack.dgbtrf(band, width, width, overwrite_ab=True)
        _check(info == 0 and np.isfinite(factor[2 * width]).all(), self._shape[0], data)
        return _BandedLU(factor, pivots, width, self._order)


class _BandedCholesky:
    def __init__(self, factor: np.ndarray, order: np.ndarray):
        self._factor, self._order = factor, order

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        ordered, _ = lapack.dpbtrs(self._factor, rhs[self._order], lower=True, overwrite_b=True)
        return _scatter(self._order, ordered, rhs)


class _BandedLU:
    def __init__(self, factor: np.ndarray, pivots: np.ndarray, width: int, order: np.ndarray):
        self._factor, self._pivots, self._width, self._order = factor, pivots, width, order

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        ordered, _ = lapack.dgbtrs(self._factor, self._width, self._width, rhs[self._order], self._pivots)
        return _scatter(self._order, ordered, rhs)


def _scatter(order: np.ndarray, ordered: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    solution = np.empty(rhs.shape)
    solution[order] = ordered.reshape(rhs.shape)
    return solution


class Sparse:
    """L D L^T with pivots of either sign, by QDLDL. Each factorisation replaces the one before: solve with the newest only."""

    def __init__(self, pattern: csr_matrix):
        rows = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
        # row i of the lower CSR triangle is column i of the upper CSC triangle
        self._lower = np.flatnonzero(pattern.indices <= rows)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[self._lower], minlength=pattern.shape[0]))])
        self._upper = csc_matrix((np.zeros(len(self._lower)), pattern.indices[self._lower], indptr), pattern.shape)
        self._solver: qdldl.Solver | None = None

    def factor(self, data: np.ndarray) -> Factorisation:
        self._upper.data[:] = data[self._lower]
        n = self._upper.shape[0]
        _check(bool(np.isfinite(self._upper.data).all()), n, data)
        try:
            if self._solver is None:
                self._solver = qdldl.Solver(self._upper, upper=True)
            else:
                self._solver.update(self._upper, upper=True)
        except RuntimeError:
            self._solver = None
            _check(False, n, data)
        return _SparseFactor(self._solver)


class _SparseFactor:
    def __init__(self, solver: qdldl.Solver):
        self._solver = solver

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        if rhs.ndim == 1:
            return self._solver.solve(rhs)
        return np.stack([self._solver.solve(column) for column in rhs.T], axis=1)


def _check(sound: bool, n: int, data: np.ndarray) -> None:
    if not sound:
        fault = "is singular" if np.isfinite(data).all() else "holds values that are not finite"
        raise np.linalg.LinAlgError(f"the sparse {n} x {n} matrix {fault}; expected a regular one (is the body held, the state sound?)")
