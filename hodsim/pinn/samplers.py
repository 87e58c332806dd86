"""Points of collocation (B, N) in a box: a grid, Gauss's points, Sobol's sequence, the points of largest residual; and the faces of the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hodsim import checks

Box = Sequence[tuple[float, float]]  # (low, high) of each coordinate


def grid(box: Box, count: int, *, ends: bool = False) -> Tensor:
    """count^N points: midpoints of equal cells, or with the ends of each interval."""
    checks.inside("count", count, 1 if ends else 0, float("inf"))
    t = torch.linspace(0, 1, count, dtype=torch.float64) if ends else (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.cartesian_prod(*(low + (high - low) * t for low, high in box)).view(-1, len(box))


def gauss(box: Box, count: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre points, count^N, and their weights (B,), which sum to one: a mean over the box, exact to degree 2 count - 1.

    For smooth solutions these are the points: least squares on a uniform grid oscillate between it near the faces."""
    checks.inside("count", count, 0, float("inf"))
    nodes, weights = (torch.from_numpy(values) / 2 for values in np.polynomial.legendre.leggauss(count))
    points = torch.cartesian_prod(*(low + (high - low) * (nodes + 0.5) for low, high in box)).view(-1, len(box))
    return points, torch.cartesian_prod(*[weights] * len(box)).view(-1, len(box)).prod(1)


def sobol(box: Box, count: int, *, seed: int = 0) -> Tensor:
    """count scrambled Sobol points."""
    low, high = torch.tensor(box, dtype=torch.float64).T
    return low + (high - low) * torch.quasirandom.SobolEngine(len(box), scramble=True, seed=seed).draw(count, dtype=torch.float64)


def adaptive(box: Box, count: int, residual: Callable[[Tensor], Tensor], *, candidates: int = 10, seed: int = 0) -> Tensor:
    """Of candidates * count Sobol points, the count with the largest |residual(x)|."""
    x = sobol(box, candidates * count, seed=seed)
    with torch.no_grad():
        size = residual(x).square().sum(-1)
    return x[size.topk(count).indices]


def face(box: Box, axis: int, end: int, points: Tensor) -> Tensor:
    """Points (B, N - 1) of the other coordinates, laid into the face where coordinate `axis` is at its low (0) or high (1) end."""
    value = points.new_full((len(points), 1), box[axis][end])
    return torch.cat([points[:, :axis], value, points[:, axis:]], dim=1)


def faces(box: Box, count: int, *, seed: int | None = None) -> Tensor:
    """count points on each of the 2 N faces of the box: a grid's midpoints in two dimensions, or Sobol's where a seed is given."""
    return _on_faces(box, lambda others, number: grid(others, count) if seed is None else sobol(others, count, seed=seed + number))


def gauss_faces(box: Box, count: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre points on the faces, count^(N - 1) on each, and their weights, which sum to one; every face counts alike."""
    weights = gauss(box[1:], count)[1] if len(box) > 1 else torch.ones(1, dtype=torch.float64)
    return _on_faces(box, lambda others, _: gauss(others, count)[0]), weights.repeat(2 * len(box)) / (2 * len(box))


def _on_faces(box: Box, sample: Callable[[Box, int], Tensor]) -> Tensor:
    """sample(box of the other coordinates, number of the face), laid into each face; the ends of an interval are single points."""
    found = []
    for axis in range(len(box)):
        others = [side for index, side in enumerate(box) if index != axis]
        for end in (0, 1):
            points = sample(others, 2 * axis + end) if others else torch.zeros(1, 0, dtype=torch.float64)
            found.append(face(box, axis, end, points))
    return torch.cat(found)
