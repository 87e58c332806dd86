"""torch.compile without graph breaks gives the same numbers."""

import operator
import subprocess
import sys

import pytest
import torch
from multicomplex_oracles import perceptron
from test_layers import NETWORKS
from torch import nn

from hodsim.multicomplex import Axes, derivative, derivatives, hessian, jacobian, laplacian, left_contraction
from hodsim.multicomplex.layout import constant_in_graphs

compiles = pytest.mark.skipif(torch.__version__ < (2, 9), reason="torch.compile takes the engine from PyTorch 2.9 on")

FUNCTIONS = {
    "directional": lambda f, x, a: derivative(f, x, a, a, a),
    "simulation": lambda f, x, a: derivatives(f, x, a, a, Axes(), Axes(), parts=[(0, 1, 2), (2, 3)]).part(2, 3),
    "jacobian forward": lambda f, x, a: jacobian(f, x, mode="forward"),
    "jacobian backward": lambda f, x, a: jacobian(f, x, mode="backward"),
    "hessian forward": lambda f, x, a: hessian(f, x, mode="forward"),
    "hessian backward": lambda f, x, a: hessian(f, x, mode="backward"),
    "laplacian": lambda f, x, a: laplacian(f, x),
    "left contraction": lambda f, x, a: left_contraction(f, x, torch.ones(3, dtype=x.dtype), a, a),
}


@compiles
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_whole_graph_compiles(name):
    """Backend 'eager': the capture is what can fail; the compiler's arithmetic is torch's own."""
    net = perceptron((5, 4, 3), nn.SiLU() if "left" in name else nn.ELU()).requires_grad_(False)
    x, a = torch.randn(2, 5, dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, a: FUNCTIONS[name](net, x, a), fullgraph=True, backend="eager")
    for point in (x, x + 1):                                        # the second point runs the captured graph
        torch.testing.assert_close(compiled(point, a), FUNCTIONS[name](net, point, a), rtol=1e-12, atol=1e-13)


@compiles
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("grown", ["inputs", "batch", "lanes"])
def test_one_compiled_function_serves_other_shapes(name, grown):
    """At the second shape torch.compile takes lengths that changed for symbols."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda net, x, a: FUNCTIONS[name](net, x, a), fullgraph=True, backend="eager")
    for k in (3, 4, 5):
        n, batch, lanes = (k if grown == kind else 2 for kind in ("inputs", "batch", "lanes"))
        net = perceptron((n, 4, 3), nn.SiLU()).requires_grad_(False)
        x, a = torch.randn(batch, n, dtype=torch.float64), torch.randn(lanes, batch, n, dtype=torch.float64)
        torch.testing.assert_close(compiled(net, x, a), FUNCTIONS[name](net, x, a), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_the_engine_is_imported_where_torch_records_nothing(mode):
    code = f"import torch\nwith torch.{mode}():\n    import hodsim.multicomplex as m; m.hessian(torch.sin, torch.ones(2))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_engine_does_not_import_the_compiler():
    """Nor does a first derivative; either takes a second. The name of the mark for constants is torch's own."""
    code = ("import sys, torch, hodsim.multicomplex as m; x = torch.ones(3); m.derivative(torch.tanh, x, x, x);"
            "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert vars(torch.compiler.assume_constant_result(lambda: 0)) == vars(constant_in_graphs(lambda: 0))


@compiles
@pytest.mark.parametrize("name", ["LeNet-5", "ResNet-20", "transformer"])
def test_whole_networks_compile(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    net = make().double().eval().requires_grad_(False)
    x, a = torch.randn(2, *shape, dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, a: derivative(net, x, a, a), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, a), derivative(net, x, a, a), rtol=1e-11, atol=1e-12)


@compiles
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "matmul"])
@pytest.mark.parametrize("reflected", [False, True])
def test_operators_with_a_constant_compile(name, reflected):
    op = getattr(operator, name)
    x, a = torch.rand(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    constant = 2.0 if name == "pow" else torch.arange(1.0, 4.0, dtype=torch.float64)

    def f(x):
        z = torch.exp(x)
        return op(constant, z) if reflected else op(z, constant)

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, a: derivative(f, x, a, a), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, a), derivative(f, x, a, a), rtol=1e-12, atol=1e-13)
