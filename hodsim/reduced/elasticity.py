"""The elastic force of a reduced model in feature space: W^T f_int(u0 + W g) and its derivative.

A reduced model is given one of these. `ExactElasticity` visits every element; approximations that do not (cubature, a cubic
polynomial) take its place by offering the same three methods.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from hodsim.fem import FullModel
from hodsim.subspace import Subspace


class Elasticity(Protocol):
    """The elastic potential V as a function of the features g (m,)."""

    def energy(self, g: np.ndarray) -> float:
        """V(g) [J]."""
        ...

    def force(self, g: np.ndarray) -> np.ndarray:
        """dV/dg (m,), infinite where the potential is not defined (an inverted neo-Hookean element)."""
        ...

    def stiffness(self, g: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        """Dg^T (d^2 V/dg^2) Dg (r, r) for a Jacobian Dg (m, r)."""
        ...


class ExactElasticity:
    """The full model's own potential restricted to the subspace."""

    def __init__(self, full: FullModel, subspace: Subspace):
        self._full, self._origin, self._basis = full, subspace.origin, subspace.basis

    def _displacement(self, g: np.ndarray) -> np.ndarray:
        return self._origin + self._basis @ g

    def energy(self, g: np.ndarray) -> float:
        return self._full.elastic_energy(self._displacement(g))

    def force(self, g: np.ndarray) -> np.ndarray:
        return self._basis.T @ self._full.internal_force(self._displacement(g))

    def stiffness(self, g: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        J = self._basis @ jacobian  # (d, r)
        return J.T @ (self._full.stiffness(self._displacement(g)) @ J)
