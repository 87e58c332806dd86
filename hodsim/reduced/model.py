"""The latent Euler-Lagrange equation (HoD-Net, eq. 12) with its exact tangent.

With u = u0 + W g(q), the velocity is J v and the acceleration J a + D^2 f[v, v], where J = W Dg. The residual is R = J^T (M u'' +
C u' + f_int(u) - f_ext). W is constant, so everything is done in feature space, R^m: with M^ = W^T M W, C^ = W^T C W,

    R(q, v, a) = Dg^T p,    p = M^ (Dg a + D^2 g[v, v]) + C^ Dg v + W^T f_int(u) - W^T f_ext

and column k of the tangent dR/dq + s1 dR/dv + s2 dR/da is

      (D^2 g[e_k, .])^T p
    + Dg^T M^ (s2 Dg e_k + D^2 g[e_k, a] + D^3 g[v, v, e_k] + 2 s1 D^2 g[v, e_k])
    + Dg^T C^ (s1 Dg e_k + D^2 g[v, e_k])
    + J^T K(u) J e_k
"""

from __future__ import annotations

from copy import copy

import numpy as np

from hodsim.checks import shape
from hodsim.dynamics import State
from hodsim.fem import FullModel, Load, Rayleigh
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.elasticity import Elasticity, ExactElasticity
from hodsim.reduced.features import Motion, features_of
from hodsim.reduced.indicator import Indicator
from hodsim.solve import Dense
from hodsim.subspace import Model, Subspace


class ReducedModel:
    """A full model confined to a subspace; steps like the full model, r unknowns instead of d.

    elasticity defaults to the exact one. Forces are given in feature space, W^T f (m,): see generalized_force. rounding_force is the full
    model's, seen through the Jacobian of the rest shape. indicator estimates the error of its states, where it has one.
    """

    def __init__(self, full: FullModel, subspace: Subspace, *, elasticity: Elasticity | None = None, indicator: Indicator | None = None):
        subspace.check_fits(full.n_dofs)
        W = subspace.basis
        self.full, self.subspace, self.indicator = full, subspace, indicator
        self.elasticity = ExactElasticity(full, subspace) if elasticity is None else elasticity
        self.features = features_of(subspace)
        self.mass = W.T @ (full.mass @ W)  # (m, m)
        self.rest_stiffness = W.T @ (full.rest_stiffness @ W)  # of every element, whatever the elasticity
        self.damping = self._projected_damping()
        rest = self.features.motion(*np.zeros((2, subspace.dim)))
        self.rounding_force = full.rounding_force * float(np.linalg.norm(W @ rest.jacobian, 2))
        self._last: tuple[np.ndarray, np.ndarray, Motion, np.ndarray] | None = None

    def with_elasticity(self, elasticity: Elasticity) -> ReducedModel:
        """The same model with another elastic potential, and no indicator, which is made for one; all else is shared."""
        other = copy(self)
        other.elasticity, other.indicator, other._last = elasticity, None, None
        return other

    def with_damping(self, damping: Rayleigh) -> ReducedModel:
        """The same model with another damping, the full model's as well; all else is shared."""
        other = copy(self)
        other.full = self.full.with_damping(damping)
        other.damping = other._projected_damping()
        return other

    def _projected_damping(self) -> np.ndarray:
        """C^ = W^T C W (m, m)."""
        C, W = self.full.damping_matrix, self.subspace.basis
        return np.zeros_like(self.mass) if C is None else W.T @ (C @ W)

    @classmethod
    def of(cls, model: Model) -> ReducedModel:
        """The reduced model of a model file, with the cubature and the error indicator that are stored in it, if any."""
        elasticity = None if model.cubature is None else Cubature(model.full, model.subspace, *model.cubature)
        indicator = None if model.indicator is None else Indicator.of(model.indicator)
        return cls(model.full, model.subspace, elasticity=elasticity, indicator=indicator)

    def generalized_force(self, force: np.ndarray | Load) -> np.ndarray | Load:
        """W^T f (m,) of nodal forces f (d,) [N], or the same of a load that varies in time."""
        if isinstance(force, Load):
            return force.project(self.subspace.basis)
        return self.subspace.basis.T @ shape("force", force, (self.full.n_dofs,))

    def residual(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, force: np.ndarray) -> np.ndarray:
        """R (r,) for q, v, a (r,) and a force in feature space (m,)."""
        motion, elastic = self.evaluate(q, v)
        return motion.jacobian.T @ self._unbalanced(motion, elastic, v, a, force)

    def tangent(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> Dense:
        return Dense(self.tangent_matrix(q, v, a, s1, s2, force))

    def tangent_matrix(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> np.ndarray:
        """dR/dq + s1 dR/dv + s2 dR/da (r, r)."""
        motion, elastic = self.evaluate(q, v)
        p = self._unbalanced(motion, elastic, v, a, force)
        Dg, hessian = motion.jacobian, self.features.hessian(q)
        inertia = self.mass @ (s2 * Dg + hessian @ a + motion.third + 2 * s1 * motion.mixed)
        damping = self.damping @ (s1 * Dg + motion.mixed)
        return np.tensordot(p, hessian, 1) + Dg.T @ (inertia + damping) + self.elasticity.stiffness(motion.value, Dg)

    def _unbalanced(self, motion: Motion, elastic: np.ndarray, v: np.ndarray, a: np.ndarray, force: np.ndarray) -> np.ndarray:
        """The unbalanced force p in feature space (m,)."""
        Dg = motion.jacobian
        return self.mass @ (Dg @ a + motion.curvature) + self.damping @ (Dg @ v) + elastic - force

    def evaluate(self, q: np.ndarray, v: np.ndarray) -> tuple[Motion, np.ndarray]:
        """Derivatives of g along v, and the elastic force W^T f_int (m,), at q.

        The last ones are kept: Newton asks for the tangent where it has just asked for the residual."""
        if self._last is None or not (np.array_equal(self._last[0], q) and np.array_equal(self._last[1], v)):
            motion = self.features.motion(q, v)
            self._last = (q.copy(), v.copy(), motion, self.elasticity.force(motion.value))
        return self._last[2:]

    def state(self, q: np.ndarray | None = None, v: np.ndarray | None = None, *, force: np.ndarray | None = None) -> State:
        """The state at time 0 with the acceleration that balances the force (m,); at rest unless q or v (r,) are given."""
        r = self.subspace.dim
        q = np.zeros(r) if q is None else shape("q", q, (r,))
        v = np.zeros(r) if v is None else shape("v", v, (r,))
        force = np.zeros(self.subspace.width) if force is None else shape("force", force, (self.subspace.width,))
        motion, elastic = self.evaluate(q, v)
        Dg = motion.jacobian
        unbalanced = self._unbalanced(motion, elastic, v, np.zeros(r), force)
        return State(0.0, q, v, -Dense(Dg.T @ self.mass @ Dg).solve(Dg.T @ unbalanced))

    def displacement(self, state: State) -> np.ndarray:
        """u (d,) [m]."""
        return self.subspace.decode(state.q)

    def velocity(self, state: State) -> np.ndarray:
        """u' = J v (d,) [m/s]."""
        return self.subspace.basis @ self.features.rate(state.q, state.v)

    def energy(self, state: State) -> float:
        """Kinetic and elastic energy [J]."""
        rate = self.features.rate(state.q, state.v)
        return 0.5 * float(rate @ self.mass @ rate) + self.elasticity.energy(self.features.value(state.q))
