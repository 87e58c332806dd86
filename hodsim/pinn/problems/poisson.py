"""Poisson's equation: the paper's, eight fields on the unit square (HoD-Net, eq. 13), and one field in any dimension."""

from __future__ import annotations

import torch
from torch import Tensor

from hodsim.multicomplex import laplacian
from hodsim.pinn.problem import Condition, Problem, dirichlet
from hodsim.pinn.samplers import faces, gauss, gauss_faces, grid, sobol

BOUNDARY_WEIGHT = 10.0
WAVE_NUMBERS = torch.arange(1.0, 9.0, dtype=torch.float64)


def solution(x: Tensor) -> Tensor:
    """phi_k = sin(k x1) sin(k x2) + cos(k x1 x2), k = 1..8, (B, 8)."""
    k = WAVE_NUMBERS.to(x.device, x.dtype)
    x1, x2 = x[..., :1], x[..., 1:]
    return torch.sin(k * x1) * torch.sin(k * x2) + torch.cos(k * x1 * x2)


def source(x: Tensor) -> Tensor:
    """[f]_k of eq. 13, (B, 8)."""
    k = WAVE_NUMBERS.to(x.device, x.dtype)
    x1, x2 = x[..., :1], x[..., 1:]
    return -2 * k**2 * torch.sin(k * x1) * torch.sin(k * x2) - k**2 * (x1**2 + x2**2) * torch.cos(k * x1 * x2)


def paper_poisson(count: int = 20) -> Problem:
    """Eq. 13 on count^2 Gauss points and `count` on each edge; equation k is divided by k^2, about the size of its source."""
    square = [(0.0, 1.0)] * 2
    (points, weights), (edges, edge_weights) = gauss(square, count), gauss_faces(square, count)
    return Problem(
        "Poisson, k = 1..8", 2, 8,
        (Condition("interior", points, lambda u, x: laplacian(u, x) - source(x), WAVE_NUMBERS**-2, weights),
         Condition("boundary", edges, dirichlet(solution), BOUNDARY_WEIGHT, edge_weights)),
        solution, grid(square, 101, ends=True),
    )  # fmt: skip


def poisson(dim: int, *, interior: int = 400, side: int = 20, seed: int = 0) -> Problem:
    """Laplacian u = -sin(s) with the solution u = sin(s), s = sum of x / sqrt(dim), on the unit cube."""
    box = [(0.0, 1.0)] * dim

    def exact(x: Tensor) -> Tensor:
        return torch.sin(x.sum(-1, keepdim=True) / dim**0.5)

    return Problem(
        f"Poisson, {dim} dimensions", dim, 1,
        (Condition("interior", sobol(box, interior, seed=seed), lambda u, x: laplacian(u, x) + exact(x)),
         Condition("boundary", faces(box, side, seed=seed), dirichlet(exact), BOUNDARY_WEIGHT)),
        exact, sobol(box, 2000, seed=seed + 1),
    )  # fmt: skip
