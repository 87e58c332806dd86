"""Derivatives as torch and JAX give them: what the engine is measured against."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn


def import_jax(threads: int):
    """JAX on so many threads, to be called in a process that has not imported it yet; None where it is not installed."""
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
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


def autograd_jacobian(net, x):
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = net(x)
        m = y.shape[-1]
        eye = torch.eye(m, dtype=x.dtype).view(m, *(1,) * (x.dim() - 1), m).expand(m, *y.shape)
        return torch.autograd.grad(y, x, eye, is_grads_batched=True)[0].movedim(0, -2)


def double_backward(net, x, w, a):
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (g,) = torch.autograd.grad((net(x) * w).sum(), x, create_graph=True)
        return torch.autograd.grad((g * a).sum(), x)[0]


def jax_network(net: nn.Sequential, jax):
    """The same function of one point in JAX."""
    layers = [(jax.numpy.array(layer.weight.numpy()), jax.numpy.array(layer.bias.numpy())) if isinstance(layer, nn.Linear)
              else jax.nn.elu if isinstance(layer, nn.ELU) else jax.numpy.tanh for layer in net]

    def f(x):
        for layer in layers:
            x = x @ layer[0].T + layer[1] if isinstance(layer, tuple) else layer(x)
        return x

    return f


def jitted(jax, f):
    compiled = jax.jit(f)
    return lambda x: compiled(jax.numpy.asarray(x.numpy())).block_until_ready()


def jax_modes(jax, batch: int, functions):
    return [jitted(jax, f if batch == 1 else jax.vmap(f)) for f in functions(jax)] if jax else None


def jax_directional(jax, make, *arrays: Tensor, jet=None):
    """Nested jvp, and the Taylor mode of jet where all directions are one."""
    if not jax:
        return None
    values = [jax.numpy.array(t.numpy()) for t in arrays]
    found = [jitted(jax, make(jax, *values))]
    if jet:
        from jax.experimental.jet import jet as taylor
        f, order = jet
        series = [values[0], *[jax.numpy.zeros_like(values[0])] * (order - 1)]
        found.append(jitted(jax, lambda x: taylor(f, (x,), (series,))[1][-1]))
    return found
