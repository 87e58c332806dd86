"""Piecewise functions: the derivatives of the piece that torch takes at a kink.

ReLU and its kin are C^0, ELU with alpha = 1 is C^1: higher derivatives through them jump. A simulation wants a smooth activation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.rules import elementwise, rule


def _slope_at_a_bound(kind: Callable[[float], float | Tensor]) -> float:
    """Of torch's clamp: 1 up to version 2.13; from then on 0, and 1/2 where the bounds are tensors."""
    with torch.inference_mode(False), torch.enable_grad():           # hodsim may be imported where there is no grad
        x = torch.ones((), requires_grad=True)
        (slope,) = torch.autograd.grad(x.clamp(max=kind(1.0)), x)
    return float(slope)


AT_A_NUMBER, AT_A_TENSOR = _slope_at_a_bound(float), _slope_at_a_bound(torch.tensor)


def pieces(x: Tensor, order: int, value: Tensor, slope: Tensor) -> list[Tensor]:
    """A piecewise linear function."""
    return [value, slope.to(x.dtype)][: order + 1]


@rule(torch.relu, F.relu, torch.relu_)
@elementwise
def relu(x: Tensor, order: int) -> list[Tensor]:
    return pieces(x, order, x.relu(), x > 0)


@rule(F.relu6)
@elementwise
def relu6(x: Tensor, order: int) -> list[Tensor]:
    return pieces(x, order, F.relu6(x), (x > 0) & (x < 6))


@rule(F.leaky_relu)
@elementwise
def leaky_relu(x: Tensor, order: int, negative_slope: float = 0.01) -> list[Tensor]:
    return pieces(x, order, F.leaky_relu(x, negative_slope), torch.where(x > 0, torch.ones_like(x), negative_slope))


@rule(F.hardtanh)
@elementwise
def hardtanh(x: Tensor, order: int, min_val: float = -1.0, max_val: float = 1.0) -> list[Tensor]:
    return pieces(x, order, F.hardtanh(x, min_val, max_val), (x > min_val) & (x < max_val))


@rule(F.hardsigmoid)
@elementwise
def hardsigmoid(x: Tensor, order: int) -> list[Tensor]:
    return pieces(x, order, F.hardsigmoid(x), ((x > -3) & (x < 3)).to(x.dtype) / 6)


@rule(F.hardswish)
@elementwise
def hardswish(x: Tensor, order: int) -> list[Tensor]:
    slope = torch.ops.aten.hardswish_backward(torch.ones_like(x), x)     # torch's own, which was another at -3 before
    return [F.hardswish(x), slope, ((x > -3) & (x < 3)).to(x.dtype) / 3][: order + 1]


@rule(F.hardshrink)
@elementwise
def hardshrink(x: Tensor, order: int, lambd: float = 0.5) -> list[Tensor]:
    return pieces(x, order, F.hardshrink(x, lambd), x.abs() > lambd)


@rule(F.softshrink)
@elementwise
def softshrink(x: Tensor, order: int, lambd: float = 0.5) -> list[Tensor]:
    return pieces(x, order, F.softshrink(x, lambd), x.abs() > lambd)


@rule(F.threshold)
@elementwise
def threshold(x: Tensor, order: int, threshold: float, value: float) -> list[Tensor]:
    return pieces(x, order, F.threshold(x, threshold, value), x > threshold)


@rule(torch.abs)
@elementwise
def absolute(x: Tensor, order: int) -> list[Tensor]:
    return pieces(x, order, x.abs(), x.sign())


@rule(torch.clamp)
@elementwise
def clamp(x: Tensor, order: int, min=None, max=None) -> list[Tensor]:
    value = x.clamp(min, max)
    slope = (value == x).to(x.dtype)
    for bound in (min, max):
        taken = AT_A_TENSOR if isinstance(bound, Tensor) else AT_A_NUMBER
        if bound is not None and taken != 1:
            slope = torch.where(x == bound, taken, slope)
    return pieces(x, order, value, slope)


@rule(F.elu)
@elementwise
def elu(x: Tensor, order: int, alpha: float = 1.0) -> list[Tensor]:
    return exponential_piece(x, order, alpha, 1.0, 1.0)


@rule(F.celu)
@elementwise
def celu(x: Tensor, order: int, alpha: float = 1.0) -> list[Tensor]:
    return exponential_piece(x, order, alpha, 1.0, 1 / alpha)


@rule(F.selu)
@elementwise
def selu(x: Tensor, order: int) -> list[Tensor]:
    return exponential_piece(x, order, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


def exponential_piece(x: Tensor, order: int, alpha: float, scale: float, rate: float) -> list[Tensor]:
    """scale x for x > 0, scale alpha (exp(rate x) - 1) below."""
    value = torch.ops.aten.elu(x, alpha, scale, rate)
    if order == 0:
        return [value]
    positive, below = x > 0, x.clamp(max=0)
    bump = torch.exp(below if rate == 1 else below * rate)           # 1 where x > 0, and with that the slope of a smooth piece
    factor = scale * alpha * rate
    slope = bump if factor == 1 else bump * factor
    tower = [value, slope if factor == scale else torch.where(positive, scale, slope)]
    if order > 1:
        tower.append(torch.where(positive, 0.0, slope if rate == 1 else slope * rate))
    return tower + [tower[2] * rate ** (k - 2) if rate != 1 else tower[2] for k in range(3, order + 1)]
