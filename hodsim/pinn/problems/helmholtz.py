"""Helmholtz's equation Laplacian u + k^2 u = f on the unit square, k = 5, with the solution u = sin(2 pi x1) sin(pi x2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hodsim.multicomplex import laplacian
from hodsim.pinn.problem import Condition, Field, Problem, dirichlet
from hodsim.pinn.samplers import faces, grid

WAVE_NUMBER = 5.0
SQUARE = [(0.0, 1.0), (0.0, 1.0)]


def exact(x: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * x[..., :1]) * torch.sin(math.pi * x[..., 1:])


def residual(u: Field, x: Tensor) -> Tensor:
    return laplacian(u, x) + WAVE_NUMBER**2 * u(x) - (WAVE_NUMBER**2 - 5 * math.pi**2) * exact(x)


def helmholtz(*, interior: int = 15, side: int = 15) -> Problem:
    return Problem(
        "Helmholtz", 2, 1,
        (Condition("interior", grid(SQUARE, interior), residual, 0.04),
         Condition("boundary", faces(SQUARE, side), dirichlet(exact), 10.0)),
        exact, grid(SQUARE, 51, ends=True),
    )  # fmt: skip
