"""The full Hessian of a network as a sum over its nonlinear steps y = phi(z):

    D^2 f_m = sum over steps of A^T diag(lambda_m phi''(z)) A,    A = dz/dx (N lanes forward),  lambda_m = df_m/dy (M lanes backward)

and for a product y = z w: A_z^T diag(lambda_m) A_w and its transpose. Every linear step drops out, so the graph may be any.
N + M rows go through the network where pairs of inputs need N (N + 1) / 2; the sum itself is one product for each block of rows of D^2 f.
Of a function that ends the network lambda_m is a unit vector, so that its share is one product of two numbers for each entry.
Where x enters by one layer W alone that is narrower than x, the sum is taken over that layer's outputs: D^2 f = W^T (..) W.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.layout import Unit, layout
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.perturbation import Function, call, seed
from hodsim.multicomplex.reverse import SEED, Step, is_curved, pull_back


def hessian_by_steps(f: Function, x: Tensor) -> Tensor | None:
    """D^2 f(x), (*B, M, N, N), for x (*B, N); None where a nonlinear step is neither elementwise nor a plain product."""
    entrance = _narrow_entrance(f, x)
    n = x.shape[-1] if entrance is None else len(entrance)
    tape: list[Step] = []
    plan = layout((Unit(0, (), n, True),))
    out = call(f, Multicomplex(x.unsqueeze(0), plan, 1, seeded=True, tape=tape, place=SEED))
    curved = [step for step in tape if is_curved(step) and all(z.degree for z in step.inputs)]
    batch = x.shape[:-1]
    if any((len(step.inputs) > 1 and step.op is not torch.mul) or step.output.shape[: len(batch)] != batch for step in curved):
        return None
    behind = next((k + 1 for k, step in enumerate(tape) if is_curved(step)), len(tape))       # no adjoint is asked for before that
    adjoints = pull_back(tape[behind:], out, output_axes(out), degree=0, kept={step.output.place for step in curved})
    m = out.shape[-1]
    squares = [(x.new_zeros((*batch, m, 0)), x.new_zeros((*batch, n, 0)))]               # (lambda phi'', A)
    products, last = [], None                                        # (lambda, A_z, A_w); phi'' A and A of the function that is f's output
    for step in curved:
        u = adjoints.get(step.output.place)
        if u is None:
            continue
        weight, shape = u.rows[0], step.output.shape
        lanes = [z.blocks()[1].expand(-1, *shape) for z in step.inputs]
        if len(lanes) == 1:
            second = step.op(step.inputs[0].real, 2)[2:]
            if not second:                                           # a piecewise linear step
                continue
            if step.output.place == out.place:
                last = tuple(a.movedim(0, -1) for a in (second[0] * lanes[0], lanes[0]))
            else:
                squares.append((_units(weight * second[0], batch), _units(lanes[0], batch)))
        else:
            products.append((_units(weight, batch), *(_units(a, batch) for a in lanes)))
    total = _symmetric_sum(torch.cat([w for w, _ in squares], -1), torch.cat([a for _, a in squares], -1), last)
    for weight, left, right in products:
        cross = (weight.unsqueeze(-2) * left.unsqueeze(-3)) @ right.mT.unsqueeze(-3)
        total = total + cross + cross.mT
    return total if entrance is None else entrance.T @ (total @ entrance)


def _narrow_entrance(f: Function, x: Tensor) -> Tensor | None:
    """The matrix W (n, N), n < N, of the linear layer by which alone x enters f, if there is one."""
    tape: list[Step] = []
    z = seed(x, (), tape=tape)
    call(f, z)
    users = [step for step in tape if any(used.place == SEED for used in step.inputs)]
    if len(users) != 1 or users[0].op is not F.linear or users[0].output.shape[-1] >= x.shape[-1]:
        return None
    n = users[0].output.shape[-1]
    eye = torch.eye(n, dtype=x.dtype, device=x.device).view(1, n, *(1,) * (x.dim() - 1), n)
    return users[0].pull(Multicomplex(eye, z.layout, 0), z)[0].rows.reshape(n, x.shape[-1])


def output_axes(out: Multicomplex) -> Multicomplex:
    """The adjoints e_1 .. e_M of the outputs (*B, M), (M, *B, M)."""
    m = out.shape[-1]
    eye = torch.eye(m, dtype=out.dtype, device=out.device).view(m, *(1,) * (out.ndim - 1), m)
    return Multicomplex(eye.expand(1, m, *out.shape), out.layout, 0)


def _units(lanes: Tensor, batch: torch.Size) -> Tensor:
    """(L, *batch, *features) as (*batch, L, units)."""
    return lanes.reshape(len(lanes), *batch, -1).movedim(0, -2)


def _symmetric_sum(weight: Tensor, a: Tensor, more: tuple[Tensor, Tensor] | None) -> Tensor:
    """sum over units u of weight[.., m, u] a[.., i, u] a[.., j, u], (*batch, M, N, N), for blocks of rows i and all j from there on.

    Two of the three factors are multiplied first, a_i a_j or weight_m a_i, whichever are fewer products.
    more: s and t, (*batch, M, N), whose s_mi t_mj (symmetric in i and j) is added."""
    n, m = a.shape[-2], weight.shape[-2]

    def rows(start: int, end: int) -> Tensor:
        total = of_units(start, end)
        return total if more is None else torch.addcmul(total, more[0][..., start:end].unsqueeze(-1), more[1][..., start:].unsqueeze(-2))

    def of_units(start: int, end: int) -> Tensor:
        block, others = a[..., start:end, :], a[..., start:, :]
        if n < 2 * m:
            pairs = (block.unsqueeze(-2) * others.unsqueeze(-3)).flatten(-3, -2)         # (*batch, block x others, units)
            return (weight @ pairs.mT).unflatten(-1, (end - start, n - start))
        scaled = (weight.unsqueeze(-2) * block.unsqueeze(-3)).flatten(-3, -2)            # (*batch, M x block, units)
        return (scaled @ others.mT).unflatten(-2, (m, end - start))

    return _mirrored([rows(start, end) for start, end in blocks(n, m)], n)


def blocks(n: int, m: int) -> list[tuple[int, int]]:
    """Ranges of rows i that are multiplied with all rows j from their start on: what is written out for a block stays in the cache.

    In a graph they are eight at most, since each is compiled."""
    size = max(1, 400 // n if n < 2 * m else 200 // m, ceil(n / 8) if torch.compiler.is_compiling() else 1)
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def _mirrored(blocks: list[Tensor], n: int) -> Tensor:
    """The symmetric matrix whose block rows, from the diagonal on, are given."""
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and blocks[0].requires_grad):
        starts = [n - block.shape[-1] for block in blocks]
        ends = [*starts[1:], n]
        full = []
        for k, block in enumerate(blocks):
            left = [blocks[j][..., starts[k] - starts[j] : ends[k] - starts[j]].mT for j in range(k)]
            full.append(torch.cat([*left, block], -1))
        return torch.cat(full, -2)
    total = blocks[0].new_empty((*blocks[0].shape[:-2], n, n))
    for block in blocks:
        start, end = n - block.shape[-1], n - block.shape[-1] + block.shape[-2]
        total[..., start:end, start:] = block
        total[..., start:, start:end] = block.mT
    return total
