"""Many states of a reduced model stepped at once, in torch: one way for the CPU and for CUDA, any trunk and any material.

What it computes is what `variational_step` and, for the Euler-Lagrange form, `dynamics.step` compute of each state alone; an evaluation takes
all states that still need one. On the CPU the compiled step (`CompiledStep.rollouts`) is many times as fast where it covers the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hodsim.dynamics import Scheme, State, backward_euler
from hodsim.reduced import kernel
from hodsim.reduced.batched_equation import Equation, Rows, applied
from hodsim.reduced.batched_newton import BatchedResult, newton_batched
from hodsim.reduced.captured import Captured
from hodsim.reduced.compiled import Rollout, forces_of_each, form_of, history_of, reason_of, scheme_table
from hodsim.reduced.model import ReducedModel
from hodsim.solve import ConvergenceError


class BatchedStep:
    """Steps of many states at once, in variational (backward Euler in displacements) or Euler-Lagrange form, in float64.

    device: default CUDA where there is one. graphs: launch residuals and tangents as CUDA graphs; default on CUDA, needs it.
    Raises ValueError for an elasticity that is no sum over elements, and for graphs on another device."""

    def __init__(
        self, model: ReducedModel, *, form: str = "variational", device: torch.device | str | None = None, graphs: bool | None = None
    ):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        on_cuda = self.device.type == "cuda"
        if graphs and not on_cuda:
            raise ValueError(f"graphs=True on the device {str(self.device)!r}; expected CUDA")
        self.equation = Equation(model, form_of(form), self.device)
        captured = Captured if graphs or (graphs is None and on_cuda) else lambda function: function
        self.residual, self.tangent = captured(self.equation.residual), captured(self.equation.tangent)
        self.rounding = model.rounding_force

    @torch.no_grad()
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
        forces = forces_of_each(states, dt, forces, len(self.equation.mass))
        B, steps, _ = forces.shape
        known = states[0].previous is not None
        tables = self._tensor(scheme_table(backward_euler if self.equation.variational else scheme, dt))
        past, loads = self._tensor(np.stack([history_of(state) for state in states])), self._tensor(forces)  # past (B, 5, r)
        taken, counts = past.new_zeros(B, steps, 3, past.shape[2]), np.zeros((B, steps), int)
        lengths, failures = np.full(B, steps), dict[int, ConvergenceError]()
        alive = np.arange(B)
        for i in range(steps):
            if not len(alive):
                break
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

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array, np.float64)).to(self.device)


class _Step:
    """The equations of one step of k states: past (k, 5, r) their q, v, a, previous q and v; loads (k, m)."""

    def __init__(self, batched: BatchedStep, past: Tensor, loads: Tensor, dt: float, table: Tensor, known: bool):
        self.model = batched
        q, v = past[:, 0], past[:, 1]
        self.guess = q + dt * v
        now = predicted = loads.new_zeros(loads.shape)
        if batched.equation.variational:
            now = batched.equation.value(q)
            if known:
                predicted = 2 * now - batched.equation.value(past[:, 3])
            else:  # a first step has a velocity instead of a past
                predicted = now + dt * applied(batched.equation.jacobian(q)[1], v)
        rates = torch.einsum("sc,kcr->ksr", table[:, :5], past)
        self.rows = Rows(table[:, 5].expand(len(q), 2), rates, loads, now, predicted)

    def solved(self, tolerance: float, max_iterations: int) -> BatchedResult:
        return newton_batched(
            lambda some, q: self.model.residual(q, *(row[some] for row in self.rows)),
            lambda some, q: self.model.tangent(q, *(row[some] for row in self.rows)),
            self.guess, tolerance=tolerance, rounding=self.model.rounding, max_iterations=max_iterations,
        )  # fmt: skip

    def state(self, q: Tensor) -> Tensor:
        """q, v and a, (k, 3, r)."""
        return torch.cat([q[:, None], self.rows.slopes[..., None] * q[:, None] + self.rows.rates], 1)
