"""A subspace: u = u0 + W g(q), a decoder with a linear last layer, and its encoder q = e(P u).

g is the trunk of a network, or the identity for a linear subspace (PCA, modal analysis). Keeping W outside the trunk is what makes a
reduced step independent of the mesh: M, constant forces and damping are projected onto the m columns of W once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn

from hodsim.checks import finite, shape


@dataclass(frozen=True)
class Subspace:
    """origin u0 (d,) [m], basis W (d, m), projection P (p, d); trunk g: R^r -> R^m and encoder e: R^p -> R^r as float64 torch modules.

    A trunk of None is the identity, so that m = r; an encoder of None likewise, so that p = r.
    """

    name: str
    dim: int
    origin: np.ndarray
    basis: np.ndarray
    projection: np.ndarray
    trunk: nn.Module | None = None
    encoder: nn.Module | None = None

    def __post_init__(self):
        n = len(self.origin)
        shape("basis", finite("basis", self.basis), (n, self.dim if self.trunk is None else None))
        shape("projection", finite("projection", self.projection), (self.dim if self.encoder is None else None, n))
        finite("origin", self.origin)

    @classmethod
    def linear(cls, name: str, W: np.ndarray, mass: csr_matrix) -> Subspace:
        """u = W q for directions W (d, r) with W^T M W = I; the encoder is the M-orthogonal projection."""
        return cls(name, W.shape[1], np.zeros(len(W)), W, np.ascontiguousarray((mass @ W).T))

    @property
    def n_dofs(self) -> int:
        return len(self.origin)

    def check_fits(self, n_dofs: int) -> None:
        """Raise ValueError unless this is a subspace of a model of so many degrees of freedom."""
        if self.n_dofs != n_dofs:
            raise ValueError(
                f"subspace {self.name} has {self.n_dofs} degrees of freedom, the full model {n_dofs}; "
                "they belong to different meshes or pins"
            )

    @property
    def width(self) -> int:
        """The number m of columns of W."""
        return self.basis.shape[1]

    def features(self, q: np.ndarray) -> np.ndarray:
        """g(q) (*B, m) for latent coordinates q (*B, r)."""
        return q if self.trunk is None else _evaluate(self.trunk, q)

    def decode(self, q: np.ndarray) -> np.ndarray:
        """The displacement u0 + W g(q) [m], (*B, d) for q (*B, r)."""
        return self.origin + self.features(q) @ self.basis.T

    def encode(self, u: np.ndarray) -> np.ndarray:
        """Latent coordinates (*B, r) of a displacement u (*B, d) [m]."""
        projected = u @ self.projection.T
        return projected if self.encoder is None else _evaluate(self.encoder, projected)


def _evaluate(module: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))).numpy()
