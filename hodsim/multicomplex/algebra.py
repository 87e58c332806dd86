"""Composition and product of multicomplex numbers on the rows of a layout.

    f(Z)_S = sum over T of f'(Z)_T z_(S - T)             h = 0; T: subsets of S without its widest unit
    f(Z)   = sum over j of f^(j)(z_0) (Z - z_0)^j / j!   h > 0
    (ZW)_S = sum over T ^ U = S of (-h^2)^|T & U| z_T w_U
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, factorial, log

import torch
from torch import Tensor

from hodsim.multicomplex.layout import Gather, Layout, Step, Term, composition, gathering, product

Tower = Callable[[Tensor, int], Sequence[Tensor]]    # (x, order) -> [f(x), f'(x), .., f^(order)(x)]; those left out are zero


def blocks_of(layout: Layout, rows: Tensor, degree: int) -> list[Tensor]:
    """The parts up to a degree as views (*lanes, *shape) of the rows."""
    count = layout.counts[degree]
    parts = [rows] if count == 1 else list(torch.split_with_sizes(rows, layout.sizes[:count]))
    if layout.lane_axes > 1:
        parts = [part.unflatten(0, lanes) for part, lanes in zip(parts, layout.lanes[:count], strict=True)]
    return parts


def compose(layout: Layout, rows: Tensor, degree: int, tower: Tower, offset: Tensor | None = None) -> Tensor:
    """Rows of f(Z + offset), f elementwise, for rows of Z up to `degree`; the result has all degrees (of a constant Z: degree 0)."""
    if layout.h:
        return _complex_step(layout, rows, degree, tower)
    if degree == 0:
        return tower(rows if offset is None else rows + offset, 0)[0]
    blocks = blocks_of(layout, rows, degree)
    if offset is not None:
        blocks[0] = blocks[0] + offset
    plan = composition(layout.key, degree)
    derivatives = tower(blocks[0], plan.order)
    if _is_followed(rows):
        parts = [derivatives[0], *[None] * (len(layout.masks) - 1)]
        _follow(layout, plan.steps, derivatives, blocks, parts)
        zero = derivatives[0].new_zeros(())
        return torch.cat([_flat(layout, i, zero.expand(*layout.lanes[i], *rows.shape[1:]) if part is None else part) for i, part in enumerate(parts)])
    slope = _flat(layout, 0, derivatives[1]) if len(derivatives) > 1 else rows.new_zeros(())
    out = _grown(layout, rows * slope, degree, layout.order)         # f'(z_0) z_S for all S in one product
    parts = blocks_of(layout, out, layout.order)
    parts[0].copy_(derivatives[0])
    _follow(layout, plan.steps, derivatives, blocks, parts)
    return out


def _grown(layout: Layout, rows: Tensor, degree: int, needed: int) -> Tensor:
    """Rows up to the degree `needed`, the further ones zero."""
    missing = layout.stored[needed] - layout.stored[degree]
    return torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))]) if missing else rows


def _is_followed(rows: Tensor) -> bool:
    """Whether autograd, a compiler or a transform of torch.func follows, so that results may not be written into memory of our own."""
    return (rows.requires_grad and torch.is_grad_enabled()) or _is_traced()


def _is_traced() -> bool:
    """Whether a compiler or a transform of torch.func sees the operations, and values cannot be asked.

    torch has no public way (2.4 to 2.13) to tell that a transform is at work; should this one go, the tests of torch.func say so."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def _follow(layout: Layout, steps: Sequence[Step], derivatives: Sequence[Tensor], blocks: list[Tensor], parts: list) -> None:
    """Follow the steps of a composition. parts: those of f(Z); None, or memory that already holds f'(z_0) z_S.

    A level beyond the tower is zero; levels of one function (all of exp's) are computed once."""
    same = _equal_levels(derivatives)
    values = {(same[level], 0): value for level, value in enumerate(derivatives)}
    for step in steps:
        if step.level >= len(derivatives):
            continue
        key, total = (same[step.level], step.part), parts[step.part] if step.level == 0 else None
        if key in values:
            if step.level == 0:
                parts[step.part] = values[key] if total is None else total.copy_(values[key])
            continue
        begun = total is not None
        for term in step.terms:
            if step.level + 1 == len(derivatives) or (begun and term.left == 0):
                continue
            a, b = values.get((same[step.level + 1], term.left)), blocks[term.right]
            if a is None:
                continue
            if begun and term.gathers and layout.axes[step.part] == 2:
                _add_pairs(layout, total, a, b, term)
                continue
            if term.gathers:
                a, b = _operands(layout, step.part, term, a, b)
            total = _accumulate(layout, step.part, term, total, a, b)
        if total is not None:
            values[key] = total
        if step.level == 0:
            parts[step.part] = total


def _equal_levels(derivatives: Sequence[Tensor]) -> list[int]:
    """For each level the lowest one with the same function: the same tensors from there on."""
    count = len(derivatives)
    same = list(range(count))
    for level in range(count - 2, -1, -1):                           # f^(level) = f^(level + 1) if all that is known of them agrees
        if derivatives[level] is derivatives[level + 1] and (level + 2 == count or same[level + 1] == same[level + 2]):
            for k in range(level + 1, count):
                if same[k] == level + 1:
                    same[k] = level
    return same


def _add_pairs(layout: Layout, total: Tensor, a: Tensor, b: Tensor, term: Term) -> None:
    """total_(i, j) += coefficient a_i b_j for the pairs i <= j of axes (the right factor holds the last one), a run for each i: no copies."""
    axis, n = layout.lane_axes - 1, layout.n_axes
    runs = torch.split_with_sizes(total, tuple(range(n, 0, -1)), axis)
    for i, (run, a_i) in enumerate(zip(runs, torch.split(a, 1, axis), strict=True)):
        run.addcmul_(a_i, b.narrow(axis, i, n - i), value=term.coefficient)


def _operands(layout: Layout, part: int, term: Term, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both factors of a term with their lanes arranged as those of the part."""
    return _gathered(layout, part, left, term.left_gather), _gathered(layout, part, right, term.right_gather)


def _gathered(layout: Layout, part: int, operand: Tensor, kept: Gather) -> Tensor:
    if kept is None:
        return operand
    return operand.index_select(layout.lane_axes - 1, gathering(layout.n_axes, layout.axes[part], kept, operand.device))


def _accumulate(layout: Layout, part: int, term: Term, total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + coefficient a b, in the memory of total."""
    if part == layout.top and term.left and term.right:              # the collapsed part: lanes are summed
        value = term.coefficient * (a * b).sum(tuple(range(layout.lane_axes)), keepdim=True)
        return value if total is None else total.add_(value)
    if total is None:
        return a * b if term.coefficient == 1 else (a * b).mul_(term.coefficient)
    return total.addcmul_(a, b, value=term.coefficient)


def multiply(layout: Layout, left: Tensor, right: Tensor, left_degree: int, right_degree: int) -> tuple[Tensor, int]:
    """Rows of Z W and their degree, for rows of Z and W, elementwise."""
    if layout.h or _is_followed(left) or _is_followed(right):
        return bilinear(layout, torch.mul, blocks_of(layout, left, left_degree), blocks_of(layout, right, right_degree), left_degree, right_degree)
    if left_degree < right_degree:
        left, right, left_degree, right_degree = right, left, right_degree, left_degree
    degree = min(left_degree + right_degree, layout.order)
    out = _grown(layout, left * right[:1], left_degree, degree)      # z_S w_0 for all S in one product
    z, w, parts = blocks_of(layout, left, left_degree), blocks_of(layout, right, right_degree), blocks_of(layout, out, degree)
    for index, terms in enumerate(product(layout.key, left_degree, right_degree)[: len(parts)]):
        for term in terms:
            if term.right:
                a, b = z[term.left], w[term.right]
                if term.gathers:
                    a, b = _operands(layout, index, term, a, b)
                _accumulate(layout, index, term, parts[index], a, b)
    return out, degree


def bilinear(layout: Layout, op: Callable[[Tensor, Tensor], Tensor], left: Sequence[Tensor], right: Sequence[Tensor],
             left_degree: int, right_degree: int) -> tuple[Tensor, int]:
    """Rows of op(Z, W) and their degree, for blocks (*lanes, *shape) of Z and W and a bilinear op that broadcasts lanes."""
    degree = min(left_degree + right_degree, layout.order)
    parts: list[Tensor | None] = []
    for index, terms in enumerate(product(layout.key, left_degree, right_degree)[: layout.counts[degree]]):
        total = None
        for term in terms:
            a, b = left[term.left], right[term.right]
            if term.gathers:
                a, b = _operands(layout, index, term, a, b)
            if op is torch.mul:
                total = _accumulate(layout, index, term, total, a, b)
                continue
            value = op(a, b)
            if index == layout.top and term.left and term.right:
                value = value.sum(tuple(range(layout.lane_axes)), keepdim=True)
            if term.coefficient != 1:
                value = value * term.coefficient
            total = value if total is None else total + value
        parts.append(total)
    real = parts[0]
    if real is None:
        raise AssertionError("a product has a real part")
    shape = real.shape[layout.lane_axes :]
    flat = [_flat(layout, i, real.new_zeros((*layout.lanes[i], *shape)) if part is None else part) for i, part in enumerate(parts)]
    return torch.cat(flat), degree


def _flat(layout: Layout, index: int, part: Tensor) -> Tensor:
    """Rows (lanes, *shape) of a part (*lanes, *shape)."""
    return part if layout.lane_axes == 1 else part.flatten(0, layout.lane_axes - 1)


def _complex_step(layout: Layout, rows: Tensor, degree: int, tower: Tower) -> Tensor:
    """f(Z) at h > 0 by Horner's rule in D = Z - z_0; exact to rounding while h |z_S| is well inside f's radius of convergence.

    D^j touches part S at relative size h^(j - |S|), so the series stops where the next term is below rounding.
    Raises ValueError where it has not converged to half the digits."""
    if degree == 0:
        return tower(rows, 0)[0]
    blocks = blocks_of(layout, rows, degree)
    extra = 2 * ceil(log(torch.finfo(rows.dtype).eps) / (2 * log(layout.h)))
    series = layout.order + extra
    count = layout.sizes[0]
    known = tower(rows[:count], series)
    derivatives = [*known, *[torch.zeros_like(rows[:count])] * (series + 1 - len(known))]
    _must_converge(layout, blocks, derivatives)
    increment = [torch.zeros_like(blocks[0]), *blocks[1:]]
    result, reached = derivatives[series], 0
    for j in range(series - 1, -1, -1):                              # f_j + D (f_(j+1) + D (..) / (j + 2)) / (j + 1)
        result, reached = bilinear(layout, torch.mul, blocks_of(layout, result, reached), increment, reached, degree)
        result = result / (j + 1)
        result = torch.cat([result[:count] + derivatives[j], result[count:]])
    return result


def _must_converge(layout: Layout, blocks: Sequence[Tensor], derivatives: Sequence[Tensor]) -> None:
    """Raise ValueError where one of the last two terms |f^(n)| |D|^n / n! of a series is above sqrt(eps) times its largest one.

    Two, since every other derivative of an odd or an even function is zero at 0."""
    if _is_traced():
        return
    lanes = tuple(range(layout.lane_axes))
    size = sum(layout.h ** layout.degrees[i] * block.detach().abs().amax(lanes) for i, block in enumerate(blocks) if i)
    terms = [derivative.detach().abs().amax(0) * size**k / factorial(k) for k, derivative in enumerate(derivatives)]
    largest, last = torch.stack(terms).amax(0), torch.maximum(*terms[-2:])
    bad = last > torch.finfo(size.dtype).eps ** 0.5 * largest            # false where a term is no number: then so is the value
    if bad.any():
        raise ValueError(f"h = {layout.h:g} is too long a step here: term {len(terms) - 1} of a function's series is still "
                         f"{(last / largest)[bad].max().item():.1e} of the largest one; expected a shorter h, such as 1e-8, or h=0")
