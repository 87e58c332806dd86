"""The equation of one step, of many states at once, in torch: any trunk, any material, on the CPU and on CUDA.

Residual and tangent are functions of tensors alone, with no look at their numbers, so that CUDA graphs can hold them. With F = F0 + D g the
deformation gradients of the elements that count, P = dPsi/dF and w their weighted volumes,

    W^T f_int = D^T (w P),    J^T K J = (D Dg)^T w dP/dF (D Dg)
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from hodsim.fem import Material
from hodsim.multicomplex import Axes, derivatives, hessian
from hodsim.reduced import kernel
from hodsim.reduced.cubature import visited
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.strain import strain_operator


class Rows(NamedTuple):
    """What a step of k states knows of each: v = s1 q + v0 and a = s2 q + a0 with slopes [s1, s2] (k, 2) and rates [v0, a0] (k, 2, r); its
    load (k, m); and for the variational form the features now and those that inertia alone would give (k, m)."""

    slopes: Tensor
    rates: Tensor
    loads: Tensor
    now: Tensor
    predicted: Tensor


class Motion(NamedTuple):
    """As `features.Motion`, of k states: value (k, m), jacobian (k, m, r), curvature (k, m), mixed and third (k, m, r)."""

    value: Tensor
    jacobian: Tensor
    curvature: Tensor
    mixed: Tensor
    third: Tensor


class Equation:
    """Residual (k, r) and tangent (k, r, r) at latent positions q (k, r), in float64.

    Raises ValueError for an elasticity that is no sum over elements."""

    def __init__(self, model: ReducedModel, form: int, device: torch.device):
        self.variational = form == kernel.VARIATIONAL
        self.trunk = None if model.subspace.trunk is None else deepcopy(model.subspace.trunk).to(device)
        self.mass, self.damping = (torch.tensor(matrix, dtype=torch.float64, device=device) for matrix in (model.mass, model.damping))  # (m, m)
        self.elements = [Elements.of(model, chosen, weights, material, device) for material, chosen, weights in _sampled(model)]

    def residual(self, q: Tensor, *rows: Tensor) -> Tensor:
        _, jacobian, p, _ = self._unbalanced(q, Rows(*rows))
        return applied(jacobian.mT, p)

    def tangent(self, q: Tensor, *rows: Tensor) -> Tensor:
        at = Rows(*rows)
        g, Dg, p, motion = self._unbalanced(q, at)
        second = self.hessian(q)
        s1, s2 = at.slopes.mT[..., None, None]
        accelerated, moved = s2 * Dg, s1 * Dg
        if motion is not None:
            a = s2[..., 0] * q + at.rates[:, 1]
            accelerated = accelerated + torch.einsum("kmij,kj->kmi", second, a) + motion.third + 2 * s1 * motion.mixed
            moved = moved + motion.mixed
        inertia = Dg.mT @ (self.mass @ accelerated + self.damping @ moved)
        return torch.einsum("km,kmij->kij", p, second) + inertia + sum(part.stiffness(g, Dg) for part in self.elements)

    def value(self, q: Tensor) -> Tensor:
        """g (k, m)."""
        return q if self.trunk is None else self.trunk(q)

    def jacobian(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """g (k, m) and Dg (k, m, r)."""
        if self.trunk is None:
            return q, torch.eye(q.shape[1], dtype=q.dtype, device=q.device).expand(*q.shape, -1)
        z = derivatives(self.trunk, q, Axes())
        return z.part(), z.part(0).movedim(0, -1)

    def motion(self, q: Tensor, v: Tensor) -> Motion:
        """Derivatives of g at q along v, (k, r) each."""
        if self.trunk is None:
            none = torch.zeros_like(q)
            square = none[:, :, None].expand(-1, -1, q.shape[1])
            return Motion(*self.jacobian(q), none, square, square)
        z = derivatives(self.trunk, q, v, v, Axes())
        jacobian, mixed, third = (z.part(*which).movedim(0, -1) for which in ((2,), (0, 2), (0, 1, 2)))
        return Motion(z.part(), jacobian, z.part(0, 1), mixed, third)

    def hessian(self, q: Tensor) -> Tensor:
        """D^2 g (k, m, r, r)."""
        return q.new_zeros(*q.shape, q.shape[1], q.shape[1]) if self.trunk is None else hessian(self.trunk, q)

    def _unbalanced(self, q: Tensor, at: Rows) -> tuple[Tensor, Tensor, Tensor, Motion | None]:
        """g, Dg, the unbalanced force p in feature space (k, m), and the derivatives along the velocity where the form has any."""
        s1, s2 = at.slopes.mT[..., None]
        if self.variational:
            motion = None
            g, Dg = self.jacobian(q)
            velocity, acceleration = s1 * (g - at.now), s2 * (g - at.predicted)
        else:
            v, a = s1 * q + at.rates[:, 0], s2 * q + at.rates[:, 1]
            motion = self.motion(q, v)
            g, Dg = motion.value, motion.jacobian
            velocity, acceleration = applied(Dg, v), applied(Dg, a) + motion.curvature
        elastic = sum(part.force(g) for part in self.elements)
        return g, Dg, acceleration @ self.mass + velocity @ self.damping + elastic - at.loads, motion


@dataclass(frozen=True)
class Elements:
    """n elements of one material: D (9 n, m) and F0 (9 n,) as `strain_operator` has them, volumes times weights (n,) [m^3]."""

    material: Material
    D: Tensor
    rest: Tensor
    volumes: Tensor

    @classmethod
    def of(cls, model: ReducedModel, chosen: np.ndarray, weights: np.ndarray, material: Material, device: torch.device) -> Elements:
        D, rest = strain_operator(model.full, model.subspace, chosen)
        volumes = weights * model.full.elements.volumes[chosen]
        return cls(material, *(torch.from_numpy(array).to(device) for array in (D, rest, volumes)))

    def stress(self, F: Tensor) -> Tensor:
        """Their volumes times P, laid out as F (k, 9 n)."""
        of_each = F.unflatten(1, (3, 3, -1)).movedim(-1, 1)  # (k, n, 3, 3)
        P = vmap(vmap(grad(self.material.density)))(of_each)
        return (self.volumes[:, None, None] * P).movedim(1, -1).flatten(1)

    def force(self, g: Tensor) -> Tensor:
        """W^T f_int (k, m)."""
        return self.stress(self.rest + g @ self.D.T) @ self.D

    def stiffness(self, g: Tensor, jacobian: Tensor) -> Tensor:
        """J^T K J (k, r, r)."""
        F, dF = self.rest + g @ self.D.T, (self.D @ jacobian).movedim(-1, 0)  # (k, 9 n), (r, k, 9 n)
        dP = vmap(lambda direction: jvp(self.stress, (F,), (direction,))[1])(dF)
        return torch.einsum("ikx,jkx->kij", dF, dP)


def applied(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(k, m, r) and (k, r) to (k, m)."""
    return (matrices @ vectors[..., None])[..., 0]


def _sampled(model: ReducedModel) -> list[tuple[Material, np.ndarray, np.ndarray]]:
    """By material, the elements that the elasticity visits and their weights."""
    found = visited(model.elasticity, len(model.full.elements.volumes))
    if found is None:
        raise ValueError(f"an elasticity of type {type(model.elasticity).__name__} has no batched step; expected a Cubature or the exact one")
    chosen, weights = found
    return [(material, chosen[at], weights[at]) for material, at in model.full.material.shares(chosen)]
