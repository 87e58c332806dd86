"""The loss of the high-order contractive autoencoder (HoD-Net, eqs. 10 and 11):

    L = MSE(x, x~) + alpha |Df(x)|_F^2 + beta sum_ij (d^2 f_j / d x_i^2)^2,    f the encoder, the last two averaged over the samples

The second term is eq. 10 as the paper writes it out: the diagonal second derivatives, not |D^2 f|_F^2; it depends on the basis of the input.
Values and gradient come from one propagation of value, first and second derivatives along all input axes, exact and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim import checks
from hodsim.contractive import general
from hodsim.contractive.directions import AllAxes, Hutchinson, RandomInputs
from hodsim.contractive.perceptron import Perceptron, Request

MEMORY_MIB = 16.0
Along = AllAxes | RandomInputs | Hutchinson


@dataclass(frozen=True)
class Terms:
    """penalty = alpha jacobian + beta hessian, a scalar to differentiate; jacobian and hessian, means over the samples, are constants.

    hessian is None where beta = 0: it is not computed."""

    penalty: Tensor
    jacobian: Tensor
    hessian: Tensor | None


def contractive_terms(
    encoder: nn.Module, x: Tensor, *, jacobian_weight: float = 1.0, hessian_weight: float = 0.0, along: Along | None = None,
    memory_mib: float = MEMORY_MIB,
) -> Terms:  # fmt: skip
    """alpha |Df|_F^2 + beta sum_ij (d^2 f_j / d x_i^2)^2, averaged over the samples x (B, ..), of an encoder (B, ..) -> (B, ..).

    A perceptron (linear layers, an elementwise activation of torch behind each or each but the last) goes by hand-written passes; any other
    encoder that treats samples one by one by the derivative engine and autograd. along: all input axes, exact, or an unbiased estimate by
    RandomInputs or Hutchinson. memory_mib bounds what is at work beside parameters, their gradients and the values of the samples.
    Once differentiable: by parameters and x. Raises ValueError for weights or memory that are negative, NotImplementedError for a layer
    without a rule."""
    checks.nonnegative("jacobian_weight", jacobian_weight)
    checks.nonnegative("hessian_weight", hessian_weight)
    budget = int(checks.positive("memory_mib", memory_mib) * 2**20)
    if x.dim() < 2 or not len(x):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (samples, ..) with at least one sample")
    curved = hessian_weight > 0
    exact = along is None or isinstance(along, AllAxes)
    point = x.detach()
    directions = (along or AllAxes()).draw(point[0].numel(), like=point, curved=curved)
    net = Perceptron.of(encoder)
    inputs: list[Any] = net.inputs(x) if net else [x, *(p for p in encoder.parameters() if p.requires_grad)]
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    request = Request(jacobian_weight / len(x), hessian_weight / len(x) if curved else None, budget, wanted)
    if net:
        with torch.no_grad():
            sums, gradient = net.terms(point.flatten(1), directions, request, exact=exact)
        if gradient:
            gradient[0] = gradient[0].view_as(x)
    else:
        sums, gradient = general.terms(encoder, point, directions, request, inputs[1:])
    jacobian, *hessian = (sums / len(x)).to(x.dtype).unbind()
    penalty = jacobian_weight * jacobian + (hessian_weight * hessian[0] if hessian else 0.0)
    if wanted:
        penalty = _WithGradient.apply(penalty, gradient, *inputs)
    return Terms(penalty, jacobian, hessian[0] if hessian else None)  # type: ignore[arg-type]


def contractive_loss(encoder: nn.Module, decoder: nn.Module, x: Tensor, **options: Any) -> tuple[Tensor, Terms]:
    """Eq. 11, and its terms; options as for `contractive_terms`. The mean squared error is over samples and entries."""
    terms = contractive_terms(encoder, x, **options)
    return F.mse_loss(decoder(encoder(x)).reshape(x.shape), x) + terms.penalty, terms


class _WithGradient(torch.autograd.Function):
    """A number whose gradient by some tensors is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: list[Tensor], *inputs: Tensor | None) -> Tensor:
        ctx.save_for_backward(*(g if t is not None else None for g, t in zip(gradient, inputs, strict=True)))
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        return None, None, *(None if g is None else outputs[0] * g for g in ctx.saved_tensors)
