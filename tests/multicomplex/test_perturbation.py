"""Directional derivatives and contractions against nested automatic differentiation and mpmath."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from multicomplex_oracles import DEVICES, nested, perceptron
from torch import nn
from torch.nn import functional as F

from hodsim.multicomplex import (
    Axes,
    derivative,
    derivatives,
    hessian,
    jacobian,
    laplacian,
    left_contraction,
    matrix_contraction,
    taylor,
)

TOLERANCE = {torch.float64: dict(rtol=1e-12, atol=1e-13), torch.float32: dict(rtol=2e-4, atol=2e-5)}   # some 5000 eps: sums of ~50 terms
WIDTHS = (5, 8, 9, 4)


def net(dtype=torch.float64, device="cpu") -> nn.Module:
    return perceptron(WIDTHS, nn.Tanh(), dtype).to(device).requires_grad_(False)


def points(*shape, seed=1, dtype=torch.float64, device="cpu"):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_mixed_derivatives_match_nested_differentiation(batch, dtype, device):
    f, x = net(dtype, device), points(*batch, 5, dtype=dtype, device=device)
    a, b, c = (points(*batch, 5, seed=s, dtype=dtype, device=device) for s in (2, 3, 4))
    z = derivatives(f, x, a, b, c, a)
    torch.testing.assert_close(z.part(), f(x), **TOLERANCE[dtype])
    for units, directions in {(0,): (a,), (1, 2): (b, c), (0, 3): (a, a), (0, 1, 3): (a, b, a), (0, 1, 2, 3): (a, b, c, a)}.items():
        torch.testing.assert_close(z.part(*units), nested(f, *directions)(x).detach(), **TOLERANCE[dtype])


def test_one_pass_holds_only_what_is_asked():
    """The reduced simulator's pass: D^3 g[v, v, e_k] is 21 rows, and all pairs D^2 g[e_k, e_l] 21 more."""
    f = perceptron((6, 16, 12), nn.Tanh()).requires_grad_(False)
    x, v = points(6), points(6, seed=2)
    eye = torch.eye(6, dtype=torch.float64)
    assert derivatives(f, x, v, v, eye).layout.rows == 21
    axes = Axes()
    z = derivatives(f, x, v, v, axes, axes, parts=[(0, 1, 2), (2, 3)])
    assert z.layout.rows == 42
    torch.testing.assert_close(z.part(0, 1), nested(f, v, v)(x), **TOLERANCE[torch.float64])
    for k in range(6):
        torch.testing.assert_close(z.part(2)[k], nested(f, eye[k])(x), **TOLERANCE[torch.float64])
        torch.testing.assert_close(z.part(0, 1, 2)[k], nested(f, v, v, eye[k])(x), **TOLERANCE[torch.float64])
        torch.testing.assert_close(z.part(1, 3)[k], nested(f, v, eye[k])(x), **TOLERANCE[torch.float64])
        for l in range(6):
            torch.testing.assert_close(z.part(2, 3)[k, l], nested(f, eye[k], eye[l])(x), **TOLERANCE[torch.float64])
    with pytest.raises(KeyError, match=r"part\(0, 2, 3\) is not held"):
        z.part(0, 2, 3)


def test_layers_hold_only_the_rows_that_the_plan_names():
    """What passes between the layers, counted by hooks: 1 + 1 rows in (v; the axes are not stored), the plan's 21 from there on."""
    f = perceptron((6, 16, 12), nn.Tanh()).requires_grad_(False)
    counted = []
    for layer in f:
        layer.register_forward_hook(lambda module, inputs, output: counted.append((len(inputs[0].rows), len(output.rows))))
    v = points(6, seed=2)
    derivatives(f, points(6), v, v, Axes(), parts=[(0, 1, 2)])
    assert counted == [(2, 8), (8, 21), (21, 21)]                    # value, v and six axes; then all parts


def test_batches_of_directions_share_the_real_part_and_broadcast():
    f, x = net(), points(5)
    a, b = points(4, 5, seed=2), points(3, 1, 5, seed=3)
    z = derivatives(f, x, a, b)
    assert z.layout.rows == 1 + 4 + 3 + 12
    assert z.part().shape == (4,) and z.part(0).shape == (4, 4) and z.part(1).shape == (3, 1, 4) and z.part(0, 1).shape == (3, 4, 4)
    for i in range(3):
        for j in range(4):
            torch.testing.assert_close(z.part(0, 1)[i, j], nested(f, a[j], b[i, 0])(x), **TOLERANCE[torch.float64])


@pytest.mark.parametrize("order", [2, 3])
def test_complex_steps_along_all_axes_agree_with_the_truncated_algebra(order):
    """All combinations of axes, and of two batches: lanes on several axes, the real part on all of them."""
    f, x, axes = net(), points(5), Axes()
    torch.testing.assert_close(derivative(f, x, *[axes] * order, h=1e-8), derivative(f, x, *[axes] * order), **TOLERANCE[torch.float64])
    a, b = points(4, 5, seed=2), points(3, 1, 5, seed=3)
    torch.testing.assert_close(derivative(f, x, a, *[b] * (order - 1), h=1e-8), derivative(f, x, a, *[b] * (order - 1)), **TOLERANCE[torch.float64])


def test_a_single_direction_serves_a_batch_of_points():
    f, x, a = net(), points(3, 5), points(5, seed=2)
    torch.testing.assert_close(derivative(f, x, a, a), nested(f, a, a)(x).detach(), **TOLERANCE[torch.float64])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(-2, 2))
def test_derivatives_are_linear_and_symmetric_in_the_directions(seed, s, t):
    f, x = net(), points(5)
    a, b, c = (points(5, seed=seed + j) for j in range(3))
    combined = derivative(f, x, s * a + t * b, c, a)
    torch.testing.assert_close(combined, s * derivative(f, x, a, c, a) + t * derivative(f, x, b, c, a), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(derivative(f, x, a, b, c), derivative(f, x, c, a, b), rtol=1e-12, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_forward_backward_and_dense_agree(seed):
    """w . D^3 f[a, b, c] by a directional pass, by backpropagation and from the full tensor."""
    f, x, axes = perceptron((4, 6, 3), nn.Softplus(), seed=seed).requires_grad_(False), points(4, seed=seed), Axes()
    a, b, c, w = *(points(4, seed=seed + j) for j in (1, 2, 3)), points(3, seed=seed + 4)
    dense = torch.einsum("ijkm,i,j,k,m", derivative(f, x, axes, axes, axes), a, b, c, w)
    torch.testing.assert_close(w @ derivative(f, x, a, b, c), dense, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(c @ left_contraction(f, x, w, a, b), dense, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_chain_rule_on_random_compositions(seed):
    """D^2 (g o f)[a, b] = D^2 g[Df a, Df b] + Dg D^2 f[a, b]."""
    f, g = perceptron((3, 6, 4), nn.SiLU(), seed=seed).requires_grad_(False), perceptron((4, 5, 2), nn.GELU(), seed=seed + 1).requires_grad_(False)
    x, a, b = (points(3, seed=seed + j) for j in range(3))
    z = derivatives(f, x, a, b)
    whole = derivative(lambda t: g(f(t)), x, a, b)
    parts = derivative(g, z.part(), z.part(0), z.part(1)) + derivative(g, z.part(), z.part(0, 1))
    torch.testing.assert_close(whole, parts, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("mode", ["forward", "backward", "auto"])
def test_jacobian_and_hessian_match_torch_func(batch, mode):
    f, x = net(), points(*batch, 5)
    J, H = torch.func.jacrev(f), torch.func.hessian(f)
    J, H = (torch.func.vmap(J), torch.func.vmap(H)) if batch else (J, H)
    torch.testing.assert_close(jacobian(f, x, mode=mode), J(x), **TOLERANCE[torch.float64])
    torch.testing.assert_close(hessian(f, x, mode=mode), H(x), **TOLERANCE[torch.float64])


def test_hessian_of_graphs_with_products_and_branches():
    inner = net()

    def f(x):
        y = inner(x)
        return torch.cat([y * x[..., :4].sin() + y**2, (y * y).sum(-1, keepdim=True) / (2 + x[..., :1] ** 2)], -1)

    x = points(5)
    expected = torch.func.hessian(f)(x)
    for mode in ("forward", "backward"):
        torch.testing.assert_close(hessian(f, x, mode=mode), expected, **TOLERANCE[torch.float64])


def test_functions_in_place_change_no_derivative():
    plain, hasty = (nn.Sequential(nn.Linear(5, 6), nn.SiLU(inplace), nn.Linear(6, 4), nn.ELU(1.0, inplace)).double() for inplace in (False, True))
    hasty.load_state_dict(plain.state_dict())
    x, a, w = points(5), points(5, seed=2), points(4, seed=3)
    torch.testing.assert_close(hessian(hasty, x, mode="backward"), hessian(plain, x, mode="forward"), **TOLERANCE[torch.float64])
    torch.testing.assert_close(left_contraction(hasty, x, w, a), left_contraction(plain, x, w, a), rtol=0, atol=0)
    torch.testing.assert_close(derivative(hasty, x, a, a), derivative(plain, x, a, a), rtol=0, atol=0)


def test_third_derivatives_of_all_axes_are_the_full_tensor():
    f, x, axes = net(), points(5), Axes()
    expected = torch.func.jacfwd(torch.func.hessian(f))(x)
    z = derivatives(f, x, axes, axes, axes)
    assert z.layout.rows == 1 + 5 + 15 + 35
    torch.testing.assert_close(z.part(0, 1, 2).movedim(-1, 0), expected, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("batch", [(), (3,)])
def test_left_contraction_is_the_gradient_of_the_contracted_derivative(batch):
    f, x = net(), points(*batch, 5)
    a, w, b = points(*batch, 5, seed=2), points(*batch, 4, seed=3), points(7, *batch, 5, seed=4)
    H, T = (torch.func.hessian(f), torch.func.jacfwd(torch.func.hessian(f)))
    H, T = (torch.func.vmap(H), torch.func.vmap(T)) if batch else (H, T)
    torch.testing.assert_close(left_contraction(f, x, w, a), torch.einsum("...mij,...m,...j->...i", H(x), w, a))
    torch.testing.assert_close(left_contraction(f, x, w, a, a), torch.einsum("...mijk,...m,...j,...k->...i", T(x), w, a, a))
    torch.testing.assert_close(left_contraction(f, x, w, b), torch.einsum("...mij,...m,k...j->k...i", H(x), w, b))
    torch.testing.assert_close(left_contraction(f, x, w, Axes()), torch.einsum("...mij,...m->j...i", H(x), w))


@pytest.mark.parametrize("batch", [(), (3,)])
def test_laplacian_is_the_trace_of_the_hessian(batch):
    f, x = net(), points(*batch, 5)
    torch.testing.assert_close(laplacian(f, x), hessian(f, x).diagonal(dim1=-2, dim2=-1).sum(-1), **TOLERANCE[torch.float64])
    assert derivatives(f, x, Axes(False), Axes(False), collapse=True).layout.rows == 7                       # 1 + N + 1


def test_matrix_contraction_of_any_rank():
    f, x, a = net(), points(5), points(5, seed=2)
    H, T = hessian(f, x), torch.func.jacfwd(torch.func.hessian(f))(x)
    for matrix in (points(5, 5), torch.outer(a, a), torch.zeros(5, 5, dtype=torch.float64)):
        torch.testing.assert_close(matrix_contraction(f, x, matrix), torch.einsum("mij,ij->m", H, matrix), **TOLERANCE[torch.float64])
        torch.testing.assert_close(matrix_contraction(f, x, matrix, a), torch.einsum("mijk,ij,k->m", T, matrix, a), **TOLERANCE[torch.float64])


def test_taylor_coefficients_of_a_polynomial():
    x, v = points(3), points(3, seed=2)
    c = taylor(lambda t: t**3, x, v, 5)
    torch.testing.assert_close(c, torch.stack([x**3, 3 * x**2 * v, 3 * x * v**2, v**3, 0 * v, 0 * v]), rtol=1e-14, atol=1e-15)
    assert derivatives(torch.tanh, x, *[v] * 6).layout.rows == 7                                             # k + 1, not 2^k


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_flow_through_derivatives(order):
    """A training loss: gradcheck of the parameters and of the point."""
    f, x, a = perceptron((2, 4, 3), nn.SiLU()), points(2).requires_grad_(), points(2, seed=2)
    weight = f[0].weight

    def loss(x, w):
        return derivative(lambda t: f[2](F.silu(F.linear(t, w, f[0].bias))), x, *[a] * order).square().sum()

    assert torch.autograd.gradcheck(loss, (x, weight.detach().requires_grad_()), atol=1e-6)


def test_gradients_flow_through_hessian_jacobian_and_contractions():
    f, x = perceptron((3, 4, 2), nn.Tanh()), points(3).requires_grad_()
    w = points(2, seed=2)
    for function in (lambda x: hessian(f, x, mode="backward"), lambda x: hessian(f, x, mode="forward"), lambda x: laplacian(f, x),
                     lambda x: jacobian(f, x, mode="backward"), lambda x: jacobian(f, x, mode="forward"),
                     lambda x: left_contraction(f, x, w, points(3, seed=3))):
        assert torch.autograd.gradcheck(function, x, atol=1e-6)


def test_refusals_name_the_thing():
    x, a = points(5), points(5, seed=2)
    with pytest.raises(NotImplementedError, match=r"torch.special.i0.*@rule\(torch.special.i0\)"):
        derivative(torch.special.i0, x, a)

    class Bessel(nn.Module):
        def forward(self, x):
            return torch.special.i1(x)

    with pytest.raises(NotImplementedError, match=r"torch.special.i1, called by .*Bessel"):
        derivative(nn.Sequential(Bessel()), x, a)
    with pytest.raises(NotImplementedError, match="does not know .*'out'"):
        derivative(lambda t: torch.tanh(t, out=torch.empty(5)), x, a)
    with pytest.raises(TypeError, match="direction 0 is torch.float32"):
        derivative(torch.tanh, x, a.float())
    with pytest.raises(ValueError, match=r"direction 0 has shape \(4,\)"):
        derivative(torch.tanh, x, a[:4])
    with pytest.raises(ValueError, match=r"part \(0, 0\) is asked for"):
        derivatives(torch.tanh, x, a, parts=[(0, 0)])
    with pytest.raises(ValueError, match="different perturbations"):
        derivatives(torch.tanh, x, a) * derivatives(torch.tanh, x, a, a)
    with pytest.raises(TypeError, match="expected a floating point tensor"):
        derivative(torch.tanh, torch.arange(5), a)
    with pytest.raises(ValueError, match="h is 0.5"):
        derivative(torch.tanh, x, a, h=0.5)
    with pytest.raises(TypeError, match="f returned Tensor"):
        derivative(lambda t: x, x, a)
    with pytest.raises(ValueError, match="mode is 'sideways'"):
        jacobian(net(), x, mode="sideways")


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU(), nn.ELU()], ids=repr)
def test_transforms_of_torch_func_go_through(activation):
    """jvp and grad of a derivative give the next derivative, with respect to the point and to the parameters."""
    net = perceptron((4, 5, 3), activation).requires_grad_(False)
    x, a, b = torch.randn(3, 4, dtype=torch.float64)
    _, along = torch.func.jvp(lambda x: derivative(net, x, a, a), (x,), (b,))
    torch.testing.assert_close(along, derivative(net, x, a, a, b), rtol=1e-11, atol=1e-12)
    gradient = torch.func.grad(lambda x: derivative(net, x, a, a).sum())(x)
    torch.testing.assert_close(gradient @ b, along.sum(), rtol=1e-11, atol=1e-12)
    start = dict(net.named_parameters())
    change = {name: torch.randn_like(value) for name, value in start.items()}

    def laplacian_with(parameters):
        return laplacian(lambda x: torch.func.functional_call(net, parameters, (x,)), x)

    _, found = torch.func.jvp(laplacian_with, (start,), (change,))
    h = 1e-4
    moved = [laplacian_with({name: value + s * h * change[name] for name, value in start.items()}) for s in (1, -1)]
    torch.testing.assert_close(found, (moved[0] - moved[1]) / (2 * h), rtol=1e-5, atol=1e-6)
