"""The features g(q) of a decoder u = u0 + W g(q), with the derivatives that the latent equation of motion needs.

Along a motion with velocity v:  g,  Dg,  D^2 g[v, v],  D^2 g[v, e_k],  D^3 g[v, v, e_k], all from one pass of third order with the
directions (v, v, E); the full second derivative comes from a second pass that only a tangent asks for. A linear subspace has Dg = I
and nothing above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from hodsim.multicomplex import derivative, derivatives, hessian
from hodsim.subspace import Subspace


@dataclass(frozen=True)
class Motion:
    """Derivatives of g at q along v: value (m,), jacobian Dg (m, r), curvature D^2 g[v, v] (m,), and by latent basis vector e_k
    mixed D^2 g[v, e_k] (m, r) and third D^3 g[v, v, e_k] (m, r)."""

    value: np.ndarray
    jacobian: np.ndarray
    curvature: np.ndarray
    mixed: np.ndarray
    third: np.ndarray


class Features(Protocol):
    def value(self, q: np.ndarray) -> np.ndarray: ...

    def motion(self, q: np.ndarray, v: np.ndarray) -> Motion: ...

    def rate(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Dg v (m,)."""
        ...

    def hessian(self, q: np.ndarray) -> np.ndarray:
        """D^2 g (m, r, r)."""
        ...


class LinearFeatures:
    """g(q) = q."""

    def __init__(self, dim: int):
        self._identity, self._zeros, self._hessian = np.eye(dim), np.zeros((dim, dim)), np.zeros((dim, dim, dim))

    def value(self, q: np.ndarray) -> np.ndarray:
        return q

    def motion(self, q: np.ndarray, v: np.ndarray) -> Motion:
        return Motion(q, self._identity, self._zeros[0], self._zeros, self._zeros)

    def rate(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        return v

    def hessian(self, q: np.ndarray) -> np.ndarray:
        return self._hessian


class NetworkFeatures:
    """g is the trunk of a network, a float64 torch module R^r -> R^m on the CPU, differentiated by adjoint perturbation."""

    def __init__(self, trunk: nn.Module, dim: int):
        self._trunk = trunk
        self._basis = torch.eye(dim, dtype=torch.float64)

    def value(self, q: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self._trunk(torch.from_numpy(q)).numpy()

    def motion(self, q: np.ndarray, v: np.ndarray) -> Motion:
        velocity = torch.from_numpy(v)
        with torch.no_grad():
            z = derivatives(self._trunk, torch.from_numpy(q), velocity, velocity, self._basis)
        return Motion(
            value=z.part().numpy(),
            jacobian=z.part(2).numpy().T,
            curvature=z.part(0, 1).numpy(),
            mixed=z.part(0, 2).numpy().T,
            third=z.part(0, 1, 2).numpy().T,
        )

    def rate(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return derivative(self._trunk, torch.from_numpy(q), torch.from_numpy(v)).numpy()

    def hessian(self, q: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return hessian(self._trunk, torch.from_numpy(q)).numpy()


def features_of(subspace: Subspace) -> Features:
    return LinearFeatures(subspace.dim) if subspace.trunk is None else NetworkFeatures(subspace.trunk, subspace.dim)
