"""What the physics-informed networks are measured against, where it is installed: JAX and folx under jit, and DeepXDE on PyTorch.

Imported in processes of their own only: JAX takes its precision and its threads, DeepXDE its backend, when they are imported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from hodsim.benchmarks.derivative_peers import import_jax
from hodsim.pinn.problems import paper_poisson
from hodsim.pinn.problems.poisson import BOUNDARY_WEIGHT, WAVE_NUMBERS, solution, source

ADAM_SHARE = 0.3  # of DeepXDE's time; L-BFGS has the rest, as its documentation advises
POINTS_INSIDE, POINTS_ON_EDGES = 400, 80


def jax_engines(net: nn.Sequential, x: Tensor) -> dict[str, Callable[[], list[Tensor]]]:
    """By name, () -> the gradient of the mean squared Laplacian by the weights and biases, compiled; empty where JAX is not installed."""
    jax = import_jax(threads=1)
    if jax is None:
        return {}
    jax.config.update("jax_enable_x64", True)
    weights = [(jax.numpy.array(layer.weight.detach().numpy()), jax.numpy.array(layer.bias.detach().numpy()))
               for layer in net if isinstance(layer, nn.Linear)]  # fmt: skip
    points = jax.numpy.array(x.numpy())

    def field(weights: Any, x: Any) -> Any:
        for W, b in weights[:-1]:
            x = jax.numpy.tanh(W @ x + b)
        return weights[-1][0] @ x + weights[-1][1]

    def trace(weights: Any, x: Any) -> Any:
        return jax.numpy.trace(jax.jacfwd(jax.jacfwd(lambda x: field(weights, x)))(x), axis1=1, axis2=2)

    def along_axes(weights: Any, x: Any) -> Any:
        def second(v: Any) -> Any:
            return jax.jvp(lambda y: jax.jvp(lambda z: field(weights, z), (y,), (v,))[1], (x,), (v,))[1]

        return jax.vmap(second)(jax.numpy.eye(len(x))).sum(0)

    laplacians = {"JAX jit, trace of the Hessian": trace, "JAX jit, along the axes": along_axes}
    try:
        import folx

        laplacians["folx under jit"] = lambda weights, x: folx.forward_laplacian(lambda x: field(weights, x), 0)(x).laplacian
    except ImportError:
        pass

    def engine(one: Callable) -> Callable[[], list[Tensor]]:
        def loss(weights: Any) -> Any:
            return jax.numpy.mean(jax.vmap(lambda x: one(weights, x))(points) ** 2)

        gradient = jax.jit(jax.grad(loss))

        def run() -> list[Tensor]:
            return [torch.tensor(np.asarray(value)) for value in jax.tree.leaves(jax.block_until_ready(gradient(weights)))]

        return run

    return {name: engine(one) for name, one in laplacians.items()}


def train_deepxde(seconds: float, seed: int) -> dict[str, Any] | None:
    """DeepXDE's PINN on the paper's problem: the same network, weights of equations and time. None where it is not installed."""
    os.environ["DDE_BACKEND"] = "pytorch"
    try:
        import deepxde as dde
    except ImportError:
        return None
    dde.config.set_default_float("float64")
    dde.config.set_random_seed(seed)

    def residual(x: Tensor, u: Tensor) -> list[Tensor]:
        f = source(x)
        seconds_of = [sum(dde.grad.hessian(u, x, component=k, i=i, j=i) for i in range(2)) for k in range(8)]
        return [(seconds_of[k] - f[:, k : k + 1]) / float(WAVE_NUMBERS[k]) ** 2 for k in range(8)]

    geometry = dde.geometry.Rectangle([0, 0], [1, 1])
    def boundary_values(k: int) -> Callable:  # a function of x alone: DeepXDE counts arguments
        return lambda x: solution(torch.as_tensor(x)).numpy()[:, k : k + 1]

    edges = [dde.icbc.DirichletBC(geometry, boundary_values(k), lambda _, on: on, component=k) for k in range(8)]
    data = dde.data.PDE(geometry, residual, edges, num_domain=POINTS_INSIDE, num_boundary=POINTS_ON_EDGES)
    model = dde.Model(data, dde.nn.FNN([2, *[100] * 4, 8], "tanh", "Glorot normal"))
    weights = [1.0] * 8 + [BOUNDARY_WEIGHT**2] * 8
    dde.optimizers.set_LBFGS_options(maxcor=50, ftol=0, gtol=0, maxiter=10**9, maxfun=10**9)
    dde.optimizers.LBFGS_options["iter_per_step"] = 10  # its timer looks only between steps, of a thousand iterations otherwise
    dde.optimizers.LBFGS_options["fun_per_step"] = 13
    start = time.perf_counter()
    with threadpool_limits(1):
        model.compile("adam", lr=1e-3, loss_weights=weights, verbose=0)
        model.train(iterations=10**9, callbacks=[dde.callbacks.Timer(seconds * ADAM_SHARE / 60)], display_every=10**9, verbose=0)
        model.compile("L-BFGS", loss_weights=weights, verbose=0)
        model.train(callbacks=[dde.callbacks.Timer(seconds * (1 - ADAM_SHARE) / 60)], display_every=10**9, verbose=0)
    spent = time.perf_counter() - start
    problem = paper_poisson()
    error = problem.error(lambda x: torch.as_tensor(model.predict(x.numpy())))
    return {"problem": problem.name, "seed": seed, "method": "DeepXDE, Adam and L-BFGS", "steps": int(model.train_state.step), "seconds": spent,
            "loss": float(np.sum(model.train_state.loss_train)), "error": error, "curve": []}  # fmt: skip
