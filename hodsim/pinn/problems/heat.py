"""The heat equation u_t = u_xx / 4 on 0 <= x, t <= 1, held at zero at both ends: u = exp(-pi^2 t / 4) sin(pi x)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hodsim.multicomplex import derivative
from hodsim.pinn.problem import Condition, Field, Problem, dirichlet
from hodsim.pinn.samplers import face, grid

DIFFUSIVITY = 0.25
BOX = [(0.0, 1.0), (0.0, 1.0)]  # x, t


def exact(x: Tensor) -> Tensor:
    return torch.exp(-DIFFUSIVITY * math.pi**2 * x[..., 1:]) * torch.sin(math.pi * x[..., :1])


def residual(u: Field, x: Tensor) -> Tensor:
    along, time = torch.eye(2, dtype=x.dtype, device=x.device)
    return derivative(u, x, time) - DIFFUSIVITY * derivative(u, x, along, along)


def heat(*, interior: int = 15, side: int = 15) -> Problem:
    line = grid(BOX[:1], side)
    ends = torch.cat([face(BOX, 0, end, line) for end in (0, 1)])
    return Problem(
        "heat", 2, 1,
        (Condition("interior", grid(BOX, interior), residual),
         Condition("boundary", ends, dirichlet(exact), 10.0),
         Condition("initial", face(BOX, 1, 0, line), dirichlet(exact), 10.0)),
        exact, grid(BOX, 51, ends=True),
    )  # fmt: skip
