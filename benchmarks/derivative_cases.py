"""What `hodsim bench derivatives` measures: quantities of networks, and the ways of each engine to them.

Networks: the paper's three (40 -> 400, 200 -> 200, 400 -> 40; eight layers of width 200, ELU; one with tanh), a conv net, and the
2 -> 100 x 4 -> 8 tanh net of its Poisson problem. All engines get the same network at the same point.
Floor: the multiply-adds of the matrix products that no method avoids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hodsim.benchmarks.derivative_peers import autograd_jacobian, double_backward, jax_network, jitted, nested, taylor_mode
from hodsim.multicomplex import derivative, hessian, hessian_mode, jacobian, jacobian_mode, laplacian, left_contraction

ENGINES = ("hodsim compiled", "hodsim eager", "JAX jit", "folx", "torch.func", "torch.autograd", "torch.func compiled")
SHAPES = ((40, 400), (200, 200), (400, 40))
PAPER = tuple(f"{n}->{m} ELU" for n, m in SHAPES)
POISSON, CONV = "2->100x4->8 tanh", "conv net"
ALONG = tuple(f"order {k} along a" for k in (4, 5, 6))
WIDTH = 200

Way = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Case:
    """One quantity of one network."""

    net: str
    quantity: str
    dtype: str = "float32"
    batch: int = 1

    @property
    def name(self) -> str:
        return f"{self.net}: {self.quantity}"

    @property
    def key(self) -> dict[str, Any]:
        return asdict(self)

    def engines(self) -> tuple[str, ...]:
        """The engines that can be asked."""
        absent = {"folx"} if self.quantity != "Laplacian" else set()
        absent |= {"torch.func", "torch.func compiled"} if self == Case(CONV, "w.D2f[a,.]", batch=16) else set()
        absent |= {"torch.autograd"} if self.quantity not in ("Jacobian", "w.D2f[a,.]") else set()
        return tuple(engine for engine in ENGINES if engine not in absent)


def cases(quick: bool) -> list[Case]:
    """All cases; quick: the 40 -> 400 net, float32, batch 1, and the Laplacian."""
    found = [Case(net, quantity, dtype, batch) for net in PAPER[: 1 if quick else None] for dtype in ("float32", "float64")[: 1 if quick else None]
             for batch in (1, 64)[: 1 if quick else None] for quantity in _perceptron_quantities(batch, quick)]
    if not quick:
        found += [Case("200->200 tanh", quantity) for quantity in _perceptron_quantities(1, quick)]
        found += [Case(CONV, quantity, batch=16) for quantity in ("w.D2f[a,.]", "D2f[a,a]")]
    return [*found, Case(POISSON, "Laplacian", batch=1000)]


def _perceptron_quantities(batch: int, quick: bool) -> tuple[str, ...]:
    whole = ("Hessian", "Jacobian") if batch == 1 else ("Jacobian",)
    return (*whole, "w.D2f[a,.]", "D3f[a,b,c]", "w.D3f[a,b,.]", *ALONG[: 1 if quick else None])


def rows(quick: bool, threads: tuple[int, ...]) -> list[tuple[Case, str, int]]:
    """Case, engine and threads of all rows, those that the targets are about first; the engines of a case follow one another.

    Targets are about the paper's networks in float32 on one thread: Hessians, all directional derivatives in batches of 64, third order."""
    def rank(row: tuple[Case, str, int]) -> tuple[int, ...]:
        case, engine, count = row
        aim = case.net in PAPER and case.dtype == "float32"
        hessian, batched, third = case.quantity == "Hessian", case.batch == 64, case.quantity in ("D3f[a,b,c]", "w.D3f[a,b,.]")
        tier = 0 if hessian else 1 if batched else 2 if third else 3
        slow = engine == "torch.func compiled"                       # to compile, and not the best peer so far
        return (not aim or tier == 3 or slow, count != threads[0], not aim, slow, tier)

    found = [(case, engine, count) for count in threads for case in cases(quick) for engine in case.engines()
             if not (quick and "compiled" in engine)]
    return sorted(found, key=rank)


# -- the problem of a case ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A network, a point (and directions) and, for contractions from the left, weights."""

    net: nn.Sequential
    x: Tensor
    directions: tuple[Tensor, ...]
    w: Tensor
    floor: float                                                     # multiply-adds


def perceptron(n: int, m: int, activation: type[nn.Module], width: int, hidden: int) -> nn.Sequential:
    """The paper's: `hidden` + 1 layers, an activation after each."""
    sizes = [n, *[width] * hidden, m]
    return nn.Sequential(*(layer for a, b in zip(sizes[:-1], sizes[1:], strict=True) for layer in (nn.Linear(a, b), activation())))


def problem(case: Case) -> Problem:
    """The same numbers at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = _network(case.net).to(getattr(torch, case.dtype)).requires_grad_(False)
        shape = (1, 28, 28) if case.net == CONV else (net[0].in_features,)
        points = torch.randn(4, *(() if case.batch == 1 else (case.batch,)), *shape, dtype=getattr(torch, case.dtype))
        x, a, b, c = (t.clone() for t in points)                     # torch.compile fails on nested jvp along views
        w = torch.randn(10 if case.net == CONV else [k for k in net if isinstance(k, nn.Linear)][-1].out_features, dtype=x.dtype)
    return Problem(net, x, (a, b, c), w, floor(case, net) * case.batch)


def _network(name: str) -> nn.Sequential:
    if name == CONV:
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.SiLU(),
                             nn.AvgPool2d(2), nn.Flatten(), nn.Linear(784, 10))
    if name == POISSON:
        return perceptron(2, 8, nn.Tanh, 100, 4)[:-1]
    sizes, activation = name.split()
    n, m = map(int, sizes.split("->"))
    return perceptron(n, m, nn.ELU if activation == "ELU" else nn.Tanh, WIDTH, 7)


def floor(case: Case, net: nn.Sequential) -> float:
    """Multiply-adds of the matrix products for one point."""
    if case.net == CONV:
        return (4 if "w" in case.quantity else 3) * (8 * 9 * 784 + 16 * 8 * 9 * 196 + 7840)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    work, first, last = sum(layer.weight.numel() for layer in linear), linear[0].weight.numel(), linear[-1].weight.numel()
    n, m = linear[0].in_features, linear[-1].out_features
    if case.quantity == "Jacobian":                                  # columns of the first or rows of the last layer come for nothing
        return work + min(n * (work - first), m * (work - last))
    if case.quantity == "Hessian":                                   # pairs of inputs; or the sum over the hidden units
        k = min(n, WIDTH)                                            # by the outputs of a narrower first layer W, and W^T (..) W
        expansion = m * (k * k * n + k * _pairs(n)) if k < n else 0
        return work + min(_pairs(n) * (work - first), (k + m) * (work - first) + m * _pairs(k) * WIDTH * 7 + expansion)
    if case.quantity.startswith("order"):
        return (int(case.quantity.split()[1]) + 1) * work
    return {"w.D2f[a,.]": 4, "D3f[a,b,c]": 8, "w.D3f[a,b,.]": 8, "Laplacian": 4}[case.quantity] * work


def _pairs(n: int) -> float:
    return n * (n + 1) / 2


# -- the ways of the engines -------------------------------------------------------------------------------------------------


def ways(case: Case, engine: str, at: Problem, jax: Any = None) -> dict[str, Way]:
    """The engine's ways to the quantity, of which the best counts, by name."""
    if engine.startswith("hodsim"):
        found = {"": _hodsim(case, at)}
    elif engine.startswith("torch.func"):
        found = _functional(case, at)
    elif engine == "torch.autograd":
        a = at.directions[0]
        found = {"": partial(autograd_jacobian, at.net) if case.quantity == "Jacobian" else lambda x: double_backward(at.net, x, at.w, a)}
    elif engine == "folx":
        import folx

        g = jax_network(at.net, jax)
        return {"": jitted(jax, jax.vmap(lambda x: folx.forward_laplacian(g, 0)(x).laplacian))}
    else:
        return dict(_jax(case, at, jax))
    return dict(_compiled(found, whole=engine.startswith("hodsim"))) if engine.endswith("compiled") else found


def _hodsim(case: Case, at: Problem) -> Way:
    net, w, (a, b, _) = at.net, at.w, at.directions
    if case.quantity == "Jacobian":
        mode = jacobian_mode(net, at.x).name
        return lambda x: jacobian(net, x, mode=mode)
    if case.quantity == "Hessian":
        mode = hessian_mode(net, at.x).name
        return lambda x: hessian(net, x, mode=mode)
    if case.quantity == "Laplacian":
        return lambda x: laplacian(net, x)
    if case.quantity.startswith("w."):
        directions = (a,) if "D2" in case.quantity else (a, b)
        return lambda x: left_contraction(net, x, w, *directions)
    directions = _directions(case, at)
    return lambda x: derivative(net, x, *directions)


def _directions(case: Case, at: Problem) -> tuple[Tensor, ...]:
    """Of a derivative along directions."""
    a, b, c = at.directions
    return {"D3f[a,b,c]": (a, b, c), "D2f[a,a]": (a, a)}.get(case.quantity) or (a,) * int(case.quantity.split()[1])


def _functional(case: Case, at: Problem) -> dict[str, Way]:
    net, w, (a, b, _) = at.net, at.w, at.directions
    tf = torch.func

    def batched(f: Way) -> Way:
        return f if case.batch == 1 else tf.vmap(f)

    if case.quantity == "Jacobian":
        return {"jacfwd": batched(tf.jacfwd(net)), "jacrev": batched(tf.jacrev(net))}
    if case.quantity == "Hessian":
        return {"forward over reverse": tf.hessian(net), "forward over forward": tf.jacfwd(tf.jacfwd(net))}
    if case.quantity == "Laplacian":
        return {"": tf.vmap(lambda x: tf.hessian(net)(x).diagonal(dim1=1, dim2=2).sum(-1))}
    if case.quantity == "w.D2f[a,.]":
        return {"jvp of grad": lambda x: tf.jvp(tf.grad(lambda t: (net(t) * w).sum()), (x,), (a,))[1]}
    if case.quantity == "w.D3f[a,b,.]":
        along = nested(tf.jvp, net, (a, b))
        return {"grad of jvp of jvp": tf.grad(lambda t: (along(t) * w).sum())}
    return {"nested jvp": nested(tf.jvp, net, _directions(case, at))}


def _jax(case: Case, at: Problem, jax: Any) -> Iterator[tuple[str, Way]]:
    g, w, (a, b, c) = jax_network(at.net, jax), *_in_jax(jax, at)

    def batched(f: Callable) -> Way:
        return jitted(jax, f if case.batch == 1 else jax.vmap(f))

    def left(f: Callable) -> Callable:
        return jax.grad(lambda t: (f(t) * w).sum())

    if case.quantity == "Jacobian":
        yield "jacfwd", batched(jax.jacfwd(g))
        yield "jacrev", batched(jax.jacrev(g))
    elif case.quantity == "Hessian":
        yield "forward over forward", batched(jax.jacfwd(jax.jacfwd(g)))
        yield "forward over reverse", batched(jax.jacfwd(jax.jacrev(g)))
    elif case.quantity == "Laplacian":
        yield "", batched(lambda x: jax.numpy.trace(jax.jacfwd(jax.jacfwd(g))(x), axis1=1, axis2=2))
    elif case.quantity == "w.D2f[a,.]":
        yield "jvp of grad", jitted(jax, lambda x: jax.jvp(left(g), (x,), (a,))[1])
        yield "grad of jvp", jitted(jax, left(nested(jax.jvp, g, (a,))))
    elif case.quantity == "w.D3f[a,b,.]":
        yield "grad of jvp of jvp", jitted(jax, left(nested(jax.jvp, g, (a, b))))
        yield "jvp of jvp of grad", jitted(jax, nested(jax.jvp, left(g), (a, b)))
    elif case.quantity == "D3f[a,b,c]":
        yield "nested jvp", jitted(jax, nested(jax.jvp, g, (a, b, c)))
    else:
        order = len(_directions(case, at))
        yield "nested jvp", jitted(jax, nested(jax.jvp, g, (a,) * order))
        yield "jet", jitted(jax, taylor_mode(jax, g, a, order))


def _in_jax(jax: Any, at: Problem) -> tuple[Any, tuple]:
    return jax.numpy.array(at.w.numpy()), tuple(jax.numpy.array(t.numpy()) for t in at.directions)


def _compiled(functions: dict[str, Way], whole: bool) -> Iterator[tuple[str, Way]]:
    """Each as torch.compile makes it, and without its guards and the Python around its kernels: most of the time at batch 1, a tenth at 64."""
    bare = hasattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe")
    for name, f in functions.items():
        yield name, torch.compile(f, fullgraph=whole)
        if bare:
            options = {"cpp_wrapper": True, "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe}
            yield f"{name} without guards, by C++".strip(), torch.compile(f, fullgraph=whole, options=options)
