"""The exact elastic force of St. Venant-Kirchhoff material without visiting elements: a cubic polynomial (Barbic & James 2005).

F = F0 + D g is affine in the features, so the Green strain is a quadratic polynomial of them and the energy a quadratic form of its
monomials:

    V = y . K y / 2,    y = (1, g_i, g_i g_j with i <= j),    K = sum over elements of volume X^T C X

where the rows of X (6, N) hold the strains' coefficients and C is Hooke's law. One product with K gives energy and force; Barbic & James
expand the same polynomial, which has more coefficients. Exact in every subspace, but K is only small in a narrow one: N = (m + 1)(m + 2)/2.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from hodsim.fem import FullModel, StVK
from hodsim.reduced.strain import strain_operator
from hodsim.subspace import Subspace

CHUNK = 256  # elements at a time
STRAINS = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]


class CubicForce:
    """The elastic potential of a full model of StVK in a subspace; an `Elasticity`. Raises ValueError for a body with another law.

    Attribute matrix: K (N, N) [J] over the monomials in the order 1, g_i, g_0 g_0, g_0 g_1, .., g_1 g_1, .."""

    def __init__(self, full: FullModel, subspace: Subspace):
        if not self.covers(full):
            others = sorted({type(material).__name__ for material in full.material.constituents} - {StVK.__name__})
            raise ValueError(f"the force of {' and '.join(others)} is no polynomial; CubicForce expects StVK")
        m, volumes = subspace.width, full.elements.volumes
        self._i, self._j = np.triu_indices(m)
        self.matrix = np.zeros((1 + m + len(self._i),) * 2)
        for material, elements in full.material.shares(np.arange(len(volumes))):
            root = np.linalg.cholesky(hooke(cast(StVK, material))).T
            for start in range(0, len(elements), CHUNK):
                chosen = elements[start : start + CHUNK]
                X = self._strains(*strain_operator(full, subspace, chosen))
                weighted = (np.sqrt(volumes[chosen])[:, None, None] * (root @ X)).reshape(-1, len(self.matrix))
                self.matrix += weighted.T @ weighted

    @staticmethod
    def covers(full: FullModel) -> bool:
        """Whether the elastic force of a model is a polynomial."""
        return all(isinstance(material, StVK) for material in full.material.constituents)

    def _strains(self, D: np.ndarray, F0: np.ndarray) -> np.ndarray:
        """X (n, 6, N): coefficients of the Green strain E = (F^T F - I) / 2 of each element."""
        m, n = D.shape[1], len(F0) // 9
        F = np.column_stack([F0, D]).reshape(3, 3, n, 1 + m)  # [i, j, element, coefficient of 1, g_1, ..]
        X = np.empty((n, 6, len(self.matrix)))
        for row, (a, b) in enumerate(STRAINS):
            form = np.einsum("iep,ieq->epq", F[:, a], F[:, b], optimize=True)
            form = (form + form.transpose(0, 2, 1)) / 4  # E_ab = (1, g) . form (1, g) - (a = b) / 2
            X[:, row, 0] = form[:, 0, 0] - (0.5 if a == b else 0.0)
            X[:, row, 1 : 1 + m] = 2 * form[:, 0, 1:]
            X[:, row, 1 + m :] = form[:, 1 + self._i, 1 + self._j] * np.where(self._i == self._j, 1, 2)
        return X

    def energy(self, g: np.ndarray) -> float:
        y, _ = self._monomials(g)
        return 0.5 * float(y @ self.matrix @ y)

    def force(self, g: np.ndarray) -> np.ndarray:
        y, slopes = self._monomials(g)
        return slopes.T @ (self.matrix @ y)

    def stiffness(self, g: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        y, slopes = self._monomials(g)
        hessian = slopes.T @ self.matrix @ slopes
        quadratic = (self.matrix @ y)[1 + len(g) :]
        np.add.at(hessian, (self._i, self._j), quadratic)
        np.add.at(hessian, (self._j, self._i), quadratic)
        return jacobian.T @ hessian @ jacobian

    def _monomials(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y (N,) and dy/dg (N, m)."""
        m, pairs = len(g), np.arange(len(self._i))
        slopes = np.zeros((len(self.matrix), m))
        slopes[1 : 1 + m] = np.eye(m)
        np.add.at(slopes, (1 + m + pairs, self._i), g[self._j])
        np.add.at(slopes, (1 + m + pairs, self._j), g[self._i])
        return np.concatenate([[1.0], g, g[self._i] * g[self._j]]), slopes


def hooke(material: StVK) -> np.ndarray:
    """C (6, 6) [Pa] of the strains in the order of STRAINS."""
    C = np.diag([2 * material.mu] * 3 + [4 * material.mu] * 3)  # shear strains occur twice in E : E
    C[:3, :3] += material.lam
    return C
