"""A boundary value problem as residuals at points: r(x) = 0, written with the field's own derivatives (HoD-Net, eq. 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

Field = Callable[[Tensor], Tensor]  # (B, N) -> (B, M)
Residual = Callable[[Field, Tensor], Tensor]  # the field and points (B, N) -> (B, K), each row of B by itself


@dataclass(frozen=True)
class Condition:
    """An equation at points (B, N): interior, boundary or initial. Its residual is weighted by `weight`, a number or (K,).

    quadrature: weights (B,) of the points, which sum to one; equal ones where None.
    sample: where the points are to move while a field is trained, residual(x) -> new ones, such as `partial(adaptive, box, count)`."""

    name: str
    points: Tensor
    residual: Residual
    weight: float | Tensor = 1.0
    quadrature: Tensor | None = None
    sample: Callable[[Callable[[Tensor], Tensor]], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.quadrature is not None and self.quadrature.shape != self.points.shape[:1]:
            received, count = tuple(self.quadrature.shape), len(self.points)
            raise ValueError(f"quadrature of {self.name!r} has shape {received}; expected one weight for each of {count} points")

    def __call__(self, field: Field) -> Tensor:
        """Residuals of the field (B, K), weighted so that their sum of squares is the weighted mean square."""
        share = len(self.points) ** -0.5 if self.quadrature is None else self.quadrature.sqrt()[:, None]
        return self.residual(field, self.points) * (share * self.weight)

    def resampled(self, field: Field) -> Condition:
        """The same with points sampled anew for the field as it is; itself where its points stay."""
        if self.sample is None:
            return self
        return replace(self, points=self.sample(lambda x: self.residual(field, x)))


@dataclass(frozen=True)
class Problem:
    """Conditions on a field of `inputs` coordinates and `outputs` values, with the exact solution where it is known."""

    name: str
    inputs: int
    outputs: int
    conditions: tuple[Condition, ...]
    exact: Field
    test_points: Tensor

    def loss(self, field: Field) -> Tensor:
        """The sum over the conditions of the mean squares of their weighted residuals; differentiable in the parameters."""
        return torch.stack([condition(field).square().sum() for condition in self.conditions]).sum()

    def resampled(self, field: Field) -> Problem:
        """The same with the points of its conditions sampled anew."""
        return replace(self, conditions=tuple(condition.resampled(field) for condition in self.conditions))

    @torch.no_grad()
    def error(self, field: Field) -> float:
        """|u - u_exact| / |u_exact| over all values at the test points."""
        exact = self.exact(self.test_points)
        return float((field(self.test_points) - exact).norm() / exact.norm())


def dirichlet(exact: Field) -> Residual:
    """u - u_exact."""
    return lambda field, x: field(x) - exact(x)


def network(problem: Problem, *, width: int = 100, hidden: int = 4, seed: int = 0) -> nn.Sequential:
    """The paper's: hidden layers of tanh and a linear last one, in float64, Glorot's initial weights."""
    sizes = [problem.inputs, *[width] * hidden, problem.outputs]
    layers: list[nn.Module] = []
    generator = torch.Generator().manual_seed(seed)
    for n, m in zip(sizes[:-1], sizes[1:], strict=True):
        linear = nn.Linear(n, m, dtype=torch.float64)
        nn.init.xavier_normal_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
