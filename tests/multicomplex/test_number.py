"""The algebra: ring axioms, the Cauchy-Riemann homomorphism, complex steps of length h > 0."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multicomplex_oracles import nested, perceptron
from torch import nn
from torch.nn import functional as F

from hodsim.multicomplex import Multicomplex, cauchy_riemann_matrix, derivative, derivatives
from hodsim.multicomplex.layout import Unit, layout

H = [0.0, 0.01, 0.1]


def numbers(count: int, order: int, h: float, seed: int) -> list[Multicomplex]:
    """Random full numbers of the order, shape (3,)."""
    plan = layout(tuple(Unit(j) for j in range(order)), None, h)
    generator = torch.Generator().manual_seed(seed)
    return [Multicomplex(torch.randn(plan.rows, 3, generator=generator, dtype=torch.float64), plan, order) for _ in range(count)]


def close(z: Multicomplex, w: Multicomplex) -> bool:
    return torch.allclose(z.rows, w.rows, rtol=1e-13, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.sampled_from(H), st.integers(0, 10**6))
def test_ring_axioms(order, h, seed):
    z, w, u = numbers(3, order, h, seed)
    assert close(z * w, w * z)
    assert close((z * w) * u, z * (w * u))
    assert close(z * (w + u), z * w + z * u)
    assert close(z + (-z) + w, w)
    assert close(z * 1.0 + 0.0, z)
    # for h > 0 a reciprocal is a series in the imaginary parts over the real one: away from where that converges slowly, h = 0.1 being large
    assert close((z + 9.0) / (z + 9.0) * w, w)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.sampled_from(H), st.integers(0, 10**6))
def test_cauchy_riemann_matrix_keeps_sums_and_products(order, h, seed):
    z, w = numbers(2, order, h, seed)
    left, right = cauchy_riemann_matrix(z), cauchy_riemann_matrix(w)
    torch.testing.assert_close(cauchy_riemann_matrix(z * w), left @ right, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(cauchy_riemann_matrix(z + w), left + right)
    assert left.shape == (3, 2**order, 2**order)


@pytest.mark.parametrize("function", [torch.exp, torch.sin, torch.tanh, torch.reciprocal, torch.sqrt, torch.log, torch.sigmoid])
@pytest.mark.parametrize("h", [1e-8, 1e-3, 0.1])
def test_first_order_complex_step_is_complex_arithmetic(function, h):
    """With one unit a number is complex: f(x + i h a) by torch's own complex functions."""
    x, a = torch.tensor([0.7, 1.1, 2.3], dtype=torch.float64), torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    expected = function(torch.complex(x, h * a))
    z = derivatives(function, x, a, h=h)
    torch.testing.assert_close(z.part(), expected.real, rtol=1e-14, atol=0)
    torch.testing.assert_close(z.part(0), expected.imag / h, rtol=3e-13, atol=0)


@pytest.mark.parametrize("order", [2, 3])
def test_functions_of_commuting_matrices(order):
    """exp of a number of order n with h > 0 is the exponential of its Cauchy-Riemann matrix."""
    (z,) = numbers(1, order, 0.1, 7)
    torch.testing.assert_close(cauchy_riemann_matrix(z.exp()), torch.linalg.matrix_exp(cauchy_riemann_matrix(z)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_complex_step_error_is_second_order_with_the_known_constant(order):
    """The k-th mixed part along ones is ((i-part) f^(k) - k h^2/6 f^(k+2) + ..): the slope in h is 2 and the constant that of Taylor's series."""
    x = torch.tensor([0.4], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    errors = [derivative(torch.exp, x, *[one] * order, h=h).item() - math.exp(0.4) for h in (0.1, 0.05, 0.025)]
    for coarse, fine in zip(errors[:-1], errors[1:], strict=True):
        assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.01)
    assert errors[-1] / 0.025**2 == pytest.approx(-order / 6 * math.exp(0.4), rel=0.01)


BRANCHED = [(torch.reciprocal, 2.0, 2.0), (torch.log, 0.5, 0.5), (torch.tanh, 0.0, math.pi / 2), (torch.atan, 0.0, 1.0),
            (lambda t: t**-2.5, 3.0, 3.0)]  # fmt: skip


@pytest.mark.parametrize(("function", "point", "radius"), BRANCHED)
def test_steps_beyond_the_radius_of_convergence_are_refused_and_accepted_ones_are_accurate(function, point, radius):
    """Against torch's complex arithmetic. A reciprocal's digits go as h |z| nears the real part: refused before half of them are lost."""
    x, a = torch.tensor([point], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for share in (0.05, 0.1, 0.2):
        z = derivatives(function, x, a * share * radius / 0.1, h=0.1)
        exact = function(torch.complex(x, a * share * radius))
        assert abs(z.part().item() - exact.real.item()) <= 2e-8 * abs(exact.item())
        assert abs(z.part(0).item() * 0.1 - exact.imag.item()) <= 2e-8 * abs(exact.item())
    for share in (0.6, 1.0, 5.0):
        with pytest.raises(ValueError, match=r"h = 0\.1 is too long a step"):
            derivatives(function, x, a * share * radius / 0.1, h=0.1)


def test_tiny_steps_do_not_underflow_in_float32():
    f = perceptron((3, 6, 2), nn.Tanh(), torch.float32).requires_grad_(False)
    x, a = torch.ones(3), torch.tensor([1.0, -1.0, 0.5])
    torch.testing.assert_close(derivative(f, x, a, a, a, h=1e-20), nested(f, a, a, a)(x).detach(), rtol=1e-4, atol=1e-5)


def test_numbers_behave_like_tensors():
    x, a = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)

    def f(t):
        y = t.view(2, 3, 2).transpose(1, 2).flatten(1)[:, 1:] + t[:, :5].clone()
        y = torch.stack([y, 2 - y, 3 / (4 + y), y.abs()], 1).mean(1)
        y = torch.cat([y, torch.ones(2, 1, dtype=t.dtype)], -1).permute(1, 0).T
        first, second = y.chunk(2, -1)
        assert t.shape == (2, 6) and t.size(1) == 6 and t.dim() == 2 and len(t) == 2 and t.dtype == torch.float64
        return (first @ second.T).sum(-1, keepdim=True) * F.pad(t, (1, 0))

    torch.testing.assert_close(derivative(f, x, a, a), nested(f, a, a)(x).detach())
    assert torch.equal(derivatives(f, x, a).part(), f(x))
