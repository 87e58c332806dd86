"""Adjoint perturbation (HoD-Net, eqs. 8-9): seed x + sum_j a_j eps_j, push it through f once, read D^k f(x)[a_1, .., a_k].

Its cost does not depend on the length of x. Directions that are the same object are perturbed once; a batch of directions
shares the real part; `Axes()` stands for all coordinate axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Union

import torch
from torch import Tensor, nn

from hodsim import checks
from hodsim.multicomplex.layout import Axes, Layout, Unit, broadcast, layout
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.parameters import perturbed, vector_lanes
from hodsim.multicomplex.reverse import SEED

Function = Callable[[Tensor], Tensor]
InputDirection = Tensor | Axes
Direction = Union[InputDirection, "Mapping[str, Tensor]", "tuple[InputDirection, Mapping[str, Tensor]]"]


def derivatives(f: Function, x: Tensor, *directions: Direction, h: float = 0.0, parts: Sequence[tuple[int, ...]] | None = None,
                collapse: bool = False) -> Multicomplex:
    """All mixed derivatives of one pass: z.part() = f(x), z.part(0) = Df[a0], z.part(0, 1) = D^2 f[a0, a1], ..

    f: a module or function of torch functions, unmodified, (*B, N) -> (*B, M), each row of B by itself.
    x: (*B, N). A direction: (*B, N) or (N,); (*K, *B, N), a batch of directions, whose lanes lead in the shapes of its parts; or Axes().
    Batches of several directions broadcast: (K, N) with (K, N) pairs them off, (K, 1, N) with (L, N) takes all K L pairs.
    Where f is a module, a direction may also be a mapping from names of its parameters to tensors, or a pair (input, parameters).
    h: 0 is exact; h > 0 takes complex steps of that length, with an error O(h^2) (h at most 0.1).
    parts: the derivatives wanted, as tuples of direction numbers, with their subsets; None: all.
    collapse: give the highest part summed over its lanes (sum over k of D^2 f[a_k, a_k], a Laplacian) in place of each.

    Raises NotImplementedError for a torch function without a rule (rules.py says how to add one)."""
    return pass_through(f, x, directions, h=h, parts=parts, collapse=collapse)


def pass_through(f: Function, x: Tensor, directions: Sequence[Direction], *, h: float = 0.0, parts: Sequence[tuple[int, ...]] | None = None,
                 collapse: bool = False, tape: list | None = None) -> Multicomplex:
    """The output of one pass, with f's parameters perturbed where directions say so."""
    if not any(isinstance(a, (Mapping, tuple)) for a in directions):
        return call(f, seed(x, directions, h=h, parts=parts, collapse=collapse, tape=tape))
    if not isinstance(f, nn.Module):
        raise TypeError(f"a direction perturbs parameters of a function ({f!r}); expected f to be the module that owns them")
    inputs, parameters = _split(f, x, directions)
    z = seed(x, inputs, h=h, parts=parts, collapse=collapse, tape=tape)
    if all(isinstance(a, Mapping) for a in directions):
        z = Multicomplex(z.rows[: z.layout.sizes[0]], z.layout, 0, tape=tape, place=SEED)
    with perturbed(f, z.layout, parameters):
        return call(f, z)


def _split(module: nn.Module, x: Tensor, directions: Sequence[Direction]) -> tuple[list[Tensor | Axes], list[Mapping | None]]:
    """The inputs' and the parameters' shares of the directions; equal directions stay one object."""
    zeros: dict[int, Tensor] = {}
    inputs: list[Tensor | Axes] = []
    for a in directions:
        if isinstance(a, tuple):
            inputs.append(a[0])
        elif isinstance(a, Mapping):
            lanes = vector_lanes(module, a)
            inputs.append(zeros.setdefault(id(a), x.new_zeros(()).expand(*lanes, *x.shape)))
        else:
            inputs.append(a)
    return inputs, [a[1] if isinstance(a, tuple) else a if isinstance(a, Mapping) else None for a in directions]


def derivative(f: Function, x: Tensor, *directions: Direction, h: float = 0.0, collapse: bool = False) -> Tensor:
    """D^k f(x)[a_1, .., a_k], (*lanes, *B, M); see derivatives."""
    z = derivatives(f, x, *directions, h=h, collapse=collapse)
    return z.part(*z.layout.all_units)


def seed(x: Tensor, directions: Sequence[InputDirection], *, h: float = 0.0, parts: Sequence[tuple[int, ...]] | None = None,
         collapse: bool = False, tape: list | None = None) -> Multicomplex:
    """The perturbed input x + sum_j a_j eps_j."""
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected a floating point tensor")
    checks.inside("h", h, -1e-300, 0.1 + 1e-12)
    if h:
        directions = dense_axes(x, directions)
    shape = _common_shape(x, directions)
    numbers: dict = {}
    units = []
    for a in directions:
        number = numbers.setdefault(a if isinstance(a, Axes) else id(a), len(numbers))
        units.append(_unit(number, a, shape))
    plan = layout(tuple(units), None if parts is None else tuple(map(tuple, parts)), float(h), collapse)
    return _stack(plan, x if x.shape == shape else x.expand(shape), directions, tape)


def _unit(number: int, a: InputDirection, shape: tuple[int, ...]) -> Unit:
    """The unit of a direction for x of this shape."""
    if isinstance(a, Axes):
        n = _static(shape[-1])
        return Unit(number, (), n, True) if a.independent else Unit(number, (n,), 0, True)
    return Unit(number, tuple(map(_static, a.shape[: max(a.dim() - len(shape), 0)])))


def _static(length: int) -> int:
    """A length that plans are found by: a constant of the graph, where torch.compile would make it a symbol."""
    return len(range(length))


def _common_shape(x: Tensor, directions: Sequence[InputDirection]) -> tuple[int, ...]:
    """The shape of x, with dimensions of length one grown to those of the directions."""
    shape = x.shape
    for number, a in enumerate(directions):
        if isinstance(a, Axes):
            continue
        if a.dtype != x.dtype or a.device != x.device:
            raise TypeError(f"direction {number} is {a.dtype} on {a.device}; expected {x.dtype} on {x.device}, as x")
        trailing = a.shape[max(a.dim() - x.dim(), 0) :]
        if trailing != shape:
            try:
                shape = broadcast(shape, trailing)
            except ValueError:
                expected = ", ".join(map(str, x.shape))
                raise ValueError(f"direction {number} has shape {tuple(a.shape)}; expected (*lanes, {expected}), as x") from None
    return shape


def _stack(plan: Layout, x: Tensor, directions: Sequence[InputDirection], tape: list | None) -> Multicomplex:
    """Rows of the real part and of the stored directions; the axes, last of degree 1, are left to the first linear layer."""
    rows = [x.expand(*plan.lanes[0], *x.shape).reshape(-1, *x.shape) if plan.h else x.unsqueeze(0)]
    seeded = False
    for index in range(1, plan.counts[1] if plan.order else 1):
        a = directions[plan.masks[index].bit_length() - 1]
        if isinstance(a, Axes):
            seeded = True
        elif a.shape == x.shape and not plan.h:
            rows.append(a.unsqueeze(0))
        else:
            lanes = plan.lanes[index] if plan.h else a.shape[: max(a.dim() - x.dim(), 0)]
            rows.append(a.expand(*lanes, *x.shape).reshape(-1, *x.shape))
    return Multicomplex(rows[0] if len(rows) == 1 else torch.cat(rows), plan, 1 if plan.order else 0, seeded=seeded, tape=tape, place=SEED)


def dense_axes(x: Tensor, directions: Sequence[InputDirection]) -> list[Tensor]:
    """With h > 0 every part depends on all directions: axes are written out, independent ones on lane axes of their own."""
    n = x.shape[-1]
    eye = torch.eye(n, dtype=x.dtype, device=x.device)
    count = sum(isinstance(a, Axes) and a.independent for a in directions)
    diagonal = eye.view(n, *(1,) * (x.dim() - 1), n)
    dense: list[Tensor] = []
    for a in directions:
        if isinstance(a, Axes):
            count -= a.independent
            a = diagonal.view(n, *(1,) * count, *diagonal.shape[1:]) if a.independent else diagonal
        dense.append(a)
    return dense


def call(f: Function, z: Multicomplex) -> Multicomplex:
    out = f(z)
    if not isinstance(out, Multicomplex):
        raise TypeError(f"f returned {type(out).__name__}; expected one tensor that depends on x through torch functions")
    return out
