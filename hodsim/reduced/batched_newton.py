"""Newton's method of `newton` for many small dense systems at once, in torch: each goes its own way, and what has ended is not evaluated again.

Steps, tests and the damped step are those of `newton`, by the same constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hodsim.reduced.kernel import CONVERGED, NO_DECREASE, NOT_FINITE, TOO_MANY
from hodsim.solve.newton import DAMPINGS, SHORTEST_STEP, SQRT_EPSILON, SUFFICIENT

RUNNING = -1  # until it has ended as the kernel's Newton does

Some = Callable[[Tensor, Tensor], Tensor]  # of the systems of those numbers (k,), at x (k, n)


@dataclass(frozen=True)
class BatchedResult:
    """The last iterates x (B, n), how each ended (B,), the iterations of each (B,), and the norms of residuals (most iterations + 1, B)."""

    x: Tensor
    ended: Tensor
    iterations: Tensor
    norms: Tensor

    def history(self, i: int) -> tuple[float, ...]:
        """The norms of one system's residuals."""
        return tuple(self.norms[: int(self.iterations[i]) + 1, i].tolist())


def newton_batched(
    residual: Some, tangent: Some, x: Tensor, *, tolerance: float, rounding: float, max_iterations: int = 25
) -> BatchedResult:  # fmt: skip
    """Solve residual(x) = 0, (k, n), with the tangents (k, n, n), from the guesses x (B, n).

    Each ends when its residual is tolerance times its first, or no more than rounding. Does not raise: see BatchedResult.ended."""
    x = x.clone()
    r = residual(torch.arange(len(x), device=x.device), x)
    norm = r.norm(dim=1)
    norms, target = [norm.clone()], (tolerance * norm).clamp_min(rounding)
    ended = torch.where(torch.isfinite(norm), RUNNING, NOT_FINITE)
    iterations = torch.zeros_like(ended)
    while True:
        ended[(ended == RUNNING) & (norm <= target)] = CONVERGED
        ended[(ended == RUNNING) & (iterations >= max_iterations)] = TOO_MANY
        at = (ended == RUNNING).nonzero()[:, 0]
        if not len(at):
            return BatchedResult(x, ended, iterations, torch.stack(norms))
        step = _Step(lambda some, y, at=at: residual(at[some], y), tangent(at, x[at]), x[at], r[at], norm[at], target[at])
        found, last = step.taken()
        x[at[found]], r[at[found]] = step.x[found], step.r[found]
        norm[at[found]] = step.r[found].norm(dim=1)
        iterations[at[found]] += 1
        ended[at[last]] = CONVERGED
        ended[at[~found]] = NO_DECREASE
        norms.append(norm.clone())


class _Step:
    """One step of k systems; x and r are written over where one is found."""

    def __init__(self, residual: Some, T: Tensor, x: Tensor, r: Tensor, norm: Tensor, target: Tensor):
        self.residual, self.T, self.x, self.r, self.norm, self.target = residual, T, x, r, norm, target
        self.factors, self.pivots, _ = torch.linalg.lu_factor_ex(T)
        self.direction = self._solve(slice(None), r)
        self.size = self.direction.norm(dim=1)
        self.found = torch.zeros_like(norm, dtype=torch.bool)

    def taken(self) -> tuple[Tensor, Tensor]:
        """Which systems took a step (k,), and for which it was the last, being of the size of rounding."""
        regular = torch.isfinite(self.size)
        last = regular & (self.size <= SQRT_EPSILON * self.x.norm(dim=1))
        if len(some := last.nonzero()[:, 0]):
            x = self.x[some] - self.direction[some]
            self._keep(some, x, self.residual(some, x))
        self._search((regular & ~last).nonzero()[:, 0])
        self._damp((~self.found & torch.isfinite(self.T).all((1, 2))).nonzero()[:, 0])
        return self.found, last

    def _solve(self, some: Tensor | slice, r: Tensor) -> Tensor:
        return torch.linalg.lu_solve(self.factors[some], self.pivots[some], r[..., None])[..., 0]

    def _keep(self, some: Tensor, x: Tensor, r: Tensor) -> None:
        self.x[some], self.r[some], self.found[some] = x, r, True

    def _search(self, some: Tensor) -> None:
        """The longest step along Newton's direction that is monotone in the residual, or naturally."""
        length = 1.0
        while len(some) and length >= SHORTEST_STEP:
            x, factor = self.x[some] - length * self.direction[some], 1 - length / 4
            r = self.residual(some, x)
            norm = r.norm(dim=1)
            natural = torch.isfinite(norm) & (self._solve(some, r).norm(dim=1) <= factor * self.size[some])
            good = (norm <= torch.maximum(factor * self.norm[some], self.target[some])) | natural
            self._keep(some[good], x[good], r[good])
            some, length = some[~good], length / 2

    def _damp(self, some: Tensor) -> None:
        """The least damped step that lowers |R|^2 by some of what its slope promises."""
        some = some[(self.T[some].mT @ self.r[some][..., None]).any(2).any(1)]
        for damping in DAMPINGS.tolist():
            if not len(some):
                return
            T = self.T[some]
            slope = (T.mT @ self.r[some][..., None])[..., 0]
            matrix = T.mT @ T + damping * T.square().sum((1, 2), keepdim=True) * torch.eye(T.shape[-1], dtype=T.dtype, device=T.device)
            step = torch.linalg.solve_ex(matrix, slope[..., None])[0][..., 0]
            x = self.x[some] - step
            r = self.residual(some, x)
            good = r.square().sum(1) <= self.norm[some] ** 2 - SUFFICIENT * torch.linalg.vecdot(slope, step)
            self._keep(some[good], x[good], r[good])
            some = some[~good]
