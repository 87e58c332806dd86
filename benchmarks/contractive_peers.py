"""The terms of eq. 10 with their gradient by torch's own tools and by JAX: () -> the penalty, its gradient having been computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, jacfwd, jacrev, jvp, vmap

from hodsim.benchmarks.derivative_peers import import_jax

Way = Callable[[], float]


def torch_ways(net: nn.Module, x: Tensor, beta: float) -> dict[str, Way]:
    """jacrev or jacfwd under vmap, nested jvp under vmap, each also compiled; and, for the first term, a loop of autograd over outputs."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    axes = torch.eye(x.shape[1], dtype=x.dtype)

    def through(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(net, parameters, (row,))

    def by(jacobian: Callable) -> Callable:
        return lambda parameters: (vmap(jacobian(lambda row: through(parameters, row)))(x) ** 2).sum() / len(x)

    def nested(parameters: dict[str, Tensor]) -> Tensor:
        def f(row: Tensor) -> Tensor:
            return through(parameters, row)

        def along(row: Tensor, v: Tensor) -> Any:
            return jvp(lambda r: jvp(f, (r,), (v,))[1], (row,), (v,))

        first, second = vmap(vmap(along, (None, 0)), (0, None))(x, axes)
        return ((first**2).sum() + beta * (second**2).sum()) / len(x)

    def way(total: Callable, compiled: bool = False) -> Way:
        both = grad_and_value(total)
        both = torch.compile(both) if compiled else both
        return lambda: float(both(parameters)[1])

    if beta:
        return {"torch.func, nested jvp": way(nested), "the same, compiled": way(nested, True)}
    return {"torch.func, jacrev": way(by(jacrev)), "torch.func, jacfwd": way(by(jacfwd)), "jacrev, compiled": way(by(jacrev), True),
            "autograd loop": lambda: autograd_loop(net, x)}  # fmt: skip


def autograd_loop(net: nn.Module, x: Tensor) -> float:
    """One backward pass an output, kept for the second differentiation."""
    net.zero_grad()
    point = x.detach().requires_grad_()
    y = net(point)
    rows = (torch.autograd.grad(y[:, j].sum(), point, create_graph=True)[0] for j in range(y.shape[1]))
    total = torch.stack([(row**2).sum() for row in rows]).sum() / len(x)
    total.backward()
    return float(total.detach())


def jax_ways(net: nn.Sequential, x: Tensor, beta: float) -> dict[str, Way]:
    """The same under jit, of a perceptron with ELU; none where JAX is not installed."""
    jax = import_jax(torch.get_num_threads())
    if jax is None:
        return {}
    numpy = jax.numpy
    linear = [m for m in net if isinstance(m, nn.Linear)]
    parameters = [(numpy.asarray(m.weight.detach().numpy()), numpy.asarray(m.bias.detach().numpy())) for m in linear]
    points, axes = numpy.asarray(x.numpy()), numpy.eye(x.shape[1], dtype=x.numpy().dtype)

    def f(parameters: Any, row: Any) -> Any:
        for i, (w, b) in enumerate(parameters):
            row = w @ row + b
            row = jax.nn.elu(row) if i + 1 < len(parameters) else row
        return row

    def first(parameters: Any) -> Any:
        return (jax.vmap(jax.jacrev(lambda row: f(parameters, row)))(points) ** 2).sum() / len(x)

    def both(parameters: Any) -> Any:
        def along(row: Any, v: Any) -> Any:
            return jax.jvp(lambda r: jax.jvp(lambda s: f(parameters, s), (r,), (v,))[1], (row,), (v,))

        slopes, curvatures = jax.vmap(jax.vmap(along, (None, 0)), (0, None))(points, axes)
        return ((slopes**2).sum() + beta * (curvatures**2).sum()) / len(x)

    compiled = jax.jit(jax.value_and_grad(both if beta else first))
    return {"JAX jit, nested jvp" if beta else "JAX jit, jacrev": lambda: float(jax.block_until_ready(compiled(parameters))[0])}
