"""The Jacobian J of residuals by the parameters, layer by layer and never formed: J J^T, J^T J, J^T y and J v.

A linear layer maps rows a (value and derivative parts of its input at every point) to rows z = W a (+ b where a is a value). A residual
depends on the layer's parameters by these rows only, so with adjoints d = dr/dz, which backpropagation gives,

    dr/dW = sum over rows of d a^T,      (J J^T)_pq = sum over rows s of p, t of q of (d_s . d_t) (a_s . a_t + [s and t are values])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hodsim.multicomplex import Multicomplex
from hodsim.pinn.problem import Condition

TILE = 512  # residuals on a side of a tile of the kernel: 2 MiB


@dataclass(frozen=True)
class Rows:
    """What one layer saw in one condition: inputs a (S, B, n), adjoints d (S, B, K, m), and which rows the bias touches (S,)."""

    inputs: Tensor
    adjoints: Tensor
    biased: Tensor

    def dense(self) -> Tensor:
        """The residuals' derivatives by the layer's weight, and its bias if it has one, (B, K, m n + m)."""
        weight = torch.einsum("sbkm,sbn->bkmn", self.adjoints, self.inputs).flatten(2)
        return torch.cat([weight, self.adjoints[self.biased].sum(0)], dim=-1) if self.biased.any() else weight


class LayeredJacobian:
    """Residuals r (R,) of conditions on a module whose parameters are those of nn.Linear layers, and the Jacobian by these.

    Raises TypeError for other parameters and ValueError for a condition that does not use a layer."""

    def __init__(self, field: nn.Module, conditions: Sequence[Condition]):
        self.layers = linear_layers(field)
        self.blocks: list[list[Rows]] = []  # by condition, by layer
        residuals = []
        for condition in conditions:
            residual, rows = _record(field, self.layers, condition)
            residuals.append(residual.reshape(-1))
            self.blocks.append(rows)
        self.residual = torch.cat(residuals)
        self.sizes = [len(residual) for residual in residuals]

    def kernel(self) -> Tensor:
        """J J^T, (R, R)."""
        kernel = self.residual.new_empty(len(self.residual), len(self.residual))
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        for i, (start, size) in enumerate(zip(starts, self.sizes, strict=True)):
            for j in range(i + 1):
                block = _kernel_block(self.blocks[i], self.blocks[j], same=i == j)
                kernel[start : start + size, starts[j] : starts[j] + self.sizes[j]] = block
                if i != j:
                    kernel[starts[j] : starts[j] + self.sizes[j], start : start + size] = block.T
        return kernel

    def dense(self) -> Tensor:
        """J, (R, P), the parameters as `nn.utils.parameters_to_vector` orders them: the primal form."""
        return torch.cat([torch.cat([r.dense() for r in rows], dim=-1).flatten(0, 1) for rows in self.blocks])

    def transposed(self, y: Tensor) -> Tensor:
        """J^T y, (P,), for y (R,)."""
        total: list[Any] = [0] * (2 * len(self.layers))
        for rows, part in zip(self.blocks, y.split(self.sizes), strict=True):
            for index, r in enumerate(rows):
                d = torch.einsum("sbkm,bk->sbm", r.adjoints, part.view(r.adjoints.shape[1:3]))
                total[2 * index] = total[2 * index] + d.flatten(0, 1).T @ r.inputs.flatten(0, 1)
                total[2 * index + 1] = total[2 * index + 1] + d[r.biased].sum((0, 1))
        kept = (value for index, value in enumerate(total) if index % 2 == 0 or self.layers[index // 2].bias is not None)
        return torch.cat([value.reshape(-1) for value in kept])

    def times(self, v: Tensor) -> Tensor:
        """J v, (R,), for v (P,)."""
        weights = []
        for layer in self.layers:
            weight, v = v[: layer.weight.numel()].view_as(layer.weight), v[layer.weight.numel() :]
            bias = None
            if layer.bias is not None:
                bias, v = v[: len(layer.bias)], v[len(layer.bias) :]
            weights.append((weight, bias))
        found = []
        for rows in self.blocks:
            total: Any = 0
            for (weight, bias), r in zip(weights, rows, strict=True):
                z = r.inputs @ weight.T
                if bias is not None:
                    z[r.biased] += bias
                total = total + torch.einsum("sbkm,sbm->bk", r.adjoints, z)
            found.append(total.reshape(-1))
        return torch.cat(found)


def linear_layers(field: nn.Module) -> list[nn.Linear]:
    """The nn.Linear layers that hold all parameters of the field, in the order of its parameters."""
    layers = [module for module in field.modules() if isinstance(module, nn.Linear)]
    owned = {id(p) for layer in layers for p in layer.parameters()}
    strangers = [name for name, p in field.named_parameters() if id(p) not in owned]
    if strangers:
        raise TypeError(f"parameters {strangers} are not those of nn.Linear layers; expected linear layers and activations without parameters")
    return layers


def _record(field: nn.Module, layers: list[nn.Linear], condition: Condition) -> tuple[Tensor, list[Rows]]:
    """The residual (B, K) of a condition and what each layer saw."""
    seen: dict[nn.Module, list[tuple[Tensor, Tensor, Tensor]]] = {layer: [] for layer in layers}

    def note(layer: nn.Linear, inputs: tuple[Any, ...], out: Any) -> None:
        z, count = inputs[0], 1
        if isinstance(z, Multicomplex):
            count, z, out = z.layout.sizes[0], z.stored().rows, out.rows
        else:
            z = z.unsqueeze(0)
        biased = torch.arange(len(z), device=z.device) < (count if layer.bias is not None else 0)
        seen[layer].append((z, out, biased))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.enable_grad():
            residual = condition(field)
    finally:
        for hook in hooks:
            hook.remove()
    unused = [number for number, layer in enumerate(layers) if not seen[layer]]
    if unused:
        raise ValueError(f"condition {condition.name!r} does not pass through linear layers {unused}; expected it to use the whole field")
    outputs = [out for layer in layers for _, out, _ in seen[layer]]
    adjoints = [
        torch.autograd.grad(residual[:, k].sum(), outputs, retain_graph=True, materialize_grads=True) for k in range(residual.shape[1])
    ]
    stacked = iter([torch.stack(by_output, dim=-2) for by_output in zip(*adjoints, strict=True)])  # (S, B, K, m), or (B, K, m)
    rows = []
    for layer in layers:
        d = [next(stacked) for _ in seen[layer]]
        d = [value if value.dim() == 4 else value.unsqueeze(0) for value in d]
        z, _, biased = zip(*seen[layer], strict=True)
        rows.append(Rows(torch.cat(z).detach(), torch.cat(d), torch.cat(biased)))
    return residual.detach(), rows


def _kernel_block(left: list[Rows], right: list[Rows], *, same: bool) -> Tensor:
    """The block of J J^T of two conditions, (B K, C L): of few rows by pairs, of many by dense derivatives of a layer at a time."""
    few: list[tuple[Rows, Rows]] = []
    many: list[tuple[Rows, Rows]] = []
    for p, q in zip(left, right, strict=True):
        m, n = p.adjoints.shape[-1], p.inputs.shape[-1]
        (many if len(p.inputs) * len(q.inputs) * (m + n) > m * n else few).append((p, q))
    kernel = _by_pairs(few, left[0].adjoints, right[0].adjoints, same)
    for p, q in many:
        dense = p.dense().flatten(0, 1)
        kernel.addmm_(dense, (dense if same else q.dense().flatten(0, 1)).T)
    return kernel


def _by_pairs(layers: list[tuple[Rows, Rows]], left: Tensor, right: Tensor, same: bool) -> Tensor:
    """The sum over layers and pairs of rows, in tiles that stay in the cache; `same` takes half of them from the others."""
    (b, k), (c, l) = left.shape[1:3], right.shape[1:3]
    kernel = left.new_empty(b, k, c, l)
    points, others = max(1, TILE // k), max(1, TILE // l)
    for i in range(0, b, points):
        for j in range(0, min(c, i + 1) if same else c, others):
            tile = kernel[i : i + points, :, j : j + others]
            tile.copy_(_tile(layers, slice(i, i + points), slice(j, j + others), tile))
            if same and j < i:
                kernel[j : j + others, :, i : i + points] = tile.permute(2, 3, 0, 1)
    return kernel.view(b * k, c * l)


def _tile(layers: list[tuple[Rows, Rows]], these: slice, those: slice, like: Tensor) -> Tensor:
    """The sum for some points of two conditions, of the shape of `like`, in memory of its own."""
    total = like.new_zeros(like.shape)
    for p, q in layers:
        for d, a, biased in zip(p.adjoints[:, these], p.inputs[:, these], p.biased, strict=True):
            for e, z, also in zip(q.adjoints[:, those], q.inputs[:, those], q.biased, strict=True):
                products, weights = d.flatten(0, 1) @ e.flatten(0, 1).T, a @ z.T
                if biased and also:
                    weights += 1  # the bias
                total.addcmul_(products.view(total.shape), weights[:, None, :, None])
    return total
