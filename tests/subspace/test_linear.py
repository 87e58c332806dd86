"""PCA and modal analysis, against the singular value decomposition, the eigenproblem and optimality."""

import numpy as np
import pytest

from cases import small_beam
from hodsim.subspace import modal, pca, principal_directions, vibrations


@pytest.fixture(scope="module")
def poses():
    """Poses of rank 6 with well separated energies, (60, d)."""
    full, rng = small_beam(), np.random.default_rng(0)
    return rng.standard_normal((60, 6)) * 2.0 ** -np.arange(6) @ rng.standard_normal((6, full.n_dofs)) * 1e-2


def test_directions_are_orthonormal_in_the_mass_inner_product(poses):
    full = small_beam()
    W, _ = principal_directions(poses, 5, mass=full.mass)
    np.testing.assert_allclose(W.T @ (full.mass @ W), np.eye(5), atol=1e-10)


def test_directions_match_a_singular_value_decomposition_in_mass_coordinates(poses):
    full = small_beam()
    L = np.linalg.cholesky(full.mass.toarray())
    _, s, Vt = np.linalg.svd(poses @ L, full_matrices=False)  # |L^T u| is the mass norm of u
    W, energies = principal_directions(poses, 5, mass=full.mass)
    np.testing.assert_allclose(energies, s[:5] ** 2 / len(poses), rtol=1e-8)
    cosines = np.abs(np.sum((L.T @ W) * Vt[:5].T, axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-8)


def test_pca_reconstructs_poses_of_its_own_rank_exactly(poses):
    subspace = pca(poses, 6, mass=small_beam().mass)
    np.testing.assert_allclose(subspace.decode(subspace.encode(poses)), poses, atol=1e-9 * np.abs(poses).max())


def test_no_random_subspace_reconstructs_better_than_pca(poses):
    full = small_beam()
    L = np.linalg.cholesky(full.mass.toarray())

    def error(W):
        kept = poses @ (full.mass @ W) @ W.T
        return np.linalg.norm((poses - kept) @ L)

    best = error(pca(poses, 2, mass=full.mass).basis)
    rng = np.random.default_rng(1)
    for _ in range(20):
        mixture = pca(poses, 6, mass=full.mass).basis @ np.linalg.qr(rng.standard_normal((6, 2)))[0]
        assert error(mixture) > best


def test_pca_refuses_more_directions_than_the_poses_have(poses):
    with pytest.raises(ValueError, match="dim is 7, but the 60 poses span fewer directions"):
        pca(poses, 7, mass=small_beam().mass)
    with pytest.raises(ValueError, match=r"dim is 0; expected 1 to"):
        pca(poses, 0, mass=small_beam().mass)


def test_pca_refuses_poses_that_are_not_finite(poses):
    broken = poses.copy()
    broken[3, 5] = np.nan
    with pytest.raises(ValueError, match=r"poses holds 1 value\(s\) that are not finite \(first: nan at index \[3, 5\]\)"):
        pca(broken, 2, mass=small_beam().mass)


def test_modes_match_the_dense_eigenproblem():
    import scipy.linalg

    full = small_beam()
    squares = scipy.linalg.eigh(full.rest_stiffness.toarray(), full.mass.toarray(), eigvals_only=True)
    modes, frequencies = vibrations(full, 8)
    np.testing.assert_allclose(frequencies**2, squares[:8], rtol=1e-8)
    K, M = full.rest_stiffness @ modes, full.mass @ modes
    np.testing.assert_allclose(K, M * frequencies**2, atol=1e-7 * np.abs(K).max())
    np.testing.assert_allclose(modes.T @ M, np.eye(8), atol=1e-8)


def test_modal_subspace_encodes_by_projection():
    subspace = modal(small_beam(), 5)
    q = np.random.default_rng(0).standard_normal((4, 5))
    np.testing.assert_allclose(subspace.encode(subspace.decode(q)), q, atol=1e-9)


def test_modal_refuses_more_modes_than_degrees_of_freedom():
    with pytest.raises(ValueError, match="number of modes is 48; expected 1 to 47"):
        modal(small_beam(), 48)
