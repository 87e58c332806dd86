"""Backpropagation in the algebra (CSFD-BP): the gradient of a number is a number, and its parts are the mixed derivatives of the gradient.

    y = f(z)       u_z = f'(Z) u_y
    y = L(z)       u_z = L^T(u_y)
    y = z w        u_z = w u_y,  u_w = z u_y

A pass with a tape notes its steps; `pull_back` walks them in reverse. An adjoint carries one leading dimension more than its number:
one entry for each output that is pulled back, so a Jacobian is one walk. All of it is torch arithmetic, so autograd goes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Number = Any    # a Multicomplex, whose module imports this one
SEED = -1       # the place of the number that a pass begins with


class Step(NamedTuple):
    """One step of a pass: output = function of inputs. op: the derivative tower, the bilinear op, F.linear, or None of other linear ones."""

    inputs: tuple[Number, ...]
    output: Number
    pull: Callable[..., tuple]         # (adjoint of the output, *inputs) -> adjoints of the inputs
    op: Callable | None


def is_curved(step: Step) -> bool:
    """Whether its second derivatives count (no property of Step: torch.compile of PyTorch 2.9 does not follow one of a tuple)."""
    return step.op is not None and step.op is not F.linear


def pull_back(tape: list[Step], output: Number, adjoint: Number, *, degree: int | None = None, kept: Collection[int] = ()) -> dict[int, Number]:
    """Adjoints by their places: of what the pass began with and of the `kept` numbers, where they have one.

    Of the others each is dropped when its step has been taken, so that a walk holds few at a time.
    degree: of the inputs to use; 0 is plain backpropagation."""
    adjoints = {output.place: adjoint}
    for step in reversed(tape):
        place = step.output.place
        u = adjoints.get(place) if place in kept else adjoints.pop(place, None)
        if u is None:
            continue
        inputs = step.inputs if degree is None else tuple(z.truncated(degree) for z in step.inputs)
        for z, found in zip(step.inputs, step.pull(u, *inputs), strict=True):
            if z.place is not None:                                  # None: a perturbed parameter
                known = adjoints.get(z.place)
                adjoints[z.place] = found if known is None else known + found
    return adjoints


def pull_function(tower: Callable) -> Callable:
    """u f'(Z)."""
    def pull(u, z):
        return (u * z.compose(lambda x, order: tower(x, order + 1)[1:]),)

    return pull


def remembering(tower: Callable, order: int) -> Callable:
    """The tower at one point, evaluated once up to `order`: backpropagation asks for one derivative more than the pass did."""
    known: list[Tensor] = []

    def remembered(x: Tensor, k: int) -> list[Tensor]:
        if not known:
            known.extend(tower(x, order))
        return known[: k + 1]

    return remembered


def pull_product(op: Callable) -> Callable:
    """Both factors of a plain or a matrix product, summed where they were broadcast."""
    def pull(u, z, w):
        if op is torch.mul:
            return sum_to(u * w, z.shape), sum_to(u * z, w.shape)
        if op is torch.matmul:
            return sum_to(torch.matmul(u, w.mT), z.shape), sum_to(torch.matmul(z.mT, u), w.shape)
        raise NotImplementedError(f"backpropagation of a product by {op} of two perturbed operands; expected mode='forward', "
                                  "or the product written with * and @")

    return pull


def pull_linear(function: Callable[[Tensor], Tensor]) -> Callable:
    """L^T by reverse differentiation of L, for a function of rows."""
    def pull(u, z):
        def transposed(rows: Tensor) -> Tensor:
            flat = rows.flatten(0, 1)
            return torch.func.vjp(function, flat.new_zeros(len(flat), *z.shape))[1](flat)[0].unflatten(0, rows.shape[:2])

        return (u.map(transposed),)

    return pull


def sum_to(u: Number, shape: torch.Size) -> Number:
    """The adjoint of broadcasting from `shape`; u has one leading dimension more."""
    if u.shape[1:] == shape:
        return u
    full = (1,) * (u.ndim - 1 - len(shape)) + tuple(shape)
    dims = [d + 2 for d, (n, m) in enumerate(zip(full, u.shape[1:], strict=True)) if n == 1 and m != 1]
    return u.map(lambda rows: (rows.sum(dims, keepdim=True) if dims else rows).reshape(*rows.shape[:2], *shape))
