"""Conjugate gradients under algebraic multigrid: solves with matrices that are too large to factorise.

Smoothed aggregation (Vanek, Mandel & Brezina 1996; pyamg) makes a hierarchy of coarser matrices from one of the matrices and from the vectors
that it nearly annihilates: for elasticity the rigid motions. A cycle through it preconditions conjugate gradients for all matrices on
the pattern that are not too different; when convergence has slowed down to half, the next matrix gets a hierarchy of its own.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, cg, gmres

from hodsim.solve.newton import Factorisation

MOST_ITERATIONS = 200
SMOOTHER = ("chebyshev", {"degree": 2})  # symmetric, as conjugate gradients need it; degrees 3 and 4 took as long, Gauss-Seidel longer
COARSEST = 100  # blocks of unknowns: solved directly


class Iterative:
    """Preconditioned conjugate gradients for symmetric matrices on a pattern (n, n) with sorted indices.

    near_kernel (n, k): the vectors that the matrices map to little, in blocks of block_size unknowns (the three of a vertex). Solutions
    are reproducible to their tolerance, no further."""

    def __init__(self, pattern: csr_matrix, *, near_kernel: np.ndarray, block_size: int = 3):
        self._pattern, self._near_kernel, self._block_size = pattern, near_kernel, block_size
        self._cycle: LinearOperator
        self._digits = 0.0  # decimal digits that an iteration gained when the hierarchy was new; 0 before the first solve
        self._is_stale = True

    def factor(self, data: np.ndarray, *, tolerance: float = 1e-10) -> Factorisation:
        """What solves with the matrix of CSR values data (nnz,) to a relative residual of the tolerance.

        Raises numpy.linalg.LinAlgError, here or from solve, when the matrix is singular or not finite."""
        if not np.isfinite(data).all():
            raise np.linalg.LinAlgError("the sparse matrix holds values that are not finite; expected a regular one: is its state sound?")
        matrix = csr_matrix((data, self._pattern.indices, self._pattern.indptr), self._pattern.shape)
        if self._is_stale:
            self._make_hierarchy(matrix)
        return _System(self, matrix, tolerance)

    def _make_hierarchy(self, matrix: csr_matrix) -> None:
        import pyamg  # for large bodies only, and a third of a second at the start of whatever has a full model

        hierarchy = pyamg.smoothed_aggregation_solver(
            matrix.tobsr((self._block_size, self._block_size)), B=self._near_kernel,
            presmoother=SMOOTHER, postsmoother=SMOOTHER, improve_candidates=None, max_coarse=COARSEST,
        )  # fmt: skip
        self._cycle, self._digits, self._is_stale = hierarchy.aspreconditioner(), 0.0, False

    def solve(self, matrix: csr_matrix, rhs: np.ndarray, tolerance: float) -> np.ndarray:
        """Of one column (n,). A hierarchy that has failed is made again; what then fails is indefinite, and goes to GMRES."""
        if not np.isfinite(rhs).all():
            raise np.linalg.LinAlgError("the right-hand side holds values that are not finite")
        is_old = self._digits > 0
        solution = self._conjugate_gradients(matrix, rhs, tolerance)
        if solution is None and is_old:
            self._make_hierarchy(matrix)
            solution = self._conjugate_gradients(matrix, rhs, tolerance)
        if solution is None:
            solution, failed = gmres(matrix, rhs, rtol=tolerance, M=self._cycle, restart=50, maxiter=MOST_ITERATIONS // 50)
            if failed:
                raise np.linalg.LinAlgError("the sparse matrix is singular, or too nearly so for an iterative solver: is the body held?")
        return solution

    def _conjugate_gradients(self, matrix: csr_matrix, rhs: np.ndarray, tolerance: float) -> np.ndarray | None:
        iterations = 0

        def count(_: np.ndarray) -> None:
            nonlocal iterations
            iterations += 1

        solution, failed = cg(matrix, rhs, rtol=tolerance, M=self._cycle, maxiter=MOST_ITERATIONS, callback=count)
        if failed or not np.isfinite(solution).all():
            return None
        if iterations:
            digits = -math.log10(tolerance) / iterations
            self._digits = self._digits or digits
            self._is_stale = digits < self._digits / 2
        return solution


class _System:
    def __init__(self, solver: Iterative, matrix: csr_matrix, tolerance: float):
        self._solver, self._matrix, self._tolerance = solver, matrix, tolerance

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        columns = rhs.reshape(len(rhs), -1).T
        return np.stack([self._solver.solve(self._matrix, column, self._tolerance) for column in columns], axis=1).reshape(rhs.shape)
