"""The quadratic manifold against the formula, a least-squares solver, PCA and a manifold that is one."""

import numpy as np
import pytest
import torch

from cases import small_beam
from hodsim.subspace import pca, quadratic, vibrations
from hodsim.subspace.quadratic import Squares, mixtures, products


def poses_of(q, *, curved=0.5, noise=0.0):
    """Poses (n, d) on u = V q + curved W p(q), V and W modes, r = q.shape[1]."""
    full, (n, r) = small_beam(), q.shape
    p = products(q)
    modes, _ = vibrations(full, r + p.shape[1])
    rng = np.random.default_rng(2)
    return 0.01 * np.concatenate([q, curved * p], axis=1) @ modes.T + noise * rng.standard_normal((n, full.n_dofs))


def codes(n, r, seed=0):
    """Codes whose spread makes the linear directions the principal ones."""
    return 0.3 * np.random.default_rng(seed).standard_normal((n, r)) * 0.8 ** np.arange(r)


def misfit(subspace, poses):
    return np.linalg.norm(subspace.decode(subspace.encode(poses)) - poses) / np.linalg.norm(poses)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_the_decoder_is_linear_in_the_unique_products(r):
    poses = poses_of(codes(200, r), noise=1e-6)
    subspace, q = quadratic(poses, r, mass=small_beam().mass, validation=poses), codes(50, r, 1)
    V = subspace.basis[:, :r]
    W = np.linalg.lstsq(products(q), subspace.decode(q) - q @ V.T, rcond=None)[0]
    assert products(q).shape[1] == r * (r + 1) // 2
    np.testing.assert_allclose(products(q) @ W + q @ V.T, subspace.decode(q), atol=1e-12 * np.abs(subspace.decode(q)).max())
    np.testing.assert_allclose(subspace.encode(subspace.decode(q)), q, atol=1e-10)  # W is M-orthogonal to V
    assert not subspace.decode(np.zeros(r)).any()  # rest is at rest


@pytest.mark.parametrize("r", [1, 3])
def test_without_noise_it_is_the_least_squares_fit(r):
    """Independent oracle: numpy's solver of PCA's residual on the products."""
    full, poses = small_beam(), poses_of(codes(300, r), noise=1e-5)
    linear, subspace = pca(poses, r, mass=full.mass), quadratic(poses, r, mass=full.mass, validation=poses)
    q = linear.encode(poses)
    left = poses - linear.decode(q)
    expected = linear.decode(q) + products(q) @ np.linalg.lstsq(products(q), left, rcond=None)[0]
    np.testing.assert_allclose(subspace.decode(subspace.encode(poses)), expected, atol=1e-6 * np.abs(poses).max())


def test_it_finds_a_quadratic_manifold_that_pca_misses():
    q = codes(400, 2)
    poses = poses_of(np.concatenate([q, -q]))  # symmetric in q: the principal directions are the linear ones
    mass = small_beam().mass
    assert misfit(pca(poses, 2, mass=mass), poses) > 0.02
    assert misfit(quadratic(poses, 2, mass=mass, validation=poses), poses) < 1e-8


def test_the_ridge_is_chosen_by_validation_poses():
    """Fitted to a few noisy poses of a flat subspace, products only fit noise; validation poses shrink them."""
    mass = small_beam().mass
    few, held = (poses_of(codes(n, 4, seed), curved=0.0, noise=1e-3) for n, seed in ((14, 0), (300, 1)))
    trusting = quadratic(few, 4, mass=mass, validation=few)
    careful = quadratic(few, 4, mass=mass, validation=held)
    assert misfit(careful, held) < 0.9 * misfit(trusting, held)


def test_poses_may_come_in_blocks():
    mass, poses = small_beam().mass, poses_of(codes(100, 3), noise=1e-5)
    whole = quadratic(poses, 3, mass=mass, validation=poses)
    blocks = quadratic([poses[:30], poses[30:]], 3, mass=mass, validation=[poses[:50], poses[50:]])
    expected = whole.decode(whole.encode(poses))
    np.testing.assert_allclose(blocks.decode(blocks.encode(poses)), expected, atol=1e-6 * np.abs(poses).max())


@pytest.mark.parametrize("r", [1, 3, 6])
def test_products_are_mixtures_of_the_squares(r):
    q = codes(5, r)
    squares = Squares(r)(torch.from_numpy(q))[:, r:].detach().numpy()
    np.testing.assert_allclose(squares @ mixtures(r).T, products(q), atol=1e-15)
