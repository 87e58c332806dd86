"""Principal component analysis in the mass inner product: the r-dimensional linear subspace of least kinetic distance to the snapshots.

The principal directions are the right singular vectors of the poses X (n, d) in that inner product, found by randomised subspace iteration
(Halko, Martinsson & Tropp 2011, algorithm 4.4): from a random orthonormal U (n, l), l a little more than r, repeat

    Q = basis of X^T U with Q^T M Q = I,     U R = X M Q

until the singular values of R = . S V^T stand still; the columns of Q V are the directions. No matrix of n x n or d x d entries is formed,
and the poses are read a block of rows at a time, so that they may lie in files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.linalg
from scipy.sparse import csr_matrix

from hodsim.checks import finite, shape
from hodsim.subspace.subspace import Subspace

BLOCK = 2**26  # bytes of poses that are multiplied at a time
MOST_ROUNDS = 30

Poses = np.ndarray | Iterable[np.ndarray]


def pca(poses: Poses, dim: int, *, mass: csr_matrix) -> Subspace:
    """The `dim` principal directions W of poses (n, d) [m] about the rest shape, with W^T M W = I; encoding is the M-orthogonal projection.

    The rest shape, u = 0, is the origin, so that a body at rest is represented exactly. For poses in blocks see `principal_directions`.
    Raises ValueError when dim exceeds the rank of the poses.
    """
    basis, energies = principal_directions(poses, dim, mass=mass)
    if energies[-1] <= 1e-12 * energies[0]:
        raise ValueError(f"dim is {dim}, but the poses span fewer directions; expected a smaller dim or more varied poses")
    return Subspace.linear(f"PCA {dim}", basis, mass)


def principal_directions(poses: Poses, dim: int, *, mass: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """W (d, dim) with W^T M W = I, and the mean square coordinate of the poses (n, d) along each column, in decreasing order.

    poses may be several blocks (n_i, d) in an iterable that can be gone through again and again, e.g. `snapshots.Poses`.
    """
    d = mass.shape[0]
    n = sum(len(finite("poses", shape("poses", block, (None, d)))) for block in blocks(poses))
    if not 0 < dim <= min(n, d):
        raise ValueError(f"dim is {dim}; expected 1 to {min(n, d)}, the smaller of the numbers of poses and of degrees of freedom")
    width = min(n, d, dim + max(10, dim // 2))
    generator = np.random.default_rng(0)  # the result does not depend on it
    U = np.linalg.qr(generator.standard_normal((n, width)))[0]
    s = np.zeros(width)
    for _ in range(MOST_ROUNDS):
        Q = _orthonormal(_combined(poses, U, d), mass)  # (d, width)
        weighted = mass @ Q
        U, R = np.linalg.qr(np.concatenate([block @ weighted for block in blocks(poses)]))  # of the poses' coordinates (n, width)
        before, (_, s, rotation) = s, np.linalg.svd(R)
        if (np.abs(s - before)[:dim] <= 1e-9 * s[:dim] + 1e-15 * s[0]).all():
            break
    return np.ascontiguousarray(Q @ rotation[:dim].T), s[:dim] ** 2 / n


def blocks(poses: Poses) -> Iterator[np.ndarray]:
    """The poses in blocks of rows of at most BLOCK bytes, in double precision."""
    for block in (poses,) if isinstance(poses, np.ndarray) else poses:
        rows = max(1, BLOCK // max(1, block[:1].nbytes))
        for start in range(0, len(block), rows):
            yield block[start : start + rows].astype(float)


def _combined(poses: Poses, weights: np.ndarray, d: int) -> np.ndarray:
    """X^T times weights (n, l)."""
    total, first = np.zeros((d, weights.shape[1])), 0
    for block in blocks(poses):
        total += block.T @ weights[first : first + len(block)]
        first += len(block)
    return total


def _orthonormal(Y: np.ndarray, mass: csr_matrix) -> np.ndarray:
    """A basis Q of the columns of Y (d, l) with Q^T M Q = I: Householder's QR bears any scale, Cholesky's then only that of the mass."""
    Q = np.linalg.qr(Y)[0]
    L = scipy.linalg.cholesky(Q.T @ (mass @ Q), lower=True)
    return scipy.linalg.solve_triangular(L, Q.T, lower=True).T
