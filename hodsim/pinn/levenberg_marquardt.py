"""Levenberg-Marquardt with geodesic acceleration (Transtrum & Sethna, arXiv 1201.5885) on the residuals of a problem.

    dual form     v = -J^T (J J^T + mu I)^-1 r         primal form     v = -(J^T J + mu I)^-1 J^T r
    acceleration  a = the same with r'' = D^2 r[v, v] in place of r;  step v + a / 2, taken if 2 |a| <= alpha |v| and |r| falls
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hodsim import checks
from hodsim.pinn.jacobian import LayeredJacobian
from hodsim.pinn.problem import Problem

DIFFERENCE = 0.1  # of the step v, for the second directional derivative
LARGEST_ACCELERATION = 1.5  # 2 |a| / |v|
TRIALS = 20
RISE, FALL = 3.0, 10.0  # of the damping after a refused and an accepted step


@dataclass
class LevenbergMarquardt:
    """Minimises the loss of a problem over the parameters of a field; `damping` is mu over the mean diagonal of J J^T.

    form: 'dual' solves in residuals, 'primal' in parameters; None takes the smaller."""

    field: nn.Module
    problem: Problem
    damping: float = 1e-3
    form: str | None = None
    acceleration: bool = True

    def __post_init__(self) -> None:
        checks.inside("damping", self.damping, 0.0, float("inf"))
        if self.form not in (None, "dual", "primal"):
            raise ValueError(f"form is {self.form!r}; expected 'dual', 'primal' or None")

    def step(self) -> float:
        """One accepted step, the damping being raised until the loss falls; returns the loss, unchanged when no damping does."""
        jacobian = LayeredJacobian(self.field, self.problem.conditions)
        start = parameters_to_vector(self.field.parameters()).detach()
        loss = float(jacobian.residual.square().sum())
        solver = _normal_equations(jacobian, len(start), self.form)
        for _ in range(TRIALS):
            step = self._trial(jacobian, solver(self.damping), start)
            if step is not None:
                vector_to_parameters(start + step, self.field.parameters())
                trial = float(self._residual().square().sum())
                if trial < loss:
                    self.damping = max(self.damping / FALL, 1e-16)
                    return trial
            self.damping *= RISE
        vector_to_parameters(start, self.field.parameters())
        return loss

    def _trial(self, jacobian: LayeredJacobian, solve: Callable[[Tensor], Tensor] | None, start: Tensor) -> Tensor | None:
        """v + a / 2, or None where the kernel is not positive definite to rounding or the acceleration is too large."""
        if solve is None:
            return None
        v = -solve(jacobian.residual)
        if not self.acceleration:
            return v
        vector_to_parameters(start + DIFFERENCE * v, self.field.parameters())
        difference = (self._residual() - jacobian.residual) / DIFFERENCE
        a = -solve(2 / DIFFERENCE * (difference - jacobian.times(v)))
        return v + a / 2 if 2 * a.norm() <= LARGEST_ACCELERATION * v.norm() else None

    @torch.no_grad()
    def _residual(self) -> Tensor:
        return torch.cat([condition(self.field).reshape(-1) for condition in self.problem.conditions])


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
