"""Many states of a reduced model stepped at once, in torch: one way for the CPU and for CUDA, any trunk and any material.

What it computes is what `variational_step` and, for the Euler-Lagrange form, `dynamics.step` compute of each state alone; an evaluation takes
all states that still need one. On the CPU the compiled step (`CompiledStep.rollouts`) is many times as fast where it covers the model.
With F = F0 + D g the deformation gradients of the elements that count, P = dPsi/dF and w their weighted volumes,

    W^T f_int = D^T (w P),    J^T K J = (D Dg)^T w dP/dF (D Dg)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from hodsim.dynamics import Scheme, State, backward_euler
from hodsim.fem import Material
from hodsim.multicomplex import Axes, derivatives, hessian
from hodsim.reduced import kernel
from hodsim.reduced.batched_newton import BatchedResult, newton_batched
from hodsim.reduced.compiled import Rollout, forces_of_each, form_of, history_of, reason_of, scheme_table
from hodsim.reduced.cubature import visited
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.strain import strain_operator
from hodsim.solve import ConvergenceError


class BatchedStep:
    """Steps of many states at once, in variational (backward Euler in displacements) or Euler-Lagrange form, in float64.

    device: default CUDA where there is one. Raises ValueError for an elasticity that is no sum over elements."""

    def __init__(self, model: ReducedModel, *, form: str = "variational", device: torch.device | str | None = None):
        self.form, self.device = form_of(form), torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.trunk = None if model.subspace.trunk is None else deepcopy(model.subspace.trunk).to(self.device)
        self.mass, self.damping = self._tensor(model.mass), self._tensor(model.damping)  # (m, m)
        self.rounding = model.rounding_force
        self.elements = [Elements.of(model, chosen, weights, material, self.device) for material, chosen, weights in _sampled(model)]

    def rollouts(
        self,
        states: Sequence[State],
        dt: float,
        forces: np.ndarray,
        *,
        scheme: Scheme = backward_euler,
        tolerance: float = 1e-5,
        max_iterations: int = 25,
    ) -> list[Rollout]:
        """Independent trajectories, one a state, under forces (B, steps, m) in feature space, or (steps, m) for all, as
        `CompiledStep.rollouts` has them. A failure ends its own trajectory alone. The defect is not computed here: zero."""
        forces = forces_of_each(states, dt, forces, len(self.mass))
        B, steps, _ = forces.shape
        known = states[0].previous is not None
        tables = self._tensor(scheme_table(backward_euler if self.form == kernel.VARIATIONAL else scheme, dt))
        past, loads = self._tensor(np.stack([history_of(state) for state in states])), self._tensor(forces)  # past (B, 5, r)
        taken, counts = past.new_zeros(B, steps, 3, past.shape[2]), np.zeros((B, steps), int)
        lengths, failures = np.full(B, steps), dict[int, ConvergenceError]()
        alive = np.arange(B)
        for i in range(steps):
            step = _Step(self, past, loads[alive, i], dt, tables[int(known)], known)
            found = step.solved(tolerance, max_iterations)
            ended = found.ended.cpu().numpy()
            for b in map(int, np.flatnonzero(ended != kernel.CONVERGED)):
                number = int(alive[b])
                failures[number] = ConvergenceError(
                    reason=reason_of(int(ended[b]), max_iterations), step=i + 1, time=states[number].time + (i + 1) * dt, dt=dt,
                    history=found.history(b),
                )  # fmt: skip
                lengths[number] = i
            good = ended == kernel.CONVERGED
            counts[alive, i] = found.iterations.cpu().numpy()
            alive, known = alive[good], True
            new = step.state(found.x)[good]  # (k, 3, r)
            taken[alive, i] = new
            past = torch.cat([new, past[good][:, :2]], 1)
        q, v, a = taken.cpu().numpy().transpose(2, 0, 1, 3)
        return [Rollout(q[b, :n], v[b, :n], a[b, :n], counts[b, :n], np.zeros(n), failures.get(b)) for b, n in enumerate(lengths)]

    def value(self, q: Tensor) -> Tensor:
        """g (k, m)."""
        return q if self.trunk is None else self.trunk(q)

    def motion(self, q: Tensor, v: Tensor) -> Motion:
        """Derivatives of g at q along v, (k, r) each."""
        if self.trunk is None:
            none = torch.zeros_like(q)
            square = none[:, :, None].expand(-1, -1, q.shape[1])
            return Motion(q, torch.eye(q.shape[1], dtype=q.dtype, device=q.device).expand_as(square), none, square, square)
        z = derivatives(self.trunk, q, v, v, Axes())
        jacobian, mixed, third = (z.part(*which).movedim(0, -1) for which in ((2,), (0, 2), (0, 1, 2)))
        return Motion(z.part(), jacobian, z.part(0, 1), mixed, third)

    def hessian(self, q: Tensor) -> Tensor:
        """D^2 g (k, m, r, r)."""
        return q.new_zeros(*q.shape, q.shape[1], q.shape[1]) if self.trunk is None else hessian(self.trunk, q)

    def elastic(self, g: Tensor) -> Tensor:
        """W^T f_int (k, m)."""
        return sum((part.force(g) for part in self.elements), torch.zeros_like(g))

    def stiffness(self, g: Tensor, jacobian: Tensor) -> Tensor:
        """J^T K J (k, r, r)."""
        return sum((part.stiffness(g, jacobian) for part in self.elements), jacobian.new_zeros(()))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array, np.float64)).to(self.device)


class Motion(NamedTuple):
    """As `features.Motion`, of k states: value (k, m), jacobian (k, m, r), curvature (k, m), mixed and third (k, m, r)."""

    value: Tensor
    jacobian: Tensor
    curvature: Tensor
    mixed: Tensor
    third: Tensor


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
        return self.stress(self.rest + g @ self.D.T) @ self.D

    def stiffness(self, g: Tensor, jacobian: Tensor) -> Tensor:
        F, dF = self.rest + g @ self.D.T, (self.D @ jacobian).movedim(-1, 0)  # (k, 9 n), (r, k, 9 n)
        dP = vmap(lambda direction: jvp(self.stress, (F,), (direction,))[1])(dF)
        return torch.einsum("ikx,jkx->kij", dF, dP)


class _Step:
    """The equations of one step of k states: past (k, 5, r) their q, v, a, previous q and v; loads (k, m)."""

    def __init__(self, batched: BatchedStep, past: Tensor, loads: Tensor, dt: float, table: Tensor, known: bool):
        self.model, self.loads = batched, loads
        self.guess = past[:, 0] + dt * past[:, 1]
        self.rates, self.slopes = torch.einsum("sc,kcr->skr", table[:, :5], past), table[:, 5]  # v = s1 q + v0, a = s2 q + a0
        self.inertia, self.drag = batched.mass / dt**2, batched.damping / dt
        self.variational = batched.form == kernel.VARIATIONAL
        if self.variational:
            with torch.no_grad():
                self.now = batched.value(past[:, 0])
                if known:
                    self.predicted = 2 * self.now - batched.value(past[:, 3])
                else:  # a first step has a velocity instead of a past
                    rate = (batched.motion(past[:, 0], past[:, 1]).jacobian @ past[:, 1, :, None])[..., 0]
                    self.predicted = self.now + dt * rate

    def solved(self, tolerance: float, max_iterations: int) -> BatchedResult:
        with torch.no_grad():
            return newton_batched(
                self.residual, self.tangent, self.guess, tolerance=tolerance, rounding=self.model.rounding, max_iterations=max_iterations
            )

    def state(self, q: Tensor) -> Tensor:
        """q, v and a, (k, 3, r)."""
        return torch.stack([q, *(slope * q + rate for slope, rate in zip(self.slopes, self.rates, strict=True))], 1)

    def residual(self, some: Tensor, q: Tensor) -> Tensor:
        motion, p = self._unbalanced(some, q)
        return (motion.jacobian.mT @ p[..., None])[..., 0]

    def tangent(self, some: Tensor, q: Tensor) -> Tensor:
        motion, p = self._unbalanced(some, q)
        Dg, second = motion.jacobian, self.model.hessian(q)
        if self.variational:
            moved = (self.inertia + self.drag) @ Dg
        else:
            s1, s2 = self.slopes
            bent = torch.einsum("kmij,kj->kmi", second, s2 * q + self.rates[1, some])
            moved = self.model.mass @ (s2 * Dg + bent + motion.third + 2 * s1 * motion.mixed) + self.model.damping @ (s1 * Dg + motion.mixed)
        return torch.einsum("km,kmij->kij", p, second) + Dg.mT @ moved + self.model.stiffness(motion.value, Dg)

    def _unbalanced(self, some: Tensor, q: Tensor) -> tuple[Motion, Tensor]:
        """The derivatives at q, and the unbalanced force p in feature space (k, m)."""
        s1, s2 = self.slopes
        v = torch.zeros_like(q) if self.variational else s1 * q + self.rates[0, some]
        motion = self.model.motion(q, v)
        elastic = self.model.elastic(motion.value) - self.loads[some]
        if self.variational:
            return motion, (motion.value - self.predicted[some]) @ self.inertia + (motion.value - self.now[some]) @ self.drag + elastic
        a = s2 * q + self.rates[1, some]
        acceleration = (motion.jacobian @ a[..., None])[..., 0] + motion.curvature
        return motion, acceleration @ self.model.mass + (motion.jacobian @ v[..., None])[..., 0] @ self.model.damping + elastic


def _sampled(model: ReducedModel) -> list[tuple[Material, np.ndarray, np.ndarray]]:
    """By material, the elements that the elasticity visits and their weights."""
    found = visited(model.elasticity, len(model.full.elements.volumes))
    if found is None:
        raise ValueError(f"an elasticity of type {type(model.elasticity).__name__} has no batched step; expected a Cubature or the exact one")
    chosen, weights = found
    return [(material, chosen[at], weights[at]) for material, at in model.full.material.shares(chosen)]
