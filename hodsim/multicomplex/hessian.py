"""The full Hessian of a network as a sum over its nonlinear steps y = phi(z):

    D^2 f_m = sum over steps of A^T diag(lambda_m phi''(z)) A,    A = dz/dx (N lanes forward),  lambda_m = df_m/dy (M lanes backward)

and for a product y = z w: A_z^T diag(lambda_m) A_w and its transpose. Every linear step drops out, so the graph may be any.
N + M rows go through the network where pairs of inputs need N (N + 1) / 2; the sum itself is one product for each block of rows of D^2 f.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hodsim.multicomplex.layout import Axes
from hodsim.multicomplex.perturbation import Function, call, seed


def hessian_by_steps(f: Function, x: Tensor) -> Tensor | None:
    """D^2 f(x), (*B, M, N, N), for x (*B, N); None where a nonlinear step is neither elementwise nor a plain product."""
    create_graph = torch.is_grad_enabled()
    lambdas, out = _adjoints(f, x, create_graph)
    if lambdas is None:
        return None
    tape: list = []
    call(f, seed(x, (Axes(),), tape=tape))
    batch = x.shape[:-1]
    squares, products = [], []                                       # (lambda phi'', A) and (lambda, A_z, A_w)
    for (op, inputs, _), weight in zip(tape, lambdas, strict=True):
        blocks = [z.blocks() for z in inputs]
        if any(z.shape[: len(batch)] != batch for z in inputs) or weight.shape[1 : len(batch) + 1] != batch:
            return None
        if op is torch.mul:
            if all(len(b) > 1 for b in blocks):
                shape = weight.shape[1:]
                products.append((_units(weight, batch), *(_units(b[1].expand(-1, *shape), batch) for b in blocks)))
        elif len(blocks[0]) > 1:
            squares.append((_units(weight * op(blocks[0][0], 2)[2], batch), _units(blocks[0][1], batch)))
    n, m = x.shape[-1], out.shape[-1]
    total = x.new_zeros((*batch, m, n, n))
    if squares:
        total = _symmetric_sum(torch.cat([w for w, _ in squares], -1), torch.cat([a for _, a in squares], -1))
    for weight, left, right in products:
        cross = (weight.unsqueeze(-2) * left.unsqueeze(-3)) @ right.mT.unsqueeze(-3)
        total = total + cross + cross.mT
    return total


def _adjoints(f: Function, x: Tensor, create_graph: bool) -> tuple[list[Tensor] | None, Tensor]:
    """df_m / dy for the output y of each nonlinear step, (M, *shape of y), from one real pass and M rows backward."""
    tape: list = []
    with torch.enable_grad():
        point = x if x.requires_grad and create_graph else x.detach().requires_grad_()
        out = call(f, seed(point, (), tape=tape)).part()
        if any(op is not torch.mul and len(inputs) > 1 for op, inputs, _ in tape):
            return None, out
        m = out.shape[-1]
        if not tape:
            return [], out
        eye = torch.eye(m, dtype=x.dtype, device=x.device).view(m, *(1,) * (x.dim() - 1), m).expand(m, *out.shape)
        outputs = [result.rows for _, _, result in tape]
        found = torch.autograd.grad(out, outputs, eye, is_grads_batched=True, create_graph=create_graph, allow_unused=True)
    return [x.new_zeros((m, *y.shape[1:])) if g is None else g.squeeze(1) for g, y in zip(found, outputs, strict=True)], out


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
