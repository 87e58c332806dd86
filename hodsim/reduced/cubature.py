"""Hyper-reduction by energy-conserving sampling and weighting (Farhat et al. 2014; cubature: An, Kim & James 2008).

The elastic potential is summed over a few elements e with weights xi_e >= 0,  V^(g) = sum_e xi_e V_e(u0 + W g),  so that the reduced
force stays the gradient of a potential and its cost does not depend on the mesh. The weights make the generalised forces of training
poses right, G xi ~ b with

    G_(s,e) = J(q_s)^T f_e(u_s),    b = sum over all e of G_(s,e)

by non-negative least squares that adds one element at a time and stops at a tolerance (Chapman et al. 2017). The poses u_s are the true
ones, not their reconstructions: the subspace's own spurious stiffness is then not learned with them.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from hodsim.checks import finite, inside, shape
from hodsim.fem import FullModel
from hodsim.fem.elements import Elements
from hodsim.reduced.features import features_of
from hodsim.subspace import Subspace


class Cubature:
    """The elastic potential summed over chosen elements (n,) with weights (n,); an `Elasticity`."""

    def __init__(self, full: FullModel, subspace: Subspace, chosen: np.ndarray, weights: np.ndarray):
        shape("weights", finite("weights", weights), chosen.shape)
        if not len(chosen) or (weights < 0).any():
            raise ValueError(f"cubature has {len(chosen)} elements with weights from {weights.min(initial=0)}; expected some, none negative")
        self.chosen, self.weights = chosen, weights
        # a body of these elements alone; the free vertices come first in the numbering of full.elements, and so they do here
        tetrahedra = full.elements.tetrahedra[chosen]
        used, numbers = np.unique(tetrahedra, return_inverse=True)
        n_free = int((used < full.elements.n_free).sum())
        self._material = full.material
        self._elements = Elements(full.elements.vertices[used], numbers.reshape(-1, 4), n_free, weights=weights)
        rows = (3 * used[:n_free, None] + np.arange(3)).ravel()
        self._origin, self._basis = subspace.origin[rows], np.ascontiguousarray(subspace.basis[rows])
        self._field, self._force = np.zeros((len(used), 3)), np.empty((len(used), 3))
        self._stiffness = self._elements.pattern.astype(float)

    @classmethod
    def select(
        cls, full: FullModel, subspace: Subspace, poses: np.ndarray, *, tolerance: float = 1e-2, elements: int | None = None
    ) -> Cubature:
        """Choose elements and weights by the generalised forces of poses (n, d) [m], each weighing the same.

        Ends when the relative residual |G xi - b| / |b| is the tolerance, or after a number of elements, if one is given."""
        inside("tolerance", tolerance, 0.0, 1.0)
        shape("poses", finite("poses", poses), (None, full.n_dofs))
        everything = np.arange(len(full.elements.tetrahedra))
        dofs, features = full.element_dofs(everything), features_of(subspace)
        held = dofs < 0
        blocks = []
        for u, q in zip(poses.astype(float), subspace.encode(poses.astype(float)), strict=True):
            J = subspace.basis @ features.motion(q, np.zeros_like(q)).jacobian
            local = np.where(held[:, :, None], 0.0, J[dofs])  # (T, 12, r)
            block = np.einsum("eir,ei->re", local, full.element_forces(u, everything))
            size = np.linalg.norm(block.sum(axis=1))
            if size > 0:
                blocks.append(block / size)
        if not blocks:
            raise ValueError(f"none of the {len(poses)} poses is deformed; expected some elastic force to fit")
        G = np.concatenate(blocks)
        weights = sparse_nnls(G, G.sum(axis=1), tolerance=tolerance, most=elements or len(everything))
        chosen = np.flatnonzero(weights)
        return cls(full, subspace, chosen, weights[chosen])

    def energy(self, g: np.ndarray) -> float:
        return self._elements.energy(self._material, self._deformed(g))

    def force(self, g: np.ndarray) -> np.ndarray:
        self._elements.force(self._material, self._deformed(g), self._force)
        return self._force.ravel()[: len(self._origin)] @ self._basis

    def stiffness(self, g: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
        self._elements.stiffness(self._material, self._deformed(g), self._stiffness.data)
        J = self._basis @ jacobian
        return J.T @ (self._stiffness @ J)

    def _deformed(self, g: np.ndarray) -> np.ndarray:
        self._field.ravel()[: len(self._origin)] = self._origin + self._basis @ g
        return self._field


def sparse_nnls(G: np.ndarray, b: np.ndarray, *, tolerance: float, most: int) -> np.ndarray:
    """x >= 0 with few nonzeros such that |G x - b| <= tolerance |b|: Lawson & Hanson's active set, stopped early.

    Ends with the best it has when no column can lower the residual or `most` columns are in use."""
    x = np.zeros(G.shape[1])
    gram, moment = G.T @ G, G.T @ b
    target, total = (tolerance * np.linalg.norm(b)) ** 2, float(b @ b)
    active = np.zeros(0, int)
    while len(active) < most and total - 2 * moment @ x + x @ gram @ x > target:
        slope = moment - gram @ x
        slope[active] = -np.inf
        entering = int(np.argmax(slope))
        if slope[entering] <= 1e-12 * np.abs(moment).max():
            break
        active = np.append(active, entering)
        while True:
            block = gram[np.ix_(active, active)]
            ridge = 1e-14 * np.trace(block) / len(active)  # columns of neighbouring elements are nearly the same
            solution = scipy.linalg.solve(block + ridge * np.eye(len(active)), moment[active], assume_a="pos")
            if (solution > 0).all():
                break
            # back to where the first weight would turn negative; its element leaves
            falling = solution <= 0
            steps = x[active][falling] / (x[active][falling] - solution[falling])
            x[active] += steps.min() * (solution - x[active])
            leaving = x[active] <= 1e-12 * x[active].max(initial=0.0)
            x[active[leaving]] = 0.0
            active = active[~leaving]
            if entering not in active:  # it can only stay out: rounding has taken over
                return x
        x[active] = solution
    return x
