"""What one Hessian-vector product costs on the four nets: CSFD-BP against double backward, torch.func and, where installed, curvlinops.

    first     one product at a new point, from nothing
    further   another one at the same point, as conjugate gradients take them: hodsim keeps what does not depend on the direction, double
              backward keeps the graph of the gradient; the others begin anew
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from hodsim.benchmarks.finetune_problems import NETS, seeded
from hodsim.benchmarks.memory import peak, reset_peak, return_freed
from hodsim.multicomplex import Linearised

Product = Callable[[], Any]
SAMPLES = 64


def product_costs(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds, median of repeats by turns, and peak MiB above what is kept, of each product by each method on each net."""
    rows = []
    for name in NETS:
        net, x, y, loss = cost_problem(name)
        for kind, ways in zip(("first", "further"), product_methods(net, x, y, loss), strict=True):
            times: dict[str, list[float]] = {way: [] for way in ways}
            memory = {way: _memory(product) for way, product in ways.items()}
            for turn in range(5 if quick else 30):
                for way in rotated(list(ways), turn):  # what went before leaves its traces in the caches
                    start = time.perf_counter()
                    ways[way]()
                    times[way].append(1e3 * (time.perf_counter() - start))
            rows += [{"net": name, "kind": kind, "method": way, "ms": float(np.median(t)), "MiB": memory[way]} for way, t in times.items()]
    return rows


def rotated(ways: list[str], turn: int) -> list[str]:
    """Over the turns, each is first, and each comes after each other: even turns go the other way round."""
    turned = ways[turn % len(ways) :] + ways[: turn % len(ways)]
    return turned[:: 1 if turn % 2 else -1]


def cost_problem(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor, nn.Module]:
    """A net, a batch, its targets and its loss: reconstruction of the autoencoder, cross entropy of the others."""
    build, shape = NETS[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, *shape, generator=generator)

    def sized() -> nn.Module:
        net = build()
        net(x[:2])  # gives lazy layers their sizes
        return net

    target = x.flatten(1) if name == "autoencoder" else torch.randint(0, 10, (SAMPLES,), generator=generator)
    return seeded(sized)(0), x, target, nn.MSELoss() if name == "autoencoder" else nn.CrossEntropyLoss()


def product_methods(net: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: nn.Module) -> tuple[dict[str, Product], dict[str, Product]]:
    """Ways to a first and to a further product; those that fail (forward mode lacks some functions) are left out."""
    parameters = dict(net.named_parameters())
    weights = list(parameters.values())
    generator = torch.Generator().manual_seed(1)
    v = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in parameters.items()}
    directions = list(v.values())
    detached = {name: p.detach() for name, p in parameters.items()}

    def linearised() -> Linearised:
        return Linearised(weights, lambda: loss(net(x), y), gradient=False)

    def gradient() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(loss(net(x), y), weights, create_graph=True)

    def functional() -> Any:
        found = torch.func.jvp(torch.func.grad(lambda p: loss(torch.func.functional_call(net, p, (x,)), y)), (detached,), (v,))[1]
        return list(found.values())

    first: dict[str, Product] = {
        "CSFD-BP": lambda: linearised().product(directions, last=True),
        "double backward": lambda: torch.autograd.grad(gradient(), weights, directions),
        "torch.func": functional,
    }
    kept, graph = linearised(), gradient()
    further: dict[str, Product] = {
        "CSFD-BP": lambda: kept.product(directions),
        "double backward, graph kept": lambda: torch.autograd.grad(graph, weights, directions, retain_graph=True),
        "torch.func": functional,
    }
    try:
        import curvlinops

        operator = curvlinops.HessianLinearOperator(net, loss, weights, [(x, y)], check_deterministic=False)
        first["curvlinops"] = further["curvlinops"] = lambda: operator @ directions
    except ImportError:  # not installed, or something that it needs is not
        pass
    return tuple({way: product for way, product in ways.items() if _works(product)} for ways in (first, further))  # type: ignore[return-value]


def _memory(product: Product) -> float | None:
    product()
    gc.collect()
    return_freed()
    reset_peak()
    before = peak()
    product()
    after = peak()
    return after - before if after is not None and before is not None else None


def _works(product: Product) -> bool:
    try:
        product()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def cost_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown."""
    lines = [f"## One Hessian-vector product, batches of {SAMPLES}", ""]
    lines += ["| net | product | method | ms | of the best other | MiB more |", "|---|---|---|---|---|---|"]
    for row in rows:
        best = min(r["ms"] for r in rows if (r["net"], r["kind"]) == (row["net"], row["kind"]) and r["method"] != "CSFD-BP")
        memory = "-" if row["MiB"] is None else f"{row['MiB']:.1f}"
        lines.append(f"| {row['net']} | {row['kind']} | {row['method']} | {row['ms']:.2f} | {row['ms'] / best:.2f} | {memory} |")
    return lines
