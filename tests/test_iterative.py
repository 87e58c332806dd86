"""Conjugate gradients under multigrid against factorisations, on the matrices of an elastic body."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hodsim.dynamics import simulate
from hodsim.fem import FullModel, StVK, gravity
from hodsim.mesh import TetMesh
from hodsim.solve import Banded, Iterative, linear_solver, sparse
from hodsim.subspace import vibrations


def beam(cells=16):
    """A slender beam held at one end: the ill-conditioned case. 16 cells: 1200 degrees of freedom, more than the coarsest level."""
    mesh = TetMesh.box((1.0, 0.25, 0.25), (cells, cells // 4, cells // 4))
    return FullModel(mesh, StVK(youngs_modulus=1e6, poisson_ratio=0.4), density=1e3, pinned=mesh.vertices[:, 0] == 0)


@pytest.fixture(scope="module")
def direct():
    full = beam()
    assert isinstance(full.solver, Banded)
    return full


@pytest.fixture
def iterative(monkeypatch):
    monkeypatch.setattr(sparse, "MOST_WORK", 0)
    full = beam()
    assert isinstance(full.solver, Iterative)
    return full


@pytest.mark.parametrize("columns", [(), (1,), (3,)])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-10])
def test_solves_to_the_tolerance(iterative, columns, tolerance):
    b = np.random.default_rng(0).standard_normal((iterative.n_dofs, *columns))
    x = iterative.solver.factor(iterative.rest_stiffness.data, tolerance=tolerance).solve(b)
    assert x.shape == b.shape
    defects = np.linalg.norm(iterative.rest_stiffness @ x - b, axis=0) / np.linalg.norm(b, axis=0)
    assert np.all(defects <= 1.01 * tolerance)


def test_iterations_do_not_grow_with_the_mesh(monkeypatch):
    """That is what multigrid is for; conjugate gradients by themselves would take twice as many."""
    monkeypatch.setattr(sparse, "MOST_WORK", 0)
    counts = []
    for cells in (16, 32):
        full, products = beam(cells), []
        A, b = full.rest_stiffness, gravity(full)
        solver = full.solver
        factors = solver.factor(A.data, tolerance=1e-8)
        cycle = solver._cycle
        monkeypatch.setattr(cycle, "matvec", lambda x, cycle=cycle.matvec, products=products: products.append(1) or cycle(x))
        factors.solve(b)
        counts.append(len(products))
    assert 3 < counts[1] <= 1.5 * counts[0]


def test_a_simulation_matches_that_by_factorisation(direct, iterative):
    def run(full):
        return [state.q for state in simulate(full, full.state(), 0.01, force=gravity(full), steps=10, tolerance=1e-8)]

    for q, expected in zip(run(iterative), run(direct), strict=True):
        np.testing.assert_allclose(q, expected, atol=1e-7 * np.abs(expected).max())


def test_a_hierarchy_serves_the_next_matrices_and_is_replaced_by_one_that_fits(iterative, monkeypatch):
    made = []
    make = Iterative._make_hierarchy
    monkeypatch.setattr(Iterative, "_make_hierarchy", lambda self, matrix: made.append(1) or make(self, matrix))
    b = gravity(iterative)
    stiff, soft = iterative.rest_stiffness.data, iterative.rest_stiffness.data + 1e6 * iterative._mass_data
    for data in (stiff, 1.1 * stiff, stiff):
        iterative.solver.factor(data).solve(b)
    assert len(made) == 1
    bent = iterative._stiffness_data(0.2 * iterative.solver.factor(stiff).solve(b))  # strongly deformed
    for data in (soft, bent, soft, bent):
        factors = iterative.solver.factor(data)
        A = csr_matrix((data, iterative.pattern.indices, iterative.pattern.indptr))
        for _ in range(2):  # the second time, too
            assert np.linalg.norm(A @ factors.solve(b) - b) <= 1.01e-10 * np.linalg.norm(b)
    assert len(made) > 1


def test_an_indefinite_matrix_is_solved(direct, iterative):
    data = direct.rest_stiffness.data - 400.0 * direct._mass_data  # between the squares of the frequencies
    assert np.sum(vibrations(direct, 12)[1] ** 2 < 400.0) >= 2
    b = gravity(direct)
    expected = direct.solver.factor(data).solve(b)
    iterative.solver.factor(direct.rest_stiffness.data).solve(b)
    np.testing.assert_allclose(iterative.solver.factor(data).solve(b), expected, atol=1e-6 * np.abs(expected).max())


def test_vibrations_match_those_by_factorisation(direct, iterative):
    np.testing.assert_allclose(vibrations(iterative, 4)[1], vibrations(direct, 4)[1], rtol=1e-8)


def test_zero_is_the_solution_of_zero(iterative):
    assert not iterative.solver.factor(iterative.rest_stiffness.data).solve(np.zeros(iterative.n_dofs)).any()


def test_what_is_not_finite_or_singular_is_an_error(iterative, monkeypatch):
    A = iterative.rest_stiffness
    with pytest.raises(np.linalg.LinAlgError, match="values that are not finite"):
        iterative.solver.factor(np.full(A.nnz, np.nan))
    with pytest.raises(np.linalg.LinAlgError, match="right-hand side"):
        iterative.solver.factor(A.data).solve(np.full(iterative.n_dofs, np.inf))
    mesh = iterative.mesh
    adrift = FullModel(mesh, iterative.material, density=1e3, pinned=None)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        adrift.solver.factor(adrift.rest_stiffness.data).solve(np.ones(adrift.n_dofs))


def test_without_a_near_kernel_a_matrix_is_factorised(monkeypatch, direct):
    monkeypatch.setattr(sparse, "MOST_WORK", 0)
    assert isinstance(linear_solver(direct.pattern), Banded)
