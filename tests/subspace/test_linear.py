"""PCA and modal analysis, against the singular value decomposition, the eigenproblem and optimality."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import diags

from cases import small_beam
from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.snapshots import Snapshots, bending_loads, generate_snapshots, sweep
from hodsim.subspace import modal, pca, principal_directions, vibrations


def held_box():
    """108 free degrees of freedom."""
    mesh = TetMesh.box((0.3, 0.2, 0.2), (4, 2, 2))
    return FullModel(mesh, StVK(1e5, 0.3), density=1e3, pinned=mesh.vertices[:, 0] == 0)


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


@pytest.mark.parametrize(("n", "decay"), [(60, 0.9), (400, 0.9), (400, 0.6)], ids=["few poses", "many poses", "many poses of low rank"])
def test_directions_match_the_dense_eigenproblem(n, decay):
    """At full rank, where the width of the iteration leaves most of the spectrum out."""
    full = held_box()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, full.n_dofs)) * decay ** np.arange(full.n_dofs) @ np.linalg.qr(rng.standard_normal((full.n_dofs,) * 2))[0]
    L = np.linalg.cholesky(full.mass.toarray())
    _, s, Vt = np.linalg.svd(X @ L, full_matrices=False)
    W, energies = principal_directions(X, 12, mass=full.mass)
    np.testing.assert_allclose(energies, s[:12] ** 2 / n, rtol=1e-7)  # the iteration ends at a change of 1e-9 a round
    misfit = L.T @ W - Vt[:12].T * np.sign(np.sum((L.T @ W) * Vt[:12].T, axis=0))
    assert np.linalg.norm(misfit, axis=0).max() < 1e-3  # the root of that error, over the gaps between the singular values
    np.testing.assert_allclose(W.T @ (full.mass @ W), np.eye(12), atol=1e-12)


def test_poses_in_files_have_the_directions_of_poses_in_memory(tmp_path, monkeypatch):
    full = small_beam()
    generate_snapshots(full, bending_loads(full), sweep(train=3, test=1), dt=0.01, steps=20, directory=tmp_path)
    poses = np.asarray(Snapshots.load(tmp_path, full).split("train").poses())
    expected, energies = principal_directions(poses, 4, mass=full.mass)
    monkeypatch.setattr("hodsim.snapshots.trajectories.BLOCK", 7 * 4 * full.n_dofs)  # 7 rows at a time
    monkeypatch.setitem(principal_directions.__globals__, "BLOCK", 3 * 4 * full.n_dofs)
    files = Snapshots.load(tmp_path, full, memory=0).split("train").poses()
    assert [len(block) for block in files] == [7, 7, 6] * 3
    W, streamed = principal_directions(files, 4, mass=full.mass)
    np.testing.assert_allclose(streamed, energies, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(W * (full.mass @ expected), axis=0)), 1, rtol=1e-9)


def test_directions_of_poses_that_would_not_fit_a_dense_matrix():
    """20 000 degrees of freedom: d x d numbers would take 3 GB."""
    rng = np.random.default_rng(0)
    mass = diags([rng.uniform(0.5, 2.0, 20_000)], [0], format="csr")
    modes = np.linalg.qr(np.sqrt(mass.diagonal())[:, None] * rng.standard_normal((20_000, 3)))[0] / np.sqrt(mass.diagonal())[:, None]
    q = rng.standard_normal((50, 3)) * [4.0, 2.0, 1.0]
    tracemalloc.start()
    W, energies = principal_directions(q @ modes.T, 3, mass=mass)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(energies, np.linalg.svd(q, compute_uv=False) ** 2 / 50, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.svd(W.T @ (mass @ modes), compute_uv=False), 1, rtol=1e-10)  # one span
    assert peak < 60e6  # a few times the 8 MB of the poses


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
    with pytest.raises(ValueError, match="dim is 7, but the poses span fewer directions"):
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
