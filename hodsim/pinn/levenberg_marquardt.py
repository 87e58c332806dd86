"""Levenberg-Marquardt with geodesic acceleration and bold acceptance (Transtrum & Sethna, arXiv 1201.5885) on the residuals of a problem.

    dual form     v = -J^T (J J^T + mu I)^-1 r         primal form     v = -(J^T J + mu I)^-1 J^T r
    acceleration  a = the same with r'' = D^2 r[v, v] in place of r;  step s = v + a / 2, refused if 2 |a| > alpha |v|
    acceptance    if (1 - cos(s, previous step))^b |r(s)|^2 < |r|^2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as default

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hodsim import checks
from hodsim.pinn.jacobian import LayeredJacobian
from hodsim.pinn.problem import Problem

LARGEST_ACCELERATION = 1.5  # 2 |a| / |v|
TRIALS = 20
RISE, FALL = 2.0, 3.0  # of the damping after a refused and an accepted step
SMALLEST_DAMPING = 1e-16


@dataclass
class LevenbergMarquardt:
    """Minimises the loss of a problem over the parameters of a field; `damping` is mu over the mean diagonal of J J^T.

    form: 'dual' solves in residuals, 'primal' in parameters; None takes the smaller.
    boldness: b of the acceptance. With 0 the loss falls in every step. With 1 it may rise for a while where steps go on in one direction,
    so that the parameters follow a bent valley in long steps: on the paper's problem to a millionth of the loss in equal seconds.
    The problem may be replaced between steps, by one with other points."""

    field: nn.Module
    problem: Problem
    damping: float = 1e-3
    form: str | None = None
    acceleration: bool = True
    boldness: float = 1.0
    previous: Tensor | None = default(default=None, repr=False)  # the last accepted step

    def __post_init__(self) -> None:
        checks.inside("damping", self.damping, 0.0, float("inf"))
        checks.nonnegative("boldness", self.boldness)
        if self.form not in (None, "dual", "primal"):
            raise ValueError(f"form is {self.form!r}; expected 'dual', 'primal' or None")

    def step(self) -> float:
        """One accepted step, the damping being raised until one is; returns the loss, unchanged when no damping gives an acceptable one."""
        jacobian = LayeredJacobian(self.field, self.problem.conditions)
        start = parameters_to_vector(self.field.parameters()).detach()
        loss = float(jacobian.residual.square().sum())
        solver = _normal_equations(jacobian, len(start), self.form)
        for _ in range(TRIALS):
            step = self._trial(jacobian, solver(self.damping))
            if step is not None:
                vector_to_parameters(start + step, self.field.parameters())
                trial = self._loss()
                if (1 - self._persistence(step)) ** self.boldness * trial < loss:
                    self.damping = max(self.damping / FALL, SMALLEST_DAMPING)
                    self.previous = step
                    return trial
                vector_to_parameters(start, self.field.parameters())
            self.damping *= RISE
        return loss

    def _trial(self, jacobian: LayeredJacobian, solve: Callable[[Tensor], Tensor] | None) -> Tensor | None:
        """v + a / 2, or None where the kernel is not positive definite to rounding or the acceleration is too large."""
        if solve is None:
            return None
        v = -solve(jacobian.residual)
        if not self.acceleration:
            return v
        a = -solve(second_derivative(self.field, self.problem, v))
        return v + a / 2 if 2 * a.norm() <= LARGEST_ACCELERATION * v.norm() else None

    def _persistence(self, step: Tensor) -> float:
        """The cosine between a step and the previous one, 0 where it turns back."""
        if self.previous is None:
            return 0.0
        return max(0.0, float(torch.dot(step, self.previous) / (step.norm() * self.previous.norm())))

    @torch.no_grad()
    def _loss(self) -> float:
        return float(self.problem.loss(self.field))


def second_derivative(field: nn.Module, problem: Problem, v: Tensor) -> Tensor:
    """D^2 r[v, v] of the residuals by the parameters along v (P,), (R,): forward mode twice, through the passes of the derivative engine."""
    start = {name: value.detach() for name, value in field.named_parameters()}
    pieces = v.split([value.numel() for value in start.values()])
    direction = {name: piece.view_as(value) for (name, value), piece in zip(start.items(), pieces, strict=True)}

    def residual(parameters: dict[str, Tensor]) -> Tensor:
        return torch.cat([condition(lambda x: functional_call(field, parameters, (x,))).reshape(-1) for condition in problem.conditions])

    def slope(parameters: dict[str, Tensor]) -> Tensor:
        return jvp(residual, (parameters,), (direction,))[1]

    return jvp(slope, (start,), (direction,))[1]


def _normal_equations(jacobian: LayeredJacobian, parameters: int, form: str | None) -> Callable[[float], Callable[[Tensor], Tensor] | None]:
    """damping -> (y -> J^T (J J^T + mu)^-1 y), in the dual or the primal form; None where the Cholesky factorisation fails."""
    dual = form == "dual" or (form is None and len(jacobian.residual) <= parameters)
    if dual:
        matrix = jacobian.kernel()
    else:
        dense = jacobian.dense()
        matrix = dense.T @ dense
    diagonal = matrix.diagonal().clone()
    mean = diagonal.sum() / len(jacobian.residual)  # the same number in both forms

    def damped(damping: float) -> Callable[[Tensor], Tensor] | None:
        matrix.diagonal().copy_(diagonal + damping * mean)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed:
            return None

        def solve(y: Tensor) -> Tensor:
            right = y if dual else jacobian.transposed(y)
            x = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
            return jacobian.transposed(x) if dual else x

        return solve

    return damped
