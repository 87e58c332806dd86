"""Slow and obvious second ways to derivatives, for the tests of the engine."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor, nn

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}


def nested(f, *directions: Tensor):
    """x -> D^k f(x)[a_1, .., a_k] by k-fold double backward: d/dt f(x + t a) as the gradient by u of u . J(x)^T .. (reverse over reverse)."""
    for a in directions:
        f = _directional(f, a)
    return f


def _directional(f, a: Tensor):
    def along(x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.detach().requires_grad_()
        y = f(x)
        u = torch.ones_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, x, u, create_graph=True)
        return torch.autograd.grad((g * a).sum(), u, create_graph=True)[0]

    return along


def gradient(f, x: Tensor, w: Tensor) -> Tensor:
    """The gradient by x of w . f(x), by autograd."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad((f(x) * w).sum(), x)[0]


def central(f, x: Tensor, a: Tensor, step: float = 1e-5) -> Tensor:
    """Df(x)[a] by a central difference; error about step^2 and eps / step.

    Of first derivatives by autograd it gives second ones where torch's double backward is missing (flash attention) or, in torch 2.13,
    wrong (layer, batch and instance norm)."""
    return (f(x + step * a) - f(x - step * a)) / (2 * step)


class Formula(nn.Module):
    """A module from a lambda: an activation written out, where torch's own backward is not differentiable often enough."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


def perceptron(widths: tuple[int, ...], activation: nn.Module, dtype=torch.float64, seed: int = 0) -> nn.Sequential:
    """A small network with the activation between its layers."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n, m in zip(widths[:-1], widths[1:], strict=True):
        layer = nn.Linear(n, m, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(m, n, generator=generator, dtype=torch.float64) / n**0.5)
            layer.bias.copy_(torch.randn(m, generator=generator, dtype=torch.float64) / 2)
        layers += [layer, activation]
    return nn.Sequential(*layers[:-1])


def mp_derivatives(f, x: float, order: int, digits: int = 50) -> list:
    """Taylor coefficients f(x), f'(x), f''(x) / 2, .. with `digits` digits."""
    with mpmath.workdps(digits):
        return mp_taylor(f, mpmath.mpf(x), order)


Number = dict[int, mpmath.mpf]      # parts by the bit mask of their units, eps_j^2 = 0


def mp_directional(network: nn.Sequential, activation, x: Tensor, directions: list[Tensor], digits: int = 50) -> list:
    """D^k net(x)[a_1 .. a_k] of a perceptron with 50 digits: truncated multicomplex arithmetic over dictionaries, written afresh.

    activation: the layer of a list of numbers, (list[Number], k) -> list[Number]; see mp_elementwise."""
    k = len(directions)
    with mpmath.workdps(digits):
        z = [{0: mpmath.mpf(v), **{1 << j: mpmath.mpf(a[i].item()) for j, a in enumerate(directions)}} for i, v in enumerate(x.tolist())]
        for layer in network:
            if isinstance(layer, nn.Linear):
                z = [mp_affine(row, bias, z) for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)]
            else:
                z = activation(z, k)
        return [number.get(2**k - 1, mpmath.mpf(0)) for number in z]


def mp_elementwise(pick):
    """An activation by the smooth function that serves near t: pick(t) -> f."""
    def layer(z: list[Number], k: int) -> list[Number]:
        return [mp_compose(pick(number[0]), number, k) for number in z]

    return layer


def mp_affine(row, bias, z: list[Number]) -> Number:
    out: Number = {0: mpmath.mpf(bias)}
    for w, number in zip(row, z, strict=True):
        for mask, value in number.items():
            out[mask] = out.get(mask, mpmath.mpf(0)) + mpmath.mpf(w) * value
    return out


def mp_product(z: Number, w: Number) -> Number:
    out: Number = {}
    for s, a in z.items():
        for t, b in w.items():
            if not s & t:
                out[s | t] = out.get(s | t, mpmath.mpf(0)) + a * b
    return out


def mp_compose(f, z: Number, k: int) -> Number:
    """sum over j of f^(j) (Z - z_0)^j / j!, j up to k; f's Taylor coefficients by numerical differentiation with many digits."""
    coefficients = mp_taylor(f, z[0], k)
    increment = {mask: value for mask, value in z.items() if mask}
    power: Number = {0: mpmath.mpf(1)}
    out: Number = {0: coefficients[0]}
    for c in coefficients[1:]:
        power = mp_product(power, increment)
        for mask, value in power.items():
            out[mask] = out.get(mask, mpmath.mpf(0)) + c * value
    return out


def mp_taylor(f, x, order: int) -> list:
    with mpmath.workdps(mpmath.mp.dps + 40):
        return [+c for c in mpmath.taylor(f, x, order)]
