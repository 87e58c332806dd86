"""The cheaper way to a whole derivative: the paper's rule (N inputs against M outputs), refined by counting the rows of matrix products.

One row is one pass of a vector through all steps of f, as a tape of f at one point lists them. With e the share of the entrance (the layer
that x goes through first, whose N columns are copied, not computed) and c that of the steps behind the first nonlinear one:

    Jacobian   forward   1 + N (1 - e)                                     backward   1 + M
    Hessian    forward   1 + N (1 - e) + N (N + 1) / 2 c                   backward   1 + n (1 - e) + M c + sum + expansion

The backward Hessian runs over n = min(N, width of the entrance) lanes. Its sum over nonlinear units takes a little more than M n (n + 1) / 2
multiply-adds a unit (blocks of rows overlap the diagonal), and the expansion W^T (..) W takes M n N (n + N); both are counted as rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.hessian import blocks
from hodsim.multicomplex.perturbation import Function, call, seed
from hodsim.multicomplex.reverse import SEED, Step, is_curved


@dataclass(frozen=True)
class Mode:
    """A way to a whole derivative, and what each way costs in rows through the network."""

    name: str
    rows: dict[str, float]


@dataclass(frozen=True)
class Counts:
    """Of f at one point: inputs, outputs, multiply-adds of one row; the shares of the entrance and of what lies behind the first nonlinear
    step; the entrance's width (None: x enters otherwise); the nonlinear units; whether the sum over nonlinear steps can be taken."""

    n: int
    m: int
    work: float
    entrance: float
    behind: float
    width: int | None
    units: int
    separable: bool


def jacobian_mode(f: Function, x: Tensor) -> Mode:
    """The way that `jacobian(f, x)` goes, and the rows of both."""
    c = counts(f, x)
    return _cheapest({"forward": 1 + c.n * (1 - c.entrance), "backward": 1.0 + c.m})


def hessian_mode(f: Function, x: Tensor) -> Mode:
    """The way that `hessian(f, x)` goes, and the rows of both; forward only where the sum over nonlinear steps cannot be taken."""
    c = counts(f, x)
    rows = {"forward": 1 + c.n * (1 - c.entrance) + c.n * (c.n + 1) / 2 * c.behind}
    if c.separable:
        narrow = c.width is not None and c.width < c.n
        n = c.width if narrow else c.n
        sums = c.units * c.m * sum((end - start) * (n - start) for start, end in blocks(n, c.m))
        sums += c.m * n * c.n * (n + c.n) if narrow else 0
        rows["backward"] = 1 + n * (1 - c.entrance) + c.m * c.behind + sums / c.work
    return _cheapest(rows)


def counts(f: Function, x: Tensor) -> Counts:
    """Counted on a tape of f at the first point of x."""
    tape: list[Step] = []
    with torch.no_grad():
        out = call(f, seed(x[(slice(0, 1),) * (x.dim() - 1)], (), tape=tape))
    work = [_multiply_adds(step) for step in tape]
    total = float(sum(work)) or 1.0
    curved: set[int] = set()
    behind, units, separable = 0.0, 0, True
    for step, amount in zip(tape, work, strict=True):
        if any(used.place in curved for used in step.inputs):
            behind += amount
            curved.add(step.output.place)
        if is_curved(step):
            curved.add(step.output.place)
            ends = len(step.inputs) == 1 and step.output.place == out.place                # f's output, whose share costs next to nothing
            units += 0 if ends else step.output.numel()
            separable = separable and (len(step.inputs) == 1 or step.op is torch.mul)
    users = [(step, amount) for step, amount in zip(tape, work, strict=True) if any(used.place == SEED for used in step.inputs)]
    alone = len(users) == 1 and users[0][0].op is F.linear
    return Counts(x.shape[-1], out.shape[-1], total, users[0][1] / total if alone else 0.0, behind / total,
                  users[0][0].output.shape[-1] if alone else None, units, separable)


def _multiply_adds(step: Step) -> int:
    """Of a linear layer; any other step touches each of its outputs once."""
    count = step.output.numel()
    return count * step.inputs[0].shape[-1] if step.op is F.linear else count


def _cheapest(rows: dict[str, float]) -> Mode:
    return Mode(min(rows, key=rows.__getitem__), rows)
