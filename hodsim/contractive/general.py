"""The terms of eq. 10 for any encoder that the derivative engine takes: chunks of lanes, each differentiated before the next one.

Value, first and second derivatives along the lanes of a chunk go through the encoder in one multicomplex pass; its gradient by autograd
is added up at once, so that no more than one chunk is ever stored, and nothing is computed twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hodsim.contractive.directions import Directions
from hodsim.contractive.perceptron import Request
from hodsim.multicomplex import derivatives


def terms(
    encoder: nn.Module, x: Tensor, directions: Directions, request: Request, inputs: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Sums (1,) or (2,) of the terms over the samples x (B, ..), and the gradient by x and by inputs, parameters of the encoder."""
    shape = x.shape[1:]
    rows = x.detach().flatten(1).requires_grad_(request.gradient)
    vectors = directions.dense(rows)
    weights = torch.stack([directions.jacobian, directions.hessian])
    scales = [request.jacobian, request.hessian or 0.0]
    kinds = 1 + (request.hessian is not None)
    at_once = max(1, request.budget // _bytes_a_lane(encoder, x[:1], kinds))
    samples, width = max(1, at_once // len(vectors)), min(len(vectors), at_once)
    sums = torch.zeros(kinds, dtype=torch.float64, device=x.device)
    gradient = [torch.zeros_like(rows), *(torch.zeros_like(p) for p in inputs)] if request.gradient else []
    for b in range(0, len(rows), samples):
        for k in range(0, len(vectors), width):
            with torch.set_grad_enabled(request.gradient):
                part = rows[b : b + samples]
                v = vectors[k : k + width, None]
                z = derivatives(lambda row: encoder(row.unflatten(-1, shape)).flatten(1), part, *(v,) * kinds)
                lengths = [(z.part(*range(kind + 1)) ** 2).expand(v.shape[0], *z.shape).sum((1, 2)) for kind in range(kinds)]
                weighed = [(length * weights[kind, k : k + width]).sum() for kind, length in enumerate(lengths)]
                total = sum(scales[kind] * term for kind, term in enumerate(weighed))
            sums += torch.stack([w.detach() for w in weighed])
            if isinstance(total, Tensor) and total.requires_grad:
                found = torch.autograd.grad(total, [rows, *inputs], allow_unused=True)
                for running, added in zip(gradient, found, strict=True):
                    if added is not None:
                        running += added
    if gradient:
        gradient[0] = gradient[0].view_as(x)
    return sums, gradient


def _bytes_a_lane(encoder: nn.Module, x: Tensor, kinds: int) -> int:
    """Estimated from what autograd keeps of one sample: each derivative keeps as much, about three times over by the activations' products."""
    owned = {p.data_ptr() for p in encoder.parameters()}
    kept = 0

    def keep(t: Tensor) -> Tensor:
        nonlocal kept
        if t.data_ptr() not in owned:
            kept += t.numel() * t.element_size()
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        encoder(x.detach().requires_grad_())
    return max(1, 3 * kinds * kept)
