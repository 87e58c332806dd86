"""Sparse direct solvers against dense ones, on matrices that share a pattern."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags, kron

from hodsim.solve.sparse import Banded, Sparse, linear_solver

SOLVERS = pytest.mark.parametrize("solver", [Banded, Sparse])


def lattice(nx, ny):
    """Laplacian of an nx x ny grid plus the identity."""
    def second_difference(n):
        return diags([-1.0, 2.0, -1.0], [-1, 0, 1], (n, n))

    matrix = csr_matrix(kron(second_difference(nx), diags([1.0], [0], (ny, ny))) + kron(diags([1.0], [0], (nx, nx)), second_difference(ny)))
    matrix = csr_matrix(matrix + diags([1.0], [0], matrix.shape))
    matrix.sort_indices()
    return matrix


def shuffled(matrix, seed=0):
    order = np.random.default_rng(seed).permutation(matrix.shape[0])
    matrix = matrix[order][:, order].tocsr()
    matrix.sort_indices()
    return matrix


def values(pattern, seed):
    """Symmetric values on a pattern, with both signs among the eigenvalues."""
    dense = np.random.default_rng(seed).standard_normal(pattern.shape)
    rows = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    return (dense + dense.T)[rows, pattern.indices]


@SOLVERS
def test_definite_matrix_matches_dense_solve(solver):
    A, b = shuffled(lattice(12, 7)), np.random.default_rng(1).standard_normal(84)
    np.testing.assert_allclose(solver(A).factor(A.data).solve(b), np.linalg.solve(A.toarray(), b), rtol=1e-12)


@SOLVERS
@pytest.mark.parametrize("shape", [(84,), (84, 1), (84, 3)])
def test_right_hand_sides_of_any_shape_are_kept(solver, shape):
    A, b = lattice(12, 7), np.random.default_rng(1).standard_normal(shape)
    kept = b.copy()
    np.testing.assert_allclose(solver(A).factor(A.data).solve(b), np.linalg.solve(A.toarray(), b), rtol=1e-12)
    np.testing.assert_array_equal(b, kept)


@SOLVERS
def test_indefinite_matrices_on_one_pattern_match_dense_solve(solver):
    pattern = shuffled(lattice(12, 7))
    made = solver(pattern)
    b = np.random.default_rng(1).standard_normal((84, 2))
    for seed in range(5):
        data = values(pattern, seed)
        A = csr_matrix((data, pattern.indices, pattern.indptr)).toarray()
        assert (np.linalg.eigvalsh(A) < 0).any()
        expected = np.linalg.solve(A, b)
        np.testing.assert_allclose(made.factor(data).solve(b), expected, atol=1e-8 * np.abs(expected).max())  # no pivoting in L D L^T


@SOLVERS
def test_a_replaced_factor_refuses_to_solve(solver):
    A, b = lattice(12, 7), np.ones(84)
    made = solver(A)
    first, second = made.factor(A.data), made.factor(2 * A.data)
    np.testing.assert_allclose(second.solve(b), np.linalg.solve(2 * A.toarray(), b), rtol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="factorisation 1 of this solver was replaced by number 2"):
        first.solve(b)


@SOLVERS
def test_singular_matrix_is_an_error(solver):
    A = csr_matrix(lattice(12, 7) - diags([1.0], [0], (84, 84)))
    neumann = csr_matrix(A - diags([np.asarray(A.sum(axis=1)).ravel()], [0]))  # constants are in its null space
    neumann.sort_indices()
    with pytest.raises(np.linalg.LinAlgError, match="the sparse matrix is singular"):
        solver(neumann).factor(neumann.data).solve(np.random.default_rng(0).standard_normal(84))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        solver(neumann).factor(0 * neumann.data).solve(np.ones(84))


@SOLVERS
def test_values_that_are_not_finite_are_an_error(solver):
    A = lattice(12, 7)
    for value in (np.nan, np.inf):
        data = A.data.copy()
        data[40] = value
        with pytest.raises(np.linalg.LinAlgError, match="not finite"):
            solver(A).factor(data).solve(np.ones(84))


@SOLVERS
def test_an_infinite_right_hand_side_is_an_error(solver):
    A = lattice(12, 7)
    with pytest.raises(np.linalg.LinAlgError):
        solver(A).factor(A.data).solve(np.full(84, np.nan))


def test_a_band_is_used_where_it_fits_in_memory():
    slender = linear_solver(shuffled(lattice(200, 4)))
    assert isinstance(slender, Banded) and slender.bandwidth <= 8
    links = csr_matrix((np.ones(60_000), np.random.default_rng(0).integers(0, 20_000, (2, 60_000))), (20_000, 20_000))
    tangled = csr_matrix(links + links.T + diags([1.0], [0], links.shape))
    assert isinstance(linear_solver(tangled), Sparse)


def test_tiny_matrices_are_solved():
    for n in range(1, 10):
        A = csr_matrix(diags([np.arange(2.0, n + 2)], [0]) + 0.1 * np.ones((n, n)))
        for solver in (Banded(A), Sparse(A)):
            np.testing.assert_allclose(solver.factor(A.data).solve(np.ones(n)), np.linalg.solve(A.toarray(), np.ones(n)), rtol=1e-13)


def test_a_better_order_is_taken_and_a_worse_one_left():
    A = lattice(30, 6)
    assert Banded(shuffled(A), order=np.argsort(np.random.default_rng(0).permutation(180))).bandwidth == 6
    assert Banded(A, order=np.random.default_rng(0).permutation(180)).bandwidth <= 12
