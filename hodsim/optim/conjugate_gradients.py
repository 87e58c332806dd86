"""Preconditioned conjugate gradients on m(x) = g . x + x . A x / 2, A possibly indefinite (HoD-Net, Algorithm 1, lines 9 to 27)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Linear = Callable[[Tensor], Tensor]

FLAT = 0.01  # curvature of a flat direction, of |p|^2 (line 18)


@dataclass(frozen=True)
class Solution:
    """The step x (n,), its model value m(x) and curvature x . A x, the iterations, the first curvature p . A p / |p|^2, and why it ended."""

    x: Tensor
    model: float
    curvature: float
    iterations: int
    scale: float
    reason: str


def conjugate_gradients(
    A: Linear,
    g: Tensor,
    *,
    solve: Linear,
    start: tuple[Tensor, Tensor] | None = None,
    damping: float,
    tolerance: float,
    progress: float,
    most: int,
) -> Solution:
    """Minimise m from x = 0, or from start = (x, A x) if m is negative there.

    solve: M^-1 for a positive preconditioner M. Ends at |r| <= tolerance |g|, when the last tenth of the iterations (ten at least)
    lowered m by less than progress an iteration, relatively (Martens 2010, section 4.4), after `most` iterations, or at negative
    curvature. damping bounds the step that is then taken, if there is none yet, along the first direction."""
    x, r = torch.zeros_like(g), -g  # line 9
    if start is not None and model(start[0], g, -g - start[1]) < 0:
        x, r = start[0].clone(), -g - start[1]  # line 11
    y = solve(r)
    p, descent = y.clone(), float(r @ y)
    target, history, scale = tolerance * float(g.norm()), [model(x, g, r)], 0.0
    small = torch.finfo(g.dtype).eps
    iteration, reason = 0, "residual"
    while float(r.norm()) > target and descent > 0:  # line 12
        q = A(p)  # line 22, which line 13 uses
        kappa, length = float(p @ q), float(p @ p)  # line 13
        scale = scale or kappa / length
        flatness = kappa <= small * length
        if kappa < -small * length:  # line 14
            reason = "negative curvature"
            if iteration == 0 and history[0] == 0:  # else what was found so far is the step
                a = descent / max(-kappa, damping * length)
                x, r, iteration = a * p, r - a * q, 1
            break  # line 15
        if flatness:  # line 17
            kappa = FLAT * length  # line 18
        a = descent / kappa  # line 20
        x.add_(p, alpha=a)  # line 21
        r.sub_(q, alpha=a)  # line 23
        iteration += 1  # line 26
        history.append(model(x, g, r))
        span = max(10, iteration // 10)
        if progress and iteration > span and history[-1] < 0 and history[-1 - span] - history[-1] < -span * progress * history[-1]:
            reason = "progress"
            break
        if iteration == most:
            reason = "limit" if float(r.norm()) > target else "residual"
            break
        y = solve(r)
        previous, descent = descent, float(r @ y)
        p = y.clone() if flatness else p.mul_(descent / previous).add_(y)  # lines 24 and 25
    return Solution(x, model(x, g, r), -float(x @ (g + r)), iteration, scale, reason)


def model(x: Tensor, g: Tensor, r: Tensor) -> float:
    """m(x) = g . x + x . A x / 2, from the residual r = -g - A x."""
    return float(x @ (g - r)) / 2
