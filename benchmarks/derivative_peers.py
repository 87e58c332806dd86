"""Derivatives as torch and JAX give them: what the engine is measured against."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn


def import_jax(threads: int):
    """JAX on so many threads, to be called in a process that has not imported it yet; None where it is not installed."""
    os.environ["NPROC"] = str(threads)                               # flags of XLA no longer bound its CPU client's threads
    try:
        import jax
    except ImportError:
        return None
    return jax


def nested(jvp: Callable, f: Callable, directions) -> Callable:
    """x -> D^k f(x)[a_1, .., a_k] by jvp of jvp .."""
    if not directions:
        return f
    *inner, last = directions
    within = nested(jvp, f, inner)
    return lambda x: jvp(within, (x,), (last,))[1]


def autograd_jacobian(net: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = net(x)
        m = y.shape[-1]
        eye = torch.eye(m, dtype=x.dtype).view(m, *(1,) * (x.dim() - 1), m).expand(m, *y.shape)
        return torch.autograd.grad(y, x, eye, is_grads_batched=True)[0].movedim(0, -2)


def double_backward(net: nn.Module, x: Tensor, w: Tensor, a: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (g,) = torch.autograd.grad((net(x) * w).sum(), x, create_graph=True)
        return torch.autograd.grad((g * a).sum(), x)[0]


def jax_network(net: nn.Sequential, jax) -> Callable:
    """The same function in JAX, of one point or a batch."""
    steps = [_jax_layer(layer, jax) for layer in net]

    def f(x):
        for step in steps:
            x = step(x)
        return x

    return f


def _jax_layer(layer: nn.Module, jax) -> Callable:
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        weight, bias = jax.numpy.array(layer.weight.numpy()), jax.numpy.array(layer.bias.numpy())
        if isinstance(layer, nn.Linear):
            return lambda x: x @ weight.T + bias
        return lambda x: jax.lax.conv_general_dilated(x, weight, (1, 1), [(p, p) for p in layer.padding]) + bias[:, None, None]
    if isinstance(layer, nn.AvgPool2d):
        window = (1, 1, layer.kernel_size, layer.kernel_size)
        return lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / layer.kernel_size**2
    if isinstance(layer, nn.Flatten):
        return lambda x: x.reshape(len(x), -1)
    return {nn.ELU: jax.nn.elu, nn.Tanh: jax.numpy.tanh, nn.SiLU: jax.nn.silu}[type(layer)]


def jitted(jax, f: Callable) -> Callable:
    compiled = jax.jit(f)
    return lambda x: compiled(jax.numpy.asarray(x.numpy())).block_until_ready()


def taylor_mode(jax, f: Callable, a, order: int) -> Callable:
    """x -> D^k f(x)[a, .., a] by jet."""
    from jax.experimental.jet import jet

    series = [a, *[jax.numpy.zeros_like(a)] * (order - 1)]
    return lambda x: jet(f, (x,), (series,))[1][-1]
