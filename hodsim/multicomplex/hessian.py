"""The full Hessian of a network as a sum over its nonlinear steps y = phi(z):

    D^2 f_m = sum over steps of A^T diag(lambda_m phi''(z)) A,    A = dz/dx (N lanes forward),  lambda_m = df_m/dy (M lanes backward)

and for a product y = z w: A_z^T diag(lambda_m) A_w and its transpose. Every linear step drops out, so the graph may be any.
N + M rows go through the network where pairs of inputs need N (N + 1) / 2; the sum itself is one product for each block of rows of D^2 f.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hodsim.multicomplex.layout import Axes
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.perturbation import Function, call, seed
from hodsim.multicomplex.reverse import Step, pull_back


def hessian_by_steps(f: Function, x: Tensor) -> Tensor | None:
    """D^2 f(x), (*B, M, N, N), for x (*B, N); None where a nonlinear step is neither elementwise nor a plain product."""
    tape: list[Step] = []
    out = call(f, seed(x, (Axes(),), tape=tape))
    curved = [step for step in tape if step.op is not None and all(z.degree for z in step.inputs)]
    batch = x.shape[:-1]
    if any((len(step.inputs) > 1 and step.op is not torch.mul) or step.output.shape[: len(batch)] != batch for step in curved):
        return None
    adjoints = pull_back(tape, out, output_axes(out), degree=0)
    squares, products = [], []                                       # (lambda phi'', A) and (lambda, A_z, A_w)
    for step in curved:
        u = adjoints.get(id(step.output.rows))
        if u is None:
            continue
        weight, shape = u.rows[0], step.output.shape
        seconds = [z.blocks()[1].expand(-1, *shape) for z in step.inputs]
        if len(seconds) == 1:
            squares.append((_units(weight * step.op(step.inputs[0].real, 2)[2], batch), _units(seconds[0], batch)))
        else:
            products.append((_units(weight, batch), *(_units(a, batch) for a in seconds)))
    n, m = x.shape[-1], out.shape[-1]
    total = x.new_zeros((*batch, m, n, n))
    if squares:
        total = _symmetric_sum(torch.cat([w for w, _ in squares], -1), torch.cat([a for _, a in squares], -1))
    for weight, left, right in products:
        cross = (weight.unsqueeze(-2) * left.unsqueeze(-3)) @ right.mT.unsqueeze(-3)
        total = total + cross + cross.mT
    return total


def output_axes(out: Multicomplex) -> Multicomplex:
    """The adjoints e_1 .. e_M of the outputs (*B, M), (M, *B, M)."""
    m = out.shape[-1]
    eye = torch.eye(m, dtype=out.dtype, device=out.device).view(m, *(1,) * (out.ndim - 1), m)
    return Multicomplex(eye.expand(1, m, *out.shape), out.layout, 0)


def _units(lanes: Tensor, batch: torch.Size) -> Tensor:
    """(L, *batch, *features) as (*batch, L, units)."""
    return lanes.reshape(len(lanes), *batch, -1).movedim(0, -2)


def _symmetric_sum(weight: Tensor, a: Tensor) -> Tensor:
    """sum over units u of weight[.., m, u] a[.., i, u] a[.., j, u], (*batch, M, N, N): block rows j >= i, then the mirror image."""
    *batch, n, _ = a.shape
    m = weight.shape[-2]
    block = max(8, min(n, 1024 // m), n // 20)
    total = a.new_empty((*batch, m, n, n))
    for i in range(0, n, block):
        rows = slice(i, i + block)
        scaled = weight.unsqueeze(-2) * a[..., rows, :].unsqueeze(-3)                    # (*batch, M, block, units)
        value = (scaled.flatten(-3, -2) @ a[..., i:, :].mT).unflatten(-2, scaled.shape[-3:-1])
        total[..., rows, i:] = value
        total[..., i:, rows] = value.mT
    return total
