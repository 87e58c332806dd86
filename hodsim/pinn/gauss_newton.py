"""Gauss-Newton products of a problem's loss for Newton-Krylov training (HoD-Net, Algorithm 1): v -> 2 J^T (J v), J never formed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from hodsim.optim.curvature import Batch, Product
from hodsim.pinn.jacobian import LayeredJacobian
from hodsim.pinn.problem import Problem


@dataclass(frozen=True)
class ResidualGaussNewton:
    """Curvature for hodsim.optim.NewtonKrylov of the loss |r|^2 of a problem, whose closure is `lambda: problem.loss(field)`."""

    field: nn.Module
    problem: Problem

    def at(self, batch: Batch) -> tuple[float, Tensor, Product]:
        value, gradient = batch.value_and_gradient()
        jacobian = LayeredJacobian(self.field, self.problem.conditions)

        def product(v: Tensor) -> Tensor:
            batch.products += 1
            return 2 * jacobian.transposed(jacobian.times(v))

        return value, gradient, product
