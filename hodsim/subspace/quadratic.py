"""The quadratic manifold u = V q + W p(q), p the r (r + 1) / 2 unique products q_i q_j (Barnett & Farhat 2022; Geelen, Wright & Willcox 2023).

V (d, r) are the principal directions of the poses and q = V^T M u, so that W has to make up for what PCA leaves, e = u - V q, by linear
least squares with a ridge:

    W^T = D (D G D + lambda I)^-1 D H,    G = sum p p^T,    H = sum p e^T,    D = diag(G)^(-1/2)

D makes lambda free of units; it is chosen by the error on validation poses. The columns of W are M-orthogonal to V, as every e is.

The products are mixtures of as many squares, q_i q_j = ((q_i + q_j)^2 - q_i^2 - q_j^2) / 2: a layer of a perceptron whose activation is the
square. In this form they are the trunk, for whatever takes a perceptron takes them too.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn

from hodsim.checks import finite, shape
from hodsim.subspace.pca import Poses, blocks, principal_directions
from hodsim.subspace.subspace import Subspace

RIDGES = np.logspace(-12, 0, 13)  # lambda


class Square(nn.Module):
    """x^2, entry by entry."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class Squares(nn.Module):
    """g(q) = [q, h(q)]: R^r -> R^(r + r (r + 1) / 2), h(q) the squares q_i^2 and (q_i + q_j)^2, i < j, in the order of `products`."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        i, j = np.triu_indices(dim)
        sums = np.eye(dim)[i] + np.where((i == j)[:, None], 0.0, np.eye(dim)[j])
        layer = nn.Linear(dim, len(i), dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(sums))
            layer.bias.zero_()
        self.h = nn.Sequential(layer, Square())

    @property
    def width(self) -> int:
        return self.dim + self.dim * (self.dim + 1) // 2

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        return torch.cat([q, self.h(q)], -1)


def quadratic(poses: Poses, dim: int, *, mass: csr_matrix, validation: Poses) -> Subspace:
    """The quadratic manifold of `dim` latent coordinates fitted to poses (n, d) [m], its ridge chosen on validation poses (k, d).

    Poses may be in blocks, as for `principal_directions`. Raises ValueError when dim exceeds their number."""
    V, _ = principal_directions(poses, dim, mass=mass)
    G, H = _moments(poses, V, mass)
    sizes = np.sqrt(np.diag(G))
    D = 1 / np.where(sizes > 0, sizes, 1.0)
    eigenvalues, Q = np.linalg.eigh(D[:, None] * G * D)
    along = Q.T @ (D[:, None] * H)
    fits = [D[:, None] * (Q @ (along / (np.maximum(eigenvalues, 0) + ridge)[:, None])) for ridge in RIDGES]
    G, H = _moments(validation, V, mass)
    W = min(fits, key=lambda W: _misfit(W, G, H, mass)).T
    basis = np.concatenate([V, W @ mixtures(dim)], axis=1)
    trunk = Squares(dim).requires_grad_(False)
    return Subspace(f"quadratic {dim}", dim, np.zeros(len(V)), basis, np.ascontiguousarray((mass @ V).T), trunk)


def products(q: np.ndarray) -> np.ndarray:
    """q_i q_j for i <= j, (n, r (r + 1) / 2) of q (n, r)."""
    i, j = np.triu_indices(q.shape[1])
    return q[:, i] * q[:, j]


def _moments(poses: Poses, V: np.ndarray, mass: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """G = sum p p^T and H = sum p e^T over the poses."""
    n = V.shape[1] * (V.shape[1] + 1) // 2
    G, H, weighted = np.zeros((n, n)), np.zeros((n, len(V))), mass @ V
    for block in blocks(poses):
        q = finite("poses", shape("poses", block, (None, len(V)))) @ weighted
        p = products(q)
        G += p.T @ p
        H += p.T @ (block - q @ V.T)
    return G, H


def _misfit(W: np.ndarray, G: np.ndarray, H: np.ndarray, mass: csr_matrix) -> float:
    """sum |e - W^T p|_M^2 - sum |e|_M^2 over the poses of G and H, for W (n, d)."""
    weighted = (mass @ W.T).T
    return float(np.sum(weighted * (G @ W)) - 2 * np.sum(weighted * H))


def mixtures(dim: int) -> np.ndarray:
    """C (n, n) with products = C squares."""
    i, j = np.triu_indices(dim)
    C, alone = np.zeros((len(i), len(i))), np.flatnonzero(i == j)
    rows = np.arange(len(i))
    C[rows, rows] = 0.5
    C[rows, alone[i]] -= 0.5
    C[rows, alone[j]] -= 0.5
    C[alone] = np.eye(len(i))[alone]
    return C
