"""Elementwise functions by their derivative towers [f, f', .., f^(order)].

A tower may end early where all further derivatives are zero, and may hold one tensor several times (exp, ELU): nothing is computed twice.
Every tower is written so that it neither overflows nor cancels where the function itself saturates: with s the logistic function,
s' = s(x) s(-x) and the derivatives of s and tanh are s' times a polynomial in tanh(x/2) or tanh(x), of which all terms are bounded.
Piecewise functions are in `piecewise.py`.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, pi, sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.layout import constant_in_graphs
from hodsim.multicomplex.rules import elementwise, rule

# -- exponentials and powers -------------------------------------------------------------------------------------------------


@rule(torch.exp)
@elementwise
def exp(x: Tensor, order: int) -> list[Tensor]:
    return [x.exp()] * (order + 1)


@rule(torch.expm1)
@elementwise
def expm1(x: Tensor, order: int) -> list[Tensor]:
    return [x.expm1(), *[x.exp()] * order]


@rule(torch.exp2)
@elementwise
def exp2(x: Tensor, order: int) -> list[Tensor]:
    value, rate = x.exp2(), torch.tensor(2.0, dtype=torch.float64).log().item()
    return [value * rate**k for k in range(order + 1)]


@rule(torch.log)
@elementwise
def log(x: Tensor, order: int) -> list[Tensor]:
    return [x.log(), *reciprocals(x, order)]


@rule(torch.log1p)
@elementwise
def log1p(x: Tensor, order: int) -> list[Tensor]:
    return [x.log1p(), *reciprocals(1 + x, order)]


@rule(torch.log2)
@elementwise
def log2(x: Tensor, order: int) -> list[Tensor]:
    return [x.log2(), *(d * 1.4426950408889634 for d in reciprocals(x, order))]


@rule(torch.log10)
@elementwise
def log10(x: Tensor, order: int) -> list[Tensor]:
    return [x.log10(), *(d * 0.4342944819032518 for d in reciprocals(x, order))]


@rule(torch.reciprocal)
@elementwise
def reciprocal(x: Tensor, order: int) -> list[Tensor]:
    return reciprocals(x, order + 1)


def reciprocals(x: Tensor, count: int) -> list[Tensor]:
    """1/x and its derivatives (-1)^k k! x^-(k+1), `count` in all."""
    inverse = x.reciprocal()
    tower = [inverse] if count else []
    for k in range(1, count):
        tower.append(tower[-1] * inverse * -k)
    return tower


def power(x: Tensor, order: int, exponent: float) -> list[Tensor]:
    """x^p and p (p-1) .. (p-k+1) x^(p-k); exactly zero beyond the degree of a polynomial."""
    tower, coefficient = [x**exponent], 1.0
    for k in range(order):
        coefficient *= exponent - k
        if coefficient == 0:
            break
        tower.append(coefficient * x ** (exponent - k - 1))
    return tower


@rule(torch.sqrt)
@elementwise
def square_root(x: Tensor, order: int) -> list[Tensor]:
    return [x.sqrt(), *power(x, order, 0.5)[1:]]


@rule(torch.rsqrt)
@elementwise
def inverse_square_root(x: Tensor, order: int) -> list[Tensor]:
    return [x.rsqrt(), *power(x, order, -0.5)[1:]]


@rule(torch.square)
@elementwise
def square(x: Tensor, order: int) -> list[Tensor]:
    return [x * x, 2 * x, torch.full_like(x, 2)][: order + 1]


# -- trigonometric and hyperbolic --------------------------------------------------------------------------------------------


@rule(torch.sin)
@elementwise
def sin(x: Tensor, order: int) -> list[Tensor]:
    return _cycle([x.sin(), x.cos()], order)


@rule(torch.cos)
@elementwise
def cos(x: Tensor, order: int) -> list[Tensor]:
    return _cycle([x.cos(), -x.sin()], order)


def _cycle(pair: list[Tensor], order: int) -> list[Tensor]:
    """f, f', -f, -f', f, .."""
    return [pair[k % 2] if k % 4 < 2 else -pair[k % 2] for k in range(order + 1)]


@rule(torch.sinh)
@elementwise
def sinh(x: Tensor, order: int) -> list[Tensor]:
    return [(x.sinh(), x.cosh())[k % 2] for k in range(order + 1)]


@rule(torch.cosh)
@elementwise
def cosh(x: Tensor, order: int) -> list[Tensor]:
    return [(x.cosh(), x.sinh())[k % 2] for k in range(order + 1)]


@rule(torch.atan)
@elementwise
def atan(x: Tensor, order: int) -> list[Tensor]:
    """atan^(k) = (-1)^(k-1) (k-1)! cos^k(t) sin(k (pi/2 - t)), t = atan x."""
    t = x.atan()
    cosine, rest = (1 + x * x).rsqrt(), torch.atan2(torch.ones_like(x), x)
    return [t, *((-1) ** (k - 1) * factorial(k - 1) * cosine**k * (k * rest).sin() for k in range(1, order + 1))]


# -- sigmoids ----------------------------------------------------------------------------------------------------------------


@constant_in_graphs
def _sigmoid_polynomials(order: int, scale: float) -> tuple[tuple[float, ...], ...]:
    return _polynomials(order, scale)


@lru_cache(maxsize=32)
def _polynomials(order: int, scale: float) -> tuple[tuple[float, ...], ...]:
    """q_1 .. q_order with f^(k) = f' q_k(y), where y' = (1 - y^2) / scale and f''= -2 y f' / scale: coefficients, lowest first.

    q_(k+1) = q_k' (1 - y^2) / scale - 2 y q_k / scale."""
    polynomials, q = [], [1.0]
    for _ in range(order):
        polynomials.append(tuple(q))
        following = [0.0] * (len(q) + 1)
        for i, c in enumerate(q):
            if i:
                following[i - 1] += i * c / scale
            following[i + 1] -= (i + 2) * c / scale
        q = following
    return tuple(polynomials)


def _bump_tower(first: Tensor, y: Tensor, order: int, scale: float) -> list[Tensor]:
    """f', .., f^(order) from f' and y, the polynomials summed in y^2."""
    tower, y2 = [], y * y if order > 2 else y
    for q in _sigmoid_polynomials(order, scale):
        coefficients = q[(len(q) - 1) % 2 :: 2]                      # an even or an odd polynomial
        value: Tensor | float = coefficients[-1]
        for c in reversed(coefficients[:-1]):
            value = value * y2 + c
        if len(q) % 2 == 0:
            value = value * y
        tower.append(first * value if len(q) > 1 else first)
    return tower


@rule(torch.tanh, F.tanh)
@elementwise
def tanh(x: Tensor, order: int) -> list[Tensor]:
    y = x.tanh()
    if order == 0:
        return [y]
    return [y, *_bump_tower(4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x), y, order, 1.0)]


@rule(torch.sigmoid, F.sigmoid, torch.special.expit)
@elementwise
def sigmoid(x: Tensor, order: int) -> list[Tensor]:
    s = x.sigmoid()
    if order == 0:
        return [s]
    other = torch.sigmoid(-x)
    return [s, *_bump_tower(s * other, s - other, order, 2.0)]


@rule(F.softplus)
@elementwise
def softplus(x: Tensor, order: int, beta: float = 1.0, threshold: float = 20.0) -> list[Tensor]:
    """log(1 + exp(beta x)) / beta. Its derivatives are those of the formula everywhere; beyond torch's threshold they differ by < e^-20."""
    tower = [F.softplus(x, beta, threshold)]
    if order:
        tower += [s * beta**k for k, s in enumerate(sigmoid_tower(beta * x, order - 1))]
    return tower


sigmoid_tower = sigmoid.__wrapped__
tanh_tower = tanh.__wrapped__


@rule(F.logsigmoid)
@elementwise
def logsigmoid(x: Tensor, order: int) -> list[Tensor]:
    return [F.logsigmoid(x), *(s * (-1) ** k for k, s in enumerate(sigmoid_tower(-x, order - 1)))] if order else [F.logsigmoid(x)]


def times_x(x: Tensor, tower: list[Tensor]) -> list[Tensor]:
    """(x f)^(k) = x f^(k) + k f^(k-1)."""
    return [x * f if k == 0 else torch.add(x * f, tower[k - 1], alpha=k) for k, f in enumerate(tower)]


@rule(F.silu)
@elementwise
def silu(x: Tensor, order: int) -> list[Tensor]:
    if order <= 1 and not torch.is_grad_enabled() and not torch.compiler.is_compiling():   # fused, but with no derivatives of their own
        return [F.silu(x), torch.ops.aten.silu_backward(torch.ones_like(x), x)][: order + 1]
    return times_x(x, sigmoid_tower(x, order))


@rule(torch.erf)
@elementwise
def erf(x: Tensor, order: int) -> list[Tensor]:
    """erf' = 2/sqrt(pi) exp(-x^2), and Hermite polynomials times that."""
    return [x.erf(), *gaussians(sqrt(2) * x, order, scale=sqrt(2), height=2 / sqrt(pi))]


def gaussians(x: Tensor, count: int, *, scale: float = 1.0, height: float = 1 / sqrt(2 * pi)) -> list[Tensor]:
    """height exp(-x^2/2) and its derivatives by x/scale: (-scale)^k He_k(x) times it, `count` in all."""
    if count == 0:
        return []
    bump = height * torch.exp(-0.5 * x * x)
    if count > 2:                                                    # beyond 40 the bump is zero, and He_k must not overflow
        x = x.clamp(-40.0, 40.0)
    tower, he, before = [bump], None, None
    for k in range(1, count):
        following = x if he is None else x * he - (k - 1) * (1.0 if before is None else before)
        he, before = following, he
        tower.append((-scale) ** k * he * bump)
    return tower


@rule(F.gelu)
@elementwise
def gelu(x: Tensor, order: int, approximate: str = "none") -> list[Tensor]:
    if approximate == "tanh":
        inner = [0.79788456080286536 * t for t in (x + 0.044715 * x**3, 1 + 0.134145 * x * x, 0.26829 * x, torch.full_like(x, 0.26829))]
        outer = [0.5 * t for t in tanh_tower(inner[0], order)]
        outer[0] = torch.sigmoid(2 * inner[0])                       # (1 + tanh) / 2, without cancellation
        return times_x(x, chain(outer, inner, order))
    if approximate != "none":
        raise ValueError(f"gelu has approximate={approximate!r}; expected 'none' or 'tanh'")
    cumulative = 0.5 * torch.erfc(-x / sqrt(2))
    return times_x(x, [cumulative, *gaussians(x, order)])


def chain(outer: list[Tensor], inner: list[Tensor], order: int) -> list[Tensor]:
    """Tower of f(g(x)) from those of f at g(x) and of g at x (Faa di Bruno; missing derivatives of g are zero).

    (f o g)^(k+1) = sum over j of C(k, j) (f' o g)^(j) g^(k+1-j), level by level from the highest derivative of f."""
    towers = [outer[order]]
    for level in range(order - 1, -1, -1):                           # towers: those of f^(level + 1) o g
        following = [outer[level]]
        for k in range(order - level):
            terms = [_binomial(k, j) * towers[j] * inner[k + 1 - j] for j in range(k + 1) if k + 1 - j < len(inner)]
            following.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(outer[0]))
        towers = following
    return towers


def _binomial(n: int, k: int) -> int:
    return factorial(n) // (factorial(k) * factorial(n - k))


@rule(F.mish)
@elementwise
def mish(x: Tensor, order: int) -> list[Tensor]:
    inner = [F.softplus(x), *sigmoid_tower(x, order)[: order]]
    return times_x(x, chain(tanh_tower(inner[0], order), inner, order))


@rule(F.tanhshrink)
@elementwise
def tanhshrink(x: Tensor, order: int) -> list[Tensor]:
    y, *rest = tanh_tower(x, order)
    return [x - y, *(y * y if k == 0 else -d for k, d in enumerate(rest))]     # 1 - tanh' = tanh^2


@rule(F.softsign)
@elementwise
def softsign(x: Tensor, order: int) -> list[Tensor]:
    """x / (1 + |x|); f^(k) = k! (-sign x)^(k-1) / (1 + |x|)^(k+1)."""
    inverse = (1 + x.abs()).reciprocal()
    side = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return [x * inverse, *(factorial(k) * (-side) ** (k - 1) * inverse ** (k + 1) for k in range(1, order + 1))]


def _pow(base, exponent):
    """z ** number, number ** z, z ** w = exp(w log z)."""
    if isinstance(exponent, (int, float)):
        return base.compose(lambda x, order: power(x, order, exponent))
    if isinstance(base, (int, float)):
        base = torch.tensor(base, dtype=exponent.dtype, device=exponent.device)
    if isinstance(exponent, Tensor) and exponent.dim() == 0:
        return base.compose(lambda x, order: power(x, order, exponent.item()))
    return (base.log() * exponent).exp()


rule(torch.pow)(_pow)
