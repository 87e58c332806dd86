"""Principal component analysis in the mass inner product: the r-dimensional linear subspace of least kinetic distance to the snapshots."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.sparse import csr_matrix

from hodsim.checks import finite, shape
from hodsim.subspace.subspace import Subspace


def pca(poses: np.ndarray, dim: int, *, mass: csr_matrix) -> Subspace:
    """The `dim` principal directions W of poses (n, d) [m] about the rest shape, with W^T M W = I; encoding is the M-orthogonal projection.

    The rest shape, u = 0, is the origin, so that a body at rest is represented exactly.
    Raises ValueError when dim exceeds the rank of the poses.
    """
    basis, energies = principal_directions(poses, dim, mass=mass)
    if energies[-1] <= 1e-12 * energies[0]:
        raise ValueError(f"dim is {dim}, but the {len(poses)} poses span fewer directions; expected a smaller dim or more varied poses")
    return Subspace(f"PCA {dim}", dim, np.zeros(len(basis)), basis, np.ascontiguousarray((mass @ basis).T))


def principal_directions(poses: np.ndarray, dim: int, *, mass: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """W (d, dim) with W^T M W = I, and the mean square coordinate of the poses (n, d) along each column, in decreasing order.

    With the correlation C = X^T X / n of the poses, the generalised eigenproblem is  M C M w = s M w.
    """
    d = mass.shape[0]
    shape("poses", finite("poses", poses), (None, d))
    if not 0 < dim <= min(poses.shape):
        raise ValueError(f"dim is {dim}; expected 1 to {min(poses.shape)}, the smaller of the numbers of poses and of degrees of freedom")
    weighted = np.asarray(poses @ mass)  # rows (M x)^T, since M is symmetric
    correlation = (weighted.T @ weighted).astype(np.float64) / len(poses)
    energies, directions = scipy.linalg.eigh(correlation, mass.toarray(), subset_by_index=(d - dim, d - 1))
    return np.ascontiguousarray(directions[:, ::-1]), energies[::-1]
