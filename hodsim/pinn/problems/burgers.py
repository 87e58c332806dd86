"""Burgers' equation u_t + u u_x = nu u_xx on -1 <= x <= 1, 0 <= t <= 1, from u = -sin(pi x), held at zero at both ends.

The solution is Cole's and Hopf's (Basdevant et al. 1986): with phi(y) = exp(-cos(pi y) / (2 pi nu)) and s normal of variance 2 nu t,

    u(x, t) = -E[sin(pi (x - s)) phi(x - s)] / E[phi(x - s)]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hodsim.multicomplex import derivative
from hodsim.pinn.problem import Condition, Field, Problem, dirichlet
from hodsim.pinn.samplers import face, grid

VISCOSITY = 0.1
BOX = [(-1.0, 1.0), (0.0, 1.0)]  # x, t
NODES = torch.linspace(-6, 6, 161, dtype=torch.float64)  # s over its deviation and root 2: exp(-36) is rounding


def exact(x: Tensor) -> Tensor:
    """By the trapezoidal rule, which is exact to rounding here; (B, 2) -> (B, 1)."""
    nodes = NODES.to(x.device)
    y = math.pi * (x[..., :1] - torch.sqrt(4 * VISCOSITY * x[..., 1:]) * nodes)
    phi = torch.exp(-torch.cos(y) / (2 * math.pi * VISCOSITY)) * torch.exp(-(nodes**2))
    return -(torch.sin(y) * phi).sum(-1, keepdim=True) / phi.sum(-1, keepdim=True)


def residual(u: Field, x: Tensor) -> Tensor:
    along, time = torch.eye(2, dtype=x.dtype, device=x.device)
    return derivative(u, x, time) + u(x) * derivative(u, x, along) - VISCOSITY * derivative(u, x, along, along)


def burgers(*, interior: int = 18, side: int = 20) -> Problem:
    line, times = grid(BOX[:1], side), grid(BOX[1:], side)
    ends = torch.cat([face(BOX, 0, end, times) for end in (0, 1)])
    return Problem(
        "Burgers", 2, 1,
        (Condition("interior", grid(BOX, interior), residual),
         Condition("boundary", ends, lambda u, x: u(x), 10.0),
         Condition("initial", face(BOX, 1, 0, line), dirichlet(lambda x: -torch.sin(math.pi * x[..., :1])), 10.0)),
        exact, grid(BOX, 51, ends=True),
    )  # fmt: skip
