"""Perturbation of a network's parameters (HoD-Net, eq. 7 with V): W + V eps, the module itself unchanged.

    H v  = grad of D L[v]              the perturbed pass and its backpropagation (CSFD-BP), by `Linearised`
    G v  = J^T H_L J v                 Gauss-Newton: forward along v, the loss's Hessian, backward
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hodsim.multicomplex.layout import Layout, Unit, broadcast, layout
from hodsim.multicomplex.linearised import Linearised
from hodsim.multicomplex.number import Multicomplex

Vectors = Mapping[str, Tensor] | Sequence[Tensor]


def named_vectors(module: nn.Module, vectors: Vectors) -> dict[str, Tensor]:
    """One vector for each named parameter of the module; a sequence follows module.parameters(). Missing names stay unperturbed.

    Raises ValueError for a name, count or shape that does not fit."""
    parameters = dict(module.named_parameters())
    if not isinstance(vectors, Mapping):
        vectors = list(vectors)
        if len(vectors) != len(parameters):
            raise ValueError(f"{len(vectors)} vectors for the {len(parameters)} parameters of {type(module).__name__}; expected as many")
        vectors = dict(zip(parameters, vectors, strict=True))
    for name, vector in vectors.items():
        if name not in parameters:
            raise ValueError(f"{type(module).__name__} has no parameter {name!r}; it has {', '.join(parameters)}")
        shape = parameters[name].shape
        if vector.shape[vector.dim() - len(shape) :] != shape:
            expected = ", ".join(map(str, shape))
            raise ValueError(f"the vector of parameter {name} has shape {tuple(vector.shape)}; expected (*lanes, {expected})")
    return dict(vectors)


def vector_lanes(module: nn.Module, vectors: Vectors) -> tuple[int, ...]:
    """Lanes of a batch of parameter directions."""
    parameters = dict(module.named_parameters())
    named = named_vectors(module, vectors)
    return broadcast(*(v.shape[: v.dim() - parameters[name].dim()] for name, v in named.items()))


@contextmanager
def perturbed(module: nn.Module, plan: Layout, vectors: Sequence[Vectors | None], *,
              at: Mapping[str, Tensor] | None = None) -> Iterator[None]:
    """Within the block the module's parameters are W + sum_j V_j eps_j, V_j = vectors[j] (None: zero); afterwards, even after an error,
    the old ones. at: values to take for W in place of the module's own."""
    named = [named_vectors(module, v) if v is not None else {} for v in vectors]
    parameters = dict(module.named_parameters())
    values = parameters if at is None else at
    replaced = {id(parameters[n]): _perturb(values[n], plan, [v.get(n) for v in named]) for n in {n for v in named for n in v}}
    owners = [(m, name, p) for m in module.modules() for name, p in m._parameters.items() if id(p) in replaced]   # tied: several
    try:
        for owner, name, parameter in owners:
            owner._parameters[name] = replaced[id(parameter)]
        yield
    finally:
        for owner, name, parameter in owners:
            owner._parameters[name] = parameter


def _perturb(parameter: Tensor, plan: Layout, vectors: Sequence[Tensor | None]) -> Multicomplex:
    """Rows of W and of its perturbations; a unit that leaves it alone has zeros."""
    rows = [parameter.expand(plan.sizes[0], *parameter.shape)]
    for index in range(1, plan.counts[1]):
        vector = vectors[plan.masks[index].bit_length() - 1]
        lanes = plan.lanes[index]
        value = parameter.new_zeros(()) if vector is None else vector.to(parameter)
        rows.append(value.expand(*lanes, *parameter.shape).reshape(-1, *parameter.shape))
    return Multicomplex(torch.cat(rows), plan, 1)


def hessian_vector_product(loss: Callable[[nn.Module], Tensor], module: nn.Module, vectors: Vectors) -> dict[str, Tensor]:
    """H v for the Hessian of loss(module) by the module's parameters, as tensors by parameter name.

    loss: takes the module and returns a scalar, e.g. lambda net: F.mse_loss(net(x), y). vectors: by name, or as module.parameters().
    For many products at one point make one `Linearised`."""
    with differentiable(module) as parameters:
        at = Linearised(list(parameters.values()), lambda: loss(module), gradient=False)
        return dict(zip(parameters, at.product(_in_order(module, vectors), last=True), strict=True))


def loss_gradient_hessian(loss: Callable[[nn.Module], Tensor], module: nn.Module,
                          vectors: Vectors) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Loss, gradient and Hessian-vector product."""
    with differentiable(module) as parameters:
        at = Linearised(list(parameters.values()), lambda: loss(module))
        product = at.product(_in_order(module, vectors), last=True)
    gradient, product = (dict(zip(parameters, found, strict=True)) for found in (at.gradient, product))
    return at.value, gradient, product


def gauss_newton_vector_product(output: Callable[[nn.Module], Tensor], loss: Callable[[Tensor], Tensor], module: nn.Module,
                                vectors: Vectors) -> dict[str, Tensor]:
    """G v = J^T H_L J v with J the Jacobian of output(module) by the parameters and H_L the Hessian of loss(output)."""
    with differentiable(module) as parameters:
        at = Linearised(list(parameters.values()), lambda: (output(module), loss), gauss_newton=True, gradient=False)
        return dict(zip(parameters, at.product(_in_order(module, vectors), last=True), strict=True))


@contextmanager
def differentiable(module: nn.Module) -> Iterator[dict[str, nn.Parameter]]:
    """The module's parameters, all of which require a gradient within the block."""
    parameters = dict(module.named_parameters())
    fixed = [p for p in parameters.values() if not p.requires_grad]
    for p in fixed:
        p.requires_grad_(True)
    try:
        yield parameters
    finally:
        for p in fixed:
            p.requires_grad_(False)


def _in_order(module: nn.Module, vectors: Vectors) -> list[Tensor | None]:
    named = named_vectors(module, vectors)
    return [named[name].detach().to(p) if name in named else None for name, p in module.named_parameters()]


def output_hessian_product(loss: Callable[[Tensor], Tensor], output: Tensor, change: Tensor) -> Tensor:
    """H_L u for the Hessian of a scalar loss by a network's output, u of the output's shape."""
    y = output.detach().requires_grad_()
    with torch.enable_grad():
        z = _scalar(loss(Multicomplex(torch.stack([y, change]), layout((Unit(0),)), 1)))
        (curved,) = torch.autograd.grad(z.part(0), y)
    return curved


def _scalar(z) -> Multicomplex:
    if not isinstance(z, Multicomplex) or z.numel() != 1:
        shape = tuple(z.shape) if hasattr(z, "shape") else type(z).__name__
        raise ValueError(f"the loss is {shape}; expected a scalar that depends on the parameters")
    return z
