"""Springs from points of a body to places in space, as a part of its elastic potential, whatever model moves the body.

A point is at x = x0 + B g(q), where g(q) = q for the full model. Springs of stiffness k [N/m] from points x to places t have

    the energy  k/2 |x - t|^2,    the force  k B^T (t - x)  and the stiffness  k L^T L  with  L = dx/dq = B Dg.

They are thus implicit, and a stiff one does not make a step unstable. A reduced step takes them as `CompiledStep.pulled`, or as a part of
its elasticity. The full model's tangent changes by rank three a spring, and is solved by Woodbury's formula with the factors at hand:

    (T + k L^T L)^-1 r = y - Z (I / k + L Z)^-1 L y,    y = T^-1 r,  Z = T^-1 L^T
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hodsim.fem import FullModel
from hodsim.reduced import Elasticity
from hodsim.solve import Factorisation


@dataclass(frozen=True)
class Springs:
    """rows B (3 p, m), rest x0 (3 p,) [m], targets t (3 p,) [m], stiffness k [N/m]."""

    rows: np.ndarray
    rest: np.ndarray
    targets: np.ndarray
    stiffness: float

    def stretch(self, g: np.ndarray) -> np.ndarray:
        """x - t (3 p,)."""
        return self.rest + self.rows @ g - self.targets

    def energy(self, g: np.ndarray) -> float:
        return 0.5 * self.stiffness * float(np.sum(self.stretch(g) ** 2))

    def gradient(self, g: np.ndarray) -> np.ndarray:
        """Of the energy (m,): minus the force."""
        return self.stiffness * (self.rows.T @ self.stretch(g))


class SprungElasticity:
    """A reduced model's elastic potential and springs (`reduced.Elasticity`)."""

    def __init__(self, own: Elasticity, springs: Springs):
        self._own, self._springs = own, springs

    def energy(self, g: np.ndarray) -> float:
        return self._own.energy(g) + self._springs.energy(g)

    def force(self, g: np.ndarray) -> np.ndarray:
        return self._own.force(g) + self._springs.gradient(g)

    def stiffness(self, g: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        lever = self._springs.rows @ jacobian  # (3 p, r)
        return self._own.stiffness(g, jacobian) + self._springs.stiffness * (lever.T @ lever)


class SprungFullModel:
    """A full model and springs, to be stepped (`dynamics.SecondOrderSystem`)."""

    def __init__(self, full: FullModel, springs: Springs):
        self._full, self._springs = full, springs

    @property
    def rounding_force(self) -> float:
        return self._full.rounding_force

    def residual(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, force: np.ndarray) -> np.ndarray:
        return self._full.residual(q, v, a, force) + self._springs.gradient(q)

    def tangent(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> Factorisation:
        return _Updated(self._full.tangent(q, v, a, s1, s2, force), self._springs.rows, self._springs.stiffness)


class _Updated:
    """T + k L^T L for a factorised T."""

    def __init__(self, own: Factorisation, lever: np.ndarray, stiffness: float):
        self._own, self._lever = own, lever
        self._spread = own.solve(np.ascontiguousarray(lever.T))
        self._core = np.eye(len(lever)) / stiffness + lever @ self._spread

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        y = self._own.solve(rhs)
        return y - self._spread @ np.linalg.solve(self._core, self._lever @ y)
