"""Elementwise functions against mpmath with 50 digits, to order 6."""

import mpmath as mp
import pytest
import torch
from multicomplex_oracles import EPS, mp_derivatives
from torch.nn import functional as F

from hodsim.multicomplex import derivatives

ORDER = 6


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def softplus(x):
    return mp.log(1 + mp.exp(x))


def gelu_tanh(x):
    return x * logistic(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf(0.044715) * x**3))


SMOOTH = {
    "exp": (torch.exp, mp.exp), "expm1": (torch.expm1, mp.expm1), "exp2": (torch.exp2, lambda x: mp.mpf(2) ** x),
    "sin": (torch.sin, mp.sin), "cos": (torch.cos, mp.cos), "sinh": (torch.sinh, mp.sinh), "cosh": (torch.cosh, mp.cosh),
    "atan": (torch.atan, mp.atan), "erf": (torch.erf, mp.erf), "square": (torch.square, lambda x: x**2),
    "tanh": (torch.tanh, mp.tanh), "sigmoid": (torch.sigmoid, logistic), "softplus": (F.softplus, softplus),
    "softplus beta": (lambda x: F.softplus(x, beta=2.0), lambda x: softplus(2 * x) / 2),
    "logsigmoid": (F.logsigmoid, lambda x: -softplus(-x)), "silu": (F.silu, lambda x: x * logistic(x)),
    "gelu": (F.gelu, lambda x: x * mp.ncdf(x)), "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), gelu_tanh),
    "mish": (F.mish, lambda x: x * mp.tanh(softplus(x))), "tanhshrink": (F.tanhshrink, lambda x: x - mp.tanh(x)),
    "cube": (lambda x: x**3, lambda x: x**3), "2 ** x": (lambda x: 2**x, lambda x: mp.mpf(2) ** x),
}
POSITIVE = {
    "log": (torch.log, mp.log), "log1p": (torch.log1p, mp.log1p), "log2": (torch.log2, lambda x: mp.log(x, 2)),
    "log10": (torch.log10, mp.log10), "sqrt": (torch.sqrt, mp.sqrt), "rsqrt": (torch.rsqrt, lambda x: 1 / mp.sqrt(x)),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x), "x ** 2.5": (lambda x: x**2.5, lambda x: x ** mp.mpf(2.5)),
    "x ** -2": (lambda x: x**-2, lambda x: x**-2), "1 / x": (lambda x: 1 / x, lambda x: 1 / x),
    "x ** x": (lambda x: x**x, lambda x: x**x), "softsign": (F.softsign, lambda x: x / (1 + x)),
    "elu": (F.elu, lambda x: x), "celu": (lambda x: F.celu(x, 0.5), lambda x: x), "selu": (F.selu, lambda x: x * mp.mpf(1.0507009873554805)),
    "hardswish": (F.hardswish, lambda x: x * (x + 3) / 6), "relu": (F.relu, lambda x: x),
}
NEGATIVE = {
    "elu": (lambda x: F.elu(x, 1.5), lambda x: mp.mpf(1.5) * mp.expm1(x)), "celu": (lambda x: F.celu(x, 0.5), lambda x: mp.expm1(2 * x) / 2),
    "selu": (F.selu, lambda x: mp.mpf(1.0507009873554805) * mp.mpf(1.6732632423543772) * mp.expm1(x)),
    "softsign": (F.softsign, lambda x: x / (1 - x)), "leaky relu": (F.leaky_relu, lambda x: x * mp.mpf(0.01)),
    "relu": (F.relu, lambda x: 0 * x), "reciprocal": (torch.reciprocal, lambda x: 1 / x),
}
CASES = ([(name, *pair, (-3.7, -0.6, 0.3, 2.9)) for name, pair in SMOOTH.items()]
         + [(name, *pair, (0.21, 1.3, 2.8)) for name, pair in POSITIVE.items()]
         + [(f"{name} below 0", *pair, (-2.5, -0.4)) for name, pair in NEGATIVE.items()])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("f", "exact", "points"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_derivatives_to_order_six_match_mpmath(f, exact, points, dtype):
    x = torch.tensor(points, dtype=dtype)
    v = torch.ones_like(x)
    z = derivatives(f, x, *[v] * ORDER)
    for i, point in enumerate(x.tolist()):
        expected = mp_derivatives(exact, point, ORDER + 1)
        for k in range(ORDER + 1):
            value, following = (float(expected[j] * mp.factorial(j)) for j in (k, k + 1))
            scale = abs(value) + abs(point * following)               # a value cannot be better than its rounded argument
            scale += sum(abs(float(c)) for c in expected[: k + 1]) * 2**k   # nor than the terms of the formula at a zero of f^(k)
            assert abs(z.part(*range(k))[i].item() - value) <= 50 * EPS[dtype] * scale, f"order {k} at {point}"


SATURATED = [("softplus", F.softplus, 100.0, [100.0, 1.0, 0.0, 0.0]), ("softplus", F.softplus, -800.0, [0.0] * 4),
             ("tanh", torch.tanh, 50.0, [1.0, 0.0, 0.0, 0.0]), ("tanh", torch.tanh, -800.0, [-1.0, 0.0, 0.0, 0.0]),
             ("sigmoid", torch.sigmoid, 800.0, [1.0, 0.0, 0.0, 0.0]), ("sigmoid", torch.sigmoid, -800.0, [0.0] * 4),
             ("silu", F.silu, 800.0, [800.0, 1.0, 0.0, 0.0]), ("silu", F.silu, -800.0, [0.0] * 4),
             ("gelu", F.gelu, 60.0, [60.0, 1.0, 0.0, 0.0]), ("gelu", F.gelu, -60.0, [0.0] * 4),
             ("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), -60.0, [0.0] * 4), ("mish", F.mish, 100.0, [100.0, 1.0, 0.0, 0.0]),
             ("elu", F.elu, 800.0, [800.0, 1.0, 0.0, 0.0]), ("elu", F.elu, -800.0, [-1.0, 0.0, 0.0, 0.0]),
             ("square at zero", torch.square, 0.0, [0.0, 0.0, 2.0, 0.0]), ("cube at zero", lambda x: x**3, 0.0, [0.0, 0.0, 0.0, 6.0])]


@pytest.mark.parametrize(("f", "x", "expected"), [c[1:] for c in SATURATED], ids=[f"{c[0]} at {c[2]:g}" for c in SATURATED])
def test_saturated_values_are_their_limits(f, x, expected):
    x = torch.tensor([x], dtype=torch.float64)
    v = torch.ones_like(x)
    z = derivatives(f, x, v, v, v)
    found = [z.part(*range(k)).item() for k in range(4)]
    assert found == pytest.approx(expected, rel=1e-15, abs=1e-15)


def test_square_root_of_zero_is_infinite_as_in_torch():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(x.sqrt(), x)
    assert derivatives(torch.sqrt, x.detach(), torch.ones(1, dtype=torch.float64)).part(0) == slope == torch.inf


ONE = torch.ones((), dtype=torch.float64)
KINKS = [("relu", F.relu, 0.0), ("elu", F.elu, 0.0), ("elu 1.5", lambda x: F.elu(x, 1.5), 0.0), ("leaky", F.leaky_relu, 0.0),
         ("hardtanh", F.hardtanh, 1.0), ("relu6", F.relu6, 6.0), ("hardsigmoid", F.hardsigmoid, 3.0), ("softshrink", F.softshrink, 0.5),
         ("hardshrink", F.hardshrink, 0.5), ("threshold", lambda x: F.threshold(x, 1.0, 0.0), 1.0), ("abs", torch.abs, 0.0),
         ("celu", F.celu, 0.0), ("selu", F.selu, 0.0), ("hardswish", F.hardswish, -3.0), ("clamp", lambda x: x.clamp(-1.0, 1.0), 1.0),
         ("clamp below", lambda x: x.clamp(min=-1.0), -1.0),
         ("clamp by tensors", lambda x: x.clamp(-ONE, ONE), -1.0)]


@pytest.mark.parametrize(("f", "x"), [c[1:] for c in KINKS], ids=[c[0] for c in KINKS])
def test_kinks_take_the_side_that_torch_takes(f, x):
    x = torch.tensor([x - 0.1, x, x + 0.1], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(x).sum(), x)
    z = derivatives(f, x.detach(), torch.ones_like(x.detach()))
    assert torch.equal(z.part(), f(x).detach())
    torch.testing.assert_close(z.part(0), slope, rtol=3e-8 if f is F.hardsigmoid else 1e-15, atol=1e-16)   # torch rounds 1/6 to float32
