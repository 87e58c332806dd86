"""Perturbation of parameters against double backward, and of inputs and parameters at once."""

import pytest
import torch
from multicomplex_oracles import perceptron
from torch import nn
from torch.nn import functional as F

from hodsim.multicomplex import (
    Multicomplex,
    derivative,
    derivatives,
    gauss_newton_vector_product,
    hessian_vector_product,
    left_contraction,
    perturbed,
)
from hodsim.multicomplex.layout import Unit, layout
from hodsim.multicomplex.parameters import loss_gradient_hessian


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = perceptron((3, 5, 4), nn.SiLU(), seed=seed)
    x, y = (torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (3, 4))
    v = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in net.named_parameters()}
    return net, x, y, v


def double_backward(net, loss, v):
    parameters = list(net.parameters())
    gradient = torch.autograd.grad(loss(net), parameters, create_graph=True)
    return gradient, torch.autograd.grad(sum((g * d).sum() for g, d in zip(gradient, v.values(), strict=True)), parameters)


LOSSES = {"mse": lambda y: lambda out: F.mse_loss(out, y), "cross entropy": lambda y: lambda out: F.cross_entropy(out, y.argmax(1)),
          "some ignored": lambda y: lambda out: F.cross_entropy(out, y.argmax(1), ignore_index=1),
          "log likelihood": lambda y: lambda out: F.nll_loss(F.log_softmax(out, 1), y.argmax(1)),
          "gaussian": lambda y: lambda out: F.gaussian_nll_loss(out[:, :2], y[:, :2], F.softplus(out[:, 2:]))}


@pytest.mark.parametrize("name", LOSSES)
def test_hessian_vector_product_matches_double_backward(name):
    net, x, y, v = problem()
    def loss(module):
        return LOSSES[name](y)(module(x))

    gradient, expected = double_backward(net, loss, v)
    value, g, found = loss_gradient_hessian(loss, net, v)
    assert value.item() == pytest.approx(loss(net).item(), rel=1e-14)
    for a, b in zip(g.values(), gradient, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-12, atol=1e-14)
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    again = hessian_vector_product(loss, net, list(v.values()))
    assert all(torch.equal(again[k], found[k]) for k in found)


@pytest.mark.parametrize("name", LOSSES)
def test_gauss_newton_product_is_the_dense_matrix_times_the_vector(name):
    net, x, y, v = problem(1)
    loss = LOSSES[name](y)
    names = [n for n, _ in net.named_parameters()]

    def output(*parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), x)

    parameters = tuple(p.detach() for p in net.parameters())
    J = torch.cat([j.reshape(28, -1) for j in torch.func.jacrev(output, argnums=tuple(range(len(names))))(*parameters)], 1)
    z = net(x).detach().requires_grad_()
    H = torch.autograd.functional.hessian(loss, z).reshape(28, 28)
    expected = J.T @ H @ J @ torch.cat([d.flatten() for d in v.values()])
    found = gauss_newton_vector_product(lambda m: m(x), loss, net, v)
    torch.testing.assert_close(torch.cat([d.flatten() for d in found.values()]), expected, rtol=1e-11, atol=1e-13)


def test_inputs_and_parameters_at_once_match_finite_perturbation_theory():
    """D^2 of f(x, w) with one unit on both: its mixed part with another equals nested jvp of the two-argument function."""
    net, x, _, v = problem(2)
    a, b = torch.randn(2, 7, 3, dtype=torch.float64)
    names = list(v)
    flat = tuple(v.values())

    def f(x, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), x)

    def along_both(x, *parameters):
        return torch.func.jvp(f, (x, *parameters), (a, *flat))[1]

    parameters = tuple(p.detach() for p in net.parameters())
    zero = tuple(torch.zeros_like(p) for p in parameters)
    expected_both = along_both(x, *parameters)
    expected_mixed = torch.func.jvp(along_both, (x, *parameters), (b, *zero))[1]
    z = derivatives(net, x, (a, v), b)
    torch.testing.assert_close(z.part(0), expected_both, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(z.part(0, 1), expected_mixed, rtol=1e-12, atol=1e-13)
    only = derivative(net, x, v, v)
    second = torch.func.jvp(lambda *p: torch.func.jvp(lambda *q: f(x, *q), p, flat)[1], parameters, flat)[1]
    torch.testing.assert_close(only, second, rtol=1e-12, atol=1e-13)


def test_left_contraction_along_parameters_is_the_gradient_of_their_derivative():
    """w . D^2 f[(a, V), .] by x, by reverse over forward differentiation of the two-argument function."""
    net, x, _, v = problem(4)
    a, w = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    names, parameters = list(v), tuple(p.detach() for p in net.parameters())

    def f(x, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), x)

    for direction, step in (((a, v), a), (v, torch.zeros_like(a))):
        along = torch.func.grad(lambda t, step=step: (torch.func.jvp(f, (t, *parameters), (step, *v.values()))[1] * w).sum())
        torch.testing.assert_close(left_contraction(net, x, w, direction), along(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("h", [0.0, 1e-8])
def test_complex_steps_of_parameters(h):
    net, x, _, v = problem(3)
    exact = derivative(net, x, v, v)
    torch.testing.assert_close(derivative(net, x, v, v, h=h), exact, rtol=1e-13, atol=1e-14)


def test_parameters_come_back_even_after_an_error():
    net, x, y, v = problem()
    before = dict(net.named_parameters())
    plan = layout((Unit(0),))
    with pytest.raises(RuntimeError, match="deliberate"), perturbed(net, plan, [v]):
        assert isinstance(net[0].weight, Multicomplex)
        raise RuntimeError("deliberate")
    after = dict(net.named_parameters())
    assert all(after[name] is before[name] for name in before)


def test_tied_parameters_are_perturbed_together():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 4, dtype=torch.float64)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    net = Tied()
    x, y = torch.randn(2, 3, 4, dtype=torch.float64)
    v = {name: torch.randn_like(p) for name, p in net.named_parameters()}
    def loss(m):
        return F.mse_loss(m(x), y)
    expected = double_backward(net, loss, v)[1]
    for a, b in zip(hessian_vector_product(loss, net, v).values(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_wrong_vectors_are_named():
    net, x, y, v = problem()
    def loss(m):
        return F.mse_loss(m(x), y)
    with pytest.raises(ValueError, match="no parameter 'bogus'"):
        hessian_vector_product(loss, net, {"bogus": torch.ones(1)})
    with pytest.raises(ValueError, match=r"parameter 0.weight has shape \(2, 2\)"):
        hessian_vector_product(loss, net, {"0.weight": torch.ones(2, 2)})
    with pytest.raises(ValueError, match="3 vectors for the 4 parameters"):
        hessian_vector_product(loss, net, list(v.values())[:3])
    with pytest.raises(ValueError, match="expected a scalar"):
        hessian_vector_product(lambda m: m(x), net, v)
    with pytest.raises(TypeError, match="parameters of a function"):
        derivative(torch.tanh, x, v)
