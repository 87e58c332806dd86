"""The derivative engine against JAX on random networks: nested jvp and jet along directions, hessian, jacobian, gradients of contractions,
Hessian products by parameters. The networks share their weights and nothing else; JAX's activations are its own."""

import numpy as np
import pytest
import torch
from torch import nn

from hodsim.multicomplex import derivative, hessian, hessian_vector_product, jacobian, laplacian, left_contraction, taylor

jax = pytest.importorskip("jax", reason="JAX is not installed; pip install 'hodsim[independent]'")
jnp = jax.numpy

ACTIVATIONS = {
    "tanh": (nn.Tanh(), jnp.tanh), "silu": (nn.SiLU(), jax.nn.silu), "softplus": (nn.Softplus(), jax.nn.softplus),
    "gelu": (nn.GELU(), lambda z: jax.nn.gelu(z, approximate=False)), "elu": (nn.ELU(), jax.nn.elu), "sigmoid": (nn.Sigmoid(), jax.nn.sigmoid),
}  # fmt: skip
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
TOLERANCE = 200 * np.finfo(float).eps  # of the norm; the engine itself is held to 50 by 50-digit arithmetic, JAX's rounding is not known


@pytest.fixture(autouse=True)
def double_precision():
    """For these tests alone: other tests find JAX as it was."""
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # where it was before JAX 0.8
    with enable(True):
        yield


def random_net(name: str, seed: int) -> tuple[nn.Sequential, list, torch.Generator]:
    """A perceptron of two to four layers of random widths, and its weights for JAX."""
    generator = torch.Generator().manual_seed(seed)
    widths = [3, *torch.randint(2, 9, (2 + seed % 3,), generator=generator).tolist(), 2]
    layers = [nn.Linear(n, m, dtype=torch.float64) for n, m in zip(widths, widths[1:], strict=False)]
    for layer in layers:
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64) / layer.in_features**0.5)
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator, dtype=torch.float64) / 2)
    activation = ACTIVATIONS[name][0]
    net = nn.Sequential(*[module for layer in layers for module in (layer, activation)][:-1])
    return net, [(to_jax(layer.weight), to_jax(layer.bias)) for layer in layers], generator


def network(name: str, weights):
    activation = ACTIVATIONS[name][1]

    def f(x):
        for W, b in weights[:-1]:
            x = activation(W @ x + b)
        return weights[-1][0] @ x + weights[-1][1]

    return f


def to_jax(tensor: torch.Tensor):
    return jnp.asarray(tensor.detach().numpy())


def assert_close(found: torch.Tensor, expected):
    found, expected = found.detach().numpy(), np.asarray(expected)
    assert expected.dtype == np.float64 and found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= TOLERANCE * np.linalg.norm(expected)


def nested_jvp(f, directions):
    for v in directions:
        f = lambda x, f=f, v=v: jax.jvp(f, (x,), (v,))[1]  # noqa: E731
    return f


@every_activation
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_directional_derivatives_match_nested_jvp(name, order):
    for seed in range(2):
        net, weights, generator = random_net(name, 10 * order + seed)
        x, *directions = torch.randn(order + 1, 3, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            found = derivative(net, x, *directions)
        assert_close(found, nested_jvp(network(name, weights), list(map(to_jax, directions)))(to_jax(x)))


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])  # jet has rules for these
def test_taylor_coefficients_match_jet(name):
    from jax.experimental.jet import jet

    for seed in range(2):
        net, weights, generator = random_net(name, seed)
        x, v = torch.randn(2, 3, generator=generator, dtype=torch.float64)
        series = [to_jax(v), *[jnp.zeros(3)] * 4]  # x + t v: derivatives by t of the path
        value, higher = jet(network(name, weights), (to_jax(x),), (series,))
        factorials = np.cumprod([1, 1, 2, 3, 4, 5])
        with torch.no_grad():
            found = taylor(net, x, v, 5)
        for k, expected in enumerate([value, *higher]):
            assert_close(found[k] * float(factorials[k]), expected)


@every_activation
def test_jacobian_hessian_and_laplacian_match(name):
    for seed in range(2):
        net, weights, generator = random_net(name, seed)
        x = torch.randn(3, generator=generator, dtype=torch.float64)
        f, point = network(name, weights), to_jax(x)
        expected = jax.hessian(f)(point)
        with torch.no_grad():
            for mode in ("forward", "backward"):
                assert_close(jacobian(net, x, mode=mode), jax.jacrev(f)(point))
                assert_close(hessian(net, x, mode=mode), expected)
            assert_close(laplacian(net, x), jnp.trace(expected, axis1=1, axis2=2))


@every_activation
def test_left_contractions_match_the_gradient_of_nested_jvp(name):
    for seed in range(2):
        net, weights, generator = random_net(name, seed)
        x, v, u = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        w = torch.randn(2, generator=generator, dtype=torch.float64)
        mixed = nested_jvp(network(name, weights), [to_jax(v), to_jax(u)])
        _, pull_back = jax.vjp(mixed, to_jax(x))
        (expected,) = pull_back(to_jax(w))
        with torch.no_grad():
            assert_close(left_contraction(net, x, w, v, u), expected)


@every_activation
def test_hessian_products_by_parameters_match(name):
    """Forward over reverse in JAX; CSFD-BP here."""
    net, weights, generator = random_net(name, 7)
    x, y = torch.randn(5, 3, generator=generator, dtype=torch.float64), torch.randn(5, 2, generator=generator, dtype=torch.float64)
    vectors = {key: torch.randn(value.shape, generator=generator, dtype=torch.float64) for key, value in net.named_parameters()}
    found = hessian_vector_product(lambda module: ((module(x) - y) ** 2).mean(), net, vectors)

    def loss(weights):
        return jnp.mean((jax.vmap(network(name, weights))(to_jax(x)) - to_jax(y)) ** 2)

    keys = list(vectors)
    tangent = [(to_jax(vectors[W]), to_jax(vectors[b])) for W, b in zip(keys[::2], keys[1::2], strict=True)]
    expected = jax.jvp(jax.grad(loss), (weights,), (tangent,))[1]
    both = zip((found[key] for key in keys), (part for pair in expected for part in pair), strict=True)
    for ours, theirs in both:
        assert_close(ours, theirs)
