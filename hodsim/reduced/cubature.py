"""Hyper-reduction by energy-conserving sampling and weighting (Farhat et al. 2014; cubature: An, Kim & James 2008).

The elastic potential is summed over a few elements e with weights xi_e >= 0,  V^(g) = sum_e xi_e V_e(u0 + W g),  so that the reduced
force stays the gradient of a potential and its cost does not depend on the mesh. The weights make the generalised forces of training
poses right, G xi ~ b with

    G_(s,e) = J(q_s)^T f_e(u_s),    b = sum over all e of G_(s,e)

by non-negative least squares that adds one element at a time and stops at a tolerance (Chapman et al. 2017). By default the poses u_s are
the true ones, not their reconstructions f(q_s): the subspace's own spurious stiffness is then not learned with them.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg

from hodsim.checks import finite, inside, shape
from hodsim.fem import FullModel
from hodsim.fem.elements import Elements
from hodsim.reduced.elasticity import Elasticity, ExactElasticity
from hodsim.reduced.features import features_of
from hodsim.subspace import Subspace

LARGEST_IN_MEMORY = 2**32  # bytes of G; a larger one lies in a temporary file, where the system keeps what fits in memory

Target = Literal["true", "manifold"]


class Cubature:
    """The elastic potential summed over chosen elements (n,) with weights (n,); an `Elasticity`."""

    def __init__(self, full: FullModel, subspace: Subspace, chosen: np.ndarray, weights: np.ndarray):
        shape("weights", finite("weights", weights), chosen.shape)
        if not len(chosen) or (weights < 0).any():
            raise ValueError(f"cubature has {len(chosen)} elements with weights from {weights.min(initial=0)}; expected some, none negative")
        self.full, self.subspace, self.chosen, self.weights = full, subspace, chosen, weights
        # a body of these elements alone; the free vertices come first in the numbering of full.elements, and so they do here
        tetrahedra = full.elements.tetrahedra[chosen]
        used, numbers = np.unique(tetrahedra, return_inverse=True)
        n_free = int((used < full.elements.n_free).sum())
        self._material = full.material.among(chosen)
        self._elements = Elements(full.elements.vertices[used], numbers.reshape(-1, 4), n_free, weights=weights)
        self._dofs = (3 * used[:n_free, None] + np.arange(3)).ravel()
        self._origin, self._basis = subspace.origin[self._dofs], np.ascontiguousarray(subspace.basis[self._dofs])
        self._field, self._force = np.zeros((len(used), 3)), np.empty((len(used), 3))
        self._stiffness = self._elements.pattern.astype(float)

    @classmethod
    def select(
        cls,
        full: FullModel,
        subspace: Subspace,
        poses: np.ndarray,
        *,
        tolerance: float = 1e-2,
        elements: int | None = None,
        target: Target = "true",
    ) -> Cubature:
        """Choose elements and weights by the generalised forces of poses (n, d) [m], each weighing the same.

        Ends when the relative residual |G xi - b| / |b| is the tolerance, or after a number of elements, if one is given. target says
        which forces are fitted: those of the true poses, or those of their reconstructions, on the manifold of the subspace."""
        inside("tolerance", tolerance, 0.0, 1.0)
        fits = sparse_fits(*_training_forces(full, subspace, poses, target))
        fit = next(fits)
        while fit.residual > tolerance and len(fit.columns) < (elements or math.inf):
            better = next(fits, None)
            if better is None:
                break
            fit = better
        return cls._of(full, subspace, fit)

    @classmethod
    def path(
        cls, full: FullModel, subspace: Subspace, poses: np.ndarray, *, sizes: Sequence[int], target: Target = "true"
    ) -> tuple[Cubature, ...]:
        """Cubatures of at most the increasing sizes, from one run of `select`: each fits the poses better than the one before.

        The tuple is shorter than sizes where no further element lowers the residual."""
        if not sizes or sizes[0] < 1 or any(later <= earlier for earlier, later in pairwise(sizes)):
            raise ValueError(f"sizes are {list(sizes)}; expected whole numbers of at least 1 in increasing order")
        best: dict[int, Fit] = {}
        for fit in sparse_fits(*_training_forces(full, subspace, poses, target)):
            fitting = [size for size in sizes if size >= len(fit.columns)]
            best |= dict.fromkeys(fitting, fit)  # the residual falls from fit to fit: the last one that is small enough is the best
            if len(fit.columns) >= sizes[-1]:
                break
        distinct = {id(fit): fit for fit in best.values()}
        return tuple(cls._of(full, subspace, fit) for fit in distinct.values())

    @classmethod
    def _of(cls, full: FullModel, subspace: Subspace, fit: Fit) -> Cubature:
        order = np.argsort(fit.columns)
        return cls(full, subspace, fit.columns[order], fit.weights[order])

    def residual(self, poses: np.ndarray, *, target: Target = "true") -> float:
        """|G xi - b| / |b| for other poses (n, d) [m]: what the fit is worth on poses that it was not made from."""
        n_free = self._elements.n_free
        defects = []
        for u, J in _samples(self.full, self.subspace, poses, target):
            self._field[:n_free] = u[self._dofs].reshape(-1, 3)
            self._elements.force(self._material, self._field, self._force)
            b = J.T @ finite("internal force", self.full.internal_force(u))
            defects.append((self._force[:n_free].ravel() @ J[self._dofs] - b, b))
        relative = [np.linalg.norm(defect) / np.linalg.norm(b) for defect, b in defects if b.any()]
        if not relative:
            raise _undeformed(poses)
        return float(np.sqrt(np.mean(np.square(relative))))

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


def visited(elasticity: Elasticity, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The elements (n,) of a body of so many that an elasticity is a sum over, and their weights (n,); None for one that is no such sum."""
    if isinstance(elasticity, Cubature):
        return elasticity.chosen, elasticity.weights
    return (np.arange(count), np.ones(count)) if isinstance(elasticity, ExactElasticity) else None


def _samples(full: FullModel, subspace: Subspace, poses: np.ndarray, target: Target) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each pose the displacement whose force is wanted, (d,), and the Jacobian of the decoder, (d, r)."""
    if target not in ("true", "manifold"):
        raise ValueError(f"target is {target!r}; expected 'true' or 'manifold'")
    shape("poses", finite("poses", poses), (None, full.n_dofs))
    features, at_rest = features_of(subspace), np.zeros(subspace.dim)
    for pose in poses:
        u = pose.astype(float)
        q = subspace.encode(u)
        yield (u if target == "true" else subspace.decode(q)), subspace.basis @ features.motion(q, at_rest).jacobian


def _training_forces(full: FullModel, subspace: Subspace, poses: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """G (n r, T) and its row sums b (n r,), the rows of a pose divided by |b| of that pose; undeformed poses are left out.

    G is kept in single precision: its rounding is far below the tolerance of any fit."""
    r, filled = subspace.dim, 0
    G, b = _empty((len(poses) * r, len(full.mesh.tetrahedra))), np.empty(len(poses) * r)
    for u, J in _samples(full, subspace, poses, target):
        forces = full.generalized_element_forces(u, J)
        total = forces.sum(axis=1)
        size = float(np.linalg.norm(total))
        if size > 0:
            np.divide(forces, size, out=G[filled : filled + r], casting="same_kind")
            b[filled : filled + r] = total / size
            filled += r
    if not filled:
        raise _undeformed(poses)
    return G[:filled], b[:filled]


def _empty(size: tuple[int, int]) -> np.ndarray:
    if 4 * math.prod(size) <= LARGEST_IN_MEMORY:
        return np.empty(size, np.float32)
    with tempfile.TemporaryFile() as file:  # has no name, and goes when the array does
        return np.memmap(file, np.float32, "w+", shape=size)


def _undeformed(poses: np.ndarray) -> ValueError:
    return ValueError(f"none of the {len(poses)} poses is deformed; expected some elastic force to fit")


class Fit(NamedTuple):
    """Columns (k,) of G with weights (k,) > 0, and the relative residual |G x - b| / |b| they leave."""

    columns: np.ndarray
    weights: np.ndarray
    residual: float


def sparse_fits(G: np.ndarray, b: np.ndarray) -> Iterator[Fit]:
    """Fits G x ~ b, x >= 0, of falling residual: the active sets of Lawson & Hanson's non-negative least squares, one step each.

    The column that enters is the one along which the residual falls fastest; G is read once a step, and only the columns in use are
    copied. Starts with a single column and ends when none can lower the residual."""
    size = float(np.linalg.norm(b))
    active, x, residual = np.zeros(0, int), np.zeros(0), b
    columns, gram, least = np.empty((0, len(b))), np.empty((0, 0)), math.inf
    moment = np.empty(0)  # of the columns in use
    steepest = 0.0
    while True:
        slope = residual.astype(G.dtype) @ G
        slope[active] = -np.inf
        entering = int(np.argmax(slope))
        steepest = max(steepest, float(slope[entering]))
        if slope[entering] <= 1e-12 * steepest:
            return
        column = G[:, entering].astype(float)
        active, x, columns = np.append(active, entering), np.append(x, 0.0), np.vstack([columns, column])
        cross = columns @ column
        gram, moment = np.block([[gram, cross[:-1, None]], [cross[None]]]), np.append(moment, column @ b)
        while True:
            ridge = 1e-14 * np.trace(gram) / len(active)  # columns of neighbouring elements are nearly the same
            solution = scipy.linalg.solve(gram + ridge * np.eye(len(active)), moment, assume_a="pos")
            falling = solution <= 0
            if not falling.any():
                break
            # back to where the first weight would turn negative; its element leaves
            x += (x[falling] / (x[falling] - solution[falling])).min() * (solution - x)
            kept = x > 1e-12 * x.max(initial=0.0)
            active, x, columns, gram, moment = active[kept], x[kept], columns[kept], gram[np.ix_(kept, kept)], moment[kept]
            if entering not in active:  # it can only stay out: rounding has taken over
                return
        x = solution
        residual = b - x @ columns
        if not np.linalg.norm(residual) < least:
            return
        least = float(np.linalg.norm(residual))
        yield Fit(active, x, least / size)
