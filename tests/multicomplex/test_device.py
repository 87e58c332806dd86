"""On a device without numbers: the engine decides by shapes alone, and after a first pass reads nothing from the host. So a CUDA graph can
hold it, and nothing in it waits for the device. (The complex step, h > 0, does: it looks whether its series converges.)"""

import pytest
import torch
from launches import Launches
from multicomplex_oracles import perceptron
from test_compile import FUNCTIONS
from test_layers import NETWORKS, ResNet20
from torch import nn
from torch.nn import functional as F

from hodsim.multicomplex import derivative, gauss_newton_vector_product, hessian, hessian_vector_product, left_contraction, taylor

OF_INPUTS = {
    **FUNCTIONS,
    "order 6": lambda f, x, a: derivative(f, x, *(a,) * 6),
    "order 4, distinct": lambda f, x, a: derivative(f, x, a, a + 1, a + 2, a + 3),
    "taylor": lambda f, x, a: taylor(f, x, a, 4),
    "hessian auto": lambda f, x, a: hessian(f, x),
    "left contraction": lambda f, x, a: left_contraction(f, x, x.new_ones(3), a, a),
}
OF_PARAMETERS = {
    "hessian-vector product": lambda net, x, v: hessian_vector_product(lambda net: F.cross_entropy(net(x), labels(x)), net, v),
    "Gauss-Newton product": lambda net, x, v: gauss_newton_vector_product(lambda net: net(x), lambda y: y.square().mean(), net, v),
}


def labels(x):
    return torch.empty(len(x), dtype=torch.long, device=x.device)


def without_numbers(make) -> nn.Module:
    with torch.device("meta"):
        return make().double().eval()


def seen(compute):
    """Its second run."""
    compute()
    with Launches() as launches:
        result = compute()
    for tensor in result.values() if isinstance(result, dict) else [result]:
        assert tensor.is_meta
    return launches


@pytest.mark.parametrize("name", OF_INPUTS)
@pytest.mark.parametrize("activation", [nn.ELU, nn.Tanh, nn.GELU, nn.ReLU])
def test_derivatives_by_inputs(name, activation):
    net = without_numbers(lambda: perceptron((5, 4, 3), activation())).requires_grad_(False)
    x, a = torch.empty(2, 7, 5, dtype=torch.float64, device="meta")
    launches = seen(lambda: OF_INPUTS[name](net, x, a))
    assert launches.count > 5 and not launches.from_host


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name):
    make, shape = NETWORKS[name]
    net = without_numbers(make)
    x, a = torch.empty(2, *shape, dtype=torch.float64, device="meta")
    with torch.no_grad():
        w = torch.empty_like(net(x))
    assert not seen(lambda: derivative(net, x, a, a, a)).from_host
    assert not seen(lambda: left_contraction(net, x, w, a)).from_host


@pytest.mark.parametrize("name", OF_PARAMETERS)
@pytest.mark.parametrize("make", [lambda: perceptron((5, 4, 3), nn.Tanh()), ResNet20], ids=["perceptron", "ResNet-20"])
def test_products_by_parameters(name, make):
    net = without_numbers(make)
    x = torch.empty((7, 5) if len(list(net.modules())) < 10 else (2, 3, 16, 16), dtype=torch.float64, device="meta")
    v = [torch.empty_like(p) for p in net.parameters()]
    launches = seen(lambda: OF_PARAMETERS[name](net, x, v))
    assert launches.count > 5 and not launches.from_host
