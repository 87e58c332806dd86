"""Along which directions v_i of the input the two terms are summed: sum_i w_i |Df[v_i]|^2 and sum_i u_i |D^2 f[v_i, v_i]|^2.

    AllAxes        v_i = e_i, w = u = 1: exact, deterministic
    RandomInputs   k axes drawn without replacement, w = u = N / k: unbiased
    Hutchinson     k draws g ~ N(0, I) with r = sign g: w = 1/k for r, u = +1/(2k) for g and -1/(2k) for r: unbiased

The last because E|D^2 f[v, v]|^2 = |tr D^2 f|^2 + 2 |D^2 f|_F^2 + (kappa - 3) sum_i |d_ii f|^2 for independent entries of variance one and
fourth moment kappa, which is 3 for g and 1 for r: half the difference is eq. 10. Its variance is that of the whole Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Directions:
    """jacobian, hessian: the weights w and u (K,) of the directions. axes (K,): numbers of the inputs; vectors (K, N): in their place."""

    jacobian: Tensor
    hessian: Tensor
    axes: Tensor | None = None
    vectors: Tensor | None = None

    def seeds(self, weight: Tensor) -> Tensor:
        """The first layer's outputs W v_i, (K, M): columns of W (M, N), no product, where the directions are axes."""
        return weight.T.index_select(0, self.axes) if self.axes is not None else self.dense(weight) @ weight.T

    def pull(self, seeds: Tensor, weight: Tensor) -> Tensor:
        """The gradient by W of a function whose gradient by the seeds is given."""
        if self.axes is not None:
            return torch.zeros_like(weight).index_copy_(1, self.axes, seeds.T)
        return seeds.T @ self.dense(weight)

    def dense(self, like: Tensor) -> Tensor:
        """The directions themselves, (K, N), for inputs as wide as like (.., N)."""
        if self.vectors is not None:
            return self.vectors
        assert self.axes is not None
        return torch.zeros(len(self.axes), like.shape[-1], dtype=like.dtype, device=like.device).scatter_(1, self.axes[:, None], 1.0)


@dataclass(frozen=True)
class AllAxes:
    """Every input: the exact terms."""

    def draw(self, width: int, *, like: Tensor, curved: bool) -> Directions:
        one = torch.ones(width, dtype=like.dtype, device=like.device)
        return Directions(one, one, axes=torch.arange(width, device=like.device))


@dataclass(frozen=True)
class RandomInputs:
    """`count` inputs drawn without replacement, anew at each call: unbiased, and exact at count = N."""

    count: int
    generator: torch.Generator | None = None

    def draw(self, width: int, *, like: Tensor, curved: bool) -> Directions:
        if not 1 <= self.count <= width:
            raise ValueError(f"{self.count} random inputs of {width}; expected 1 to {width}")
        axes = torch.randperm(width, generator=self.generator)[: self.count].to(like.device)
        scale = torch.full((self.count,), width / self.count, dtype=like.dtype, device=like.device)
        return Directions(scale, scale, axes=axes)


@dataclass(frozen=True)
class Hutchinson:
    """`count` random sign vectors, and for the second derivatives as many Gaussian ones: unbiased, and independent of the number of inputs."""

    count: int
    generator: torch.Generator | None = None

    def draw(self, width: int, *, like: Tensor, curved: bool) -> Directions:
        if self.count < 1:
            raise ValueError(f"{self.count} Hutchinson probes; expected at least 1")
        gaussian = torch.randn(self.count, width, generator=self.generator, dtype=torch.float64).to(like)
        signs = torch.where(gaussian < 0, -1.0, 1.0).to(like)
        share = torch.full((self.count,), 1 / self.count, dtype=like.dtype, device=like.device)
        if not curved:
            return Directions(share, torch.zeros_like(share), vectors=signs)
        return Directions(
            torch.cat([share, torch.zeros_like(share)]), torch.cat([-share / 2, share / 2]), vectors=torch.cat([signs, gaussian])
        )
