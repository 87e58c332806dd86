"""Contractive terms by dense derivatives of torch.func, and the nets and samples that they are compared on."""

from functools import partial

import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap

from hodsim.contractive import contractive_terms

SMOOTH = [
    nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.GELU, partial(nn.GELU, "tanh"), nn.Tanh, nn.Sigmoid, nn.Softplus, partial(nn.Softplus, beta=2.0),
    nn.LogSigmoid, nn.Mish, nn.Softsign, nn.Tanhshrink,
]  # fmt: skip
EPS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}


def perceptron(widths, activation=nn.Tanh, *, ends_linear=True, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = []
        for n, m in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(n, m, dtype=dtype), activation()]
        return nn.Sequential(*layers[: -1 if ends_linear else None])


def samples(count, width, dtype=torch.float64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def dense(net, x, alpha, beta):
    """The terms and the gradient of their weighted sum, by the whole Jacobian and the whole Hessian of torch.func."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def total(parameters, x):
        def f(row):
            return functional_call(net, parameters, (row[None],))[0].flatten()

        first = vmap(jacrev(f))(x)
        second = vmap(hessian(f))(x).diagonal(dim1=-2, dim2=-1)
        jacobian, curvature = ((d**2).sum() / len(x) for d in (first, second))
        return alpha * jacobian + beta * curvature, (jacobian, curvature)

    gradient, (_, terms) = torch.func.grad_and_value(total, argnums=(0, 1), has_aux=True)(parameters, x)
    return terms, gradient


def agree(net, x, alpha, beta, **options):
    """The result is that of `dense` to 1e3 eps of the largest entry: sums of a few hundred products in another order."""
    (jacobian, curvature), (by_parameters, by_x) = dense(net, x, alpha, beta)
    point = x.clone().requires_grad_()
    terms = contractive_terms(net, point, jacobian_weight=alpha, hessian_weight=beta, **options)
    found = torch.autograd.grad(terms.penalty, [point, *net.parameters()], allow_unused=True)
    tolerance = 1e3 * EPS[x.dtype]
    torch.testing.assert_close(terms.jacobian, jacobian, rtol=tolerance, atol=0)
    if beta:
        torch.testing.assert_close(terms.hessian, curvature, rtol=tolerance, atol=0)
    for got, expected in zip(found, [by_x, *by_parameters.values()], strict=True):
        got = torch.zeros_like(expected) if got is None else got
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * max(1e-3, float(expected.abs().max())))
