"""|Df|_F^2 of an encoder with two or three activations in front of a linear layer, without a lane: Gram matrices that meet in the middle.

    |W_4 D_3 W_3 D_2 W_2 D_1 W_1|^2 = d_2 . (P * Q) d_2,    P = W_3^T D_3 G D_3 W_3 for G = W_4^T W_4,    Q = W_2 D_1 G D_1 W_2^T for G = W_1 W_1^T

(*: entry by entry; D_l = diag d_l holds the slopes phi' of a sample; with two activations P is W_3^T W_3.) The samples share G, and nearly all where
many slopes are one constant c, as ELU's are 1 and ReLU's are 0 or 1: D = c + E with E zero outside a set S of units. With F = W_3 or W_2^T

    F^T D G D F = c^2 F^T G F + M + M^T,    M = (E F)_S^T (c (G F)_S + (1/2) G_SS (E F)_S)

multiplies s = |S| rows in place of all. For B symmetric, U = (E F)_S B and H = c (G F)_S + G_SS (E F)_S, the gradient of <B, F^T D G D F> is

    (E F)_S~ = 2 H B,    (c G F)_S~ = 2 U,    G_SS~ = U (E F)_S^T,    (c^2 F^T G F)~ = B
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slopes:
    """d (B, n) of a layer as c + E: c the commonest of its values, rest E (B, n), units: S of each sample, where E or phi'' is not zero."""

    constant: float
    rest: Tensor
    units: list[Tensor]

    @classmethod
    def of(cls, tower: list[Tensor]) -> Slopes:
        """tower: [phi', ..] or, where there will be a gradient, [phi', phi'', ..], (B, n) each."""
        constant = tower[0].detach().flatten().mode().values
        others = tower[0] != constant
        if len(tower) > 1:
            others |= tower[1] != 0
        return cls(float(constant), tower[0] - constant, [row.nonzero()[:, 0] for row in others])

    def multiply_adds(self, width: int) -> int:
        """Of all samples and of what they share, with the gradient, for F (n, width)."""
        n = self.rest.shape[1]
        shared = 3 * n * width * (n + width)
        return shared + sum(len(S) * width * (2 * len(S) + 3 * width) for S in self.units)


class Shared:
    """A Gram matrix that is the same for every sample."""

    def __init__(self, gram: Tensor):
        self.gram, self.gram_bar = gram, torch.zeros_like(gram)

    def of(self, b: int) -> Tensor:
        """That of sample b."""
        return self.gram

    def pull(self, b: int, bar: Tensor) -> None:
        """Add the gradient by the matrix of sample b, which `of` was called for last."""
        self.gram_bar += bar


class Passed:
    """F^T D G D F (m, m) for G (n, n), F (n, m) and the slopes D of each sample. What a sample needs is written into the same memory again."""

    def __init__(self, gram: Tensor, matrix: Tensor, slopes: Slopes):
        self.gram, self.matrix, self.slopes = gram, matrix, slopes
        self.half = slopes.constant * (gram @ matrix)  # c G F
        self.whole = slopes.constant * (matrix.T @ self.half)
        self.slopes_bar = torch.zeros_like(slopes.rest)
        self.gram_bar, self.matrix_bar, self.half_bar, self.whole_bar = map(torch.zeros_like, (gram, matrix, self.half, self.whole))
        n, m = matrix.shape
        self.kept, self.pulled = gram.new_empty(2 * n, m), gram.new_empty(2 * n, m)
        self.product, self.sum = gram.new_empty(n, m), gram.new_empty(m, m)

    def of(self, b: int) -> Tensor:
        """That of sample b, until the next one is asked for."""
        S, s = self.slopes.units[b], len(self.slopes.units[b])
        EF, H, GEF = self.kept[:s], self.kept[s : 2 * s], self.product[:s]  # (s, m)
        torch.index_select(self.matrix, 0, S, out=EF).mul_(self.slopes.rest[b, S, None])
        torch.mm(self.gram.index_select(0, S).index_select(1, S), EF, out=GEF)
        torch.index_select(self.half, 0, S, out=H).add_(GEF, alpha=0.5)
        M = EF.T @ H
        H.add_(GEF, alpha=0.5)
        return torch.add(self.whole, M, out=self.sum).add_(M.T)

    def pull(self, b: int, bar: Tensor) -> None:
        """Add the gradient by the matrix of sample b, which `of` was called for last."""
        S, s = self.slopes.units[b], len(self.slopes.units[b])
        U, HB = self.pulled[:s], self.pulled[s : 2 * s]
        torch.mm(self.kept[: 2 * s], bar, out=self.pulled[: 2 * s])  # one product for both
        self.slopes_bar[b].index_copy_(0, S, 2 * torch.linalg.vecdot(HB, torch.index_select(self.matrix, 0, S, out=self.product[:s])))
        self.matrix_bar.index_add_(0, S, HB.mul_(self.slopes.rest[b, S, None]), alpha=2)
        self.half_bar.index_add_(0, S, U, alpha=2)
        self.gram_bar.index_add_(0, S, U.new_zeros(s, len(self.gram)).index_copy_(1, S, U @ self.kept[:s].T))
        self.whole_bar += bar

    def pull_shared(self) -> None:
        """Add to the gradient by G and F what comes by way of c G F and c^2 F^T G F, when every sample has been pulled."""
        c = self.slopes.constant
        self.matrix_bar += c * (self.half @ self.whole_bar)
        half_bar = self.half_bar + c * (self.matrix @ self.whole_bar)
        self.matrix_bar += c * (self.gram @ half_bar)
        self.gram_bar += c * (half_bar @ self.matrix.T)


def meet(left: Shared | Passed, right: Passed, middle: Tensor, *, scale: float, gradient: bool) -> tuple[Tensor, Tensor]:
    """Sum (1,) over the samples of d . (P * Q) d, for the rows d of middle (B, m), and the gradient of scale times it by middle; that by P and Q
    is left with left and right."""
    total = torch.zeros(1, dtype=torch.float64, device=middle.device)
    middle_bar, bar = torch.zeros_like(middle), torch.empty_like(right.sum)
    for b, d in enumerate(middle):
        P, Q = left.of(b), right.of(b)
        pulled = torch.mul(P, Q, out=bar) @ d
        total += torch.dot(d, pulled)
        if gradient:
            middle_bar[b] = 2 * scale * pulled
            outer = torch.outer(scale * d, d)
            left.pull(b, torch.mul(Q, outer, out=bar))
            right.pull(b, torch.mul(P, outer, out=bar))
    return total, middle_bar
