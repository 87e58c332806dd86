"""Fourth order: the biharmonic equation on the unit square and Euler-Bernoulli's clamped beam."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hodsim.multicomplex import derivative
from hodsim.pinn.problem import Condition, Field, Problem, dirichlet
from hodsim.pinn.samplers import faces, grid

SQUARE = [(0.0, 1.0), (0.0, 1.0)]
LINE = [(0.0, 1.0)]


def plate_deflection(x: Tensor) -> Tensor:
    return torch.sin(math.pi * x[..., :1]) * torch.sin(math.pi * x[..., 1:])


def normal_second_derivative(u: Field, x: Tensor) -> Tensor:
    """Of the edge that x lies on, the second derivative across it: the bending moment of a simply supported plate, up to a factor."""
    on_first = ((x[:, :1] == 0) | (x[:, :1] == 1)).to(x)
    across = torch.cat([on_first, 1 - on_first], dim=1)
    return derivative(u, x, across, across)


def bilaplacian(u: Field, x: Tensor) -> Tensor:
    """u_1111 + 2 u_1122 + u_2222, (B, M)."""
    e1, e2 = torch.eye(2, dtype=x.dtype, device=x.device)
    return derivative(u, x, e1, e1, e1, e1) + 2 * derivative(u, x, e1, e1, e2, e2) + derivative(u, x, e2, e2, e2, e2)


def biharmonic(*, interior: int = 12, side: int = 12) -> Problem:
    """Bilaplacian u = 4 pi^4 sin(pi x1) sin(pi x2), simply supported."""
    edges = faces(SQUARE, side)
    return Problem(
        "biharmonic", 2, 1,
        (Condition("interior", grid(SQUARE, interior), lambda u, x: bilaplacian(u, x) - 4 * math.pi**4 * plate_deflection(x), 0.01),
         Condition("boundary", edges, dirichlet(plate_deflection), 10.0),
         Condition("moments", edges, normal_second_derivative)),
        plate_deflection, grid(SQUARE, 51, ends=True),
    )  # fmt: skip


def beam_deflection(x: Tensor) -> Tensor:
    return (x * (1 - x)) ** 2


def slope(u: Field, x: Tensor) -> Tensor:
    return derivative(u, x, torch.ones(1, dtype=x.dtype, device=x.device))


def clamped_beam(*, interior: int = 40) -> Problem:
    """u'''' = 24 on (0, 1), u and u' zero at both ends (EI = 1, a constant load): u = x^2 (1 - x)^2."""
    along = torch.ones(1, dtype=torch.float64)
    ends = faces(LINE, 1)
    return Problem(
        "clamped beam", 1, 1,
        (Condition("interior", grid(LINE, interior), lambda u, x: derivative(u, x, *(along.to(x),) * 4) - 24, 0.04),
         Condition("boundary", ends, dirichlet(beam_deflection), 10.0),
         Condition("slopes", ends, slope)),
        beam_deflection, grid(LINE, 501, ends=True),
    )  # fmt: skip
