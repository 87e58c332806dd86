"""Time of high-order derivatives of networks, side by side with torch and JAX; Figs. 1 and 3 of HoD-Net.

Networks: the paper's three (40 -> 400, 200 -> 200, 400 -> 40; eight layers of width 200, ELU; one with tanh), a conv net, and the
2 -> 100 x 4 -> 8 tanh net of its Poisson problem. Every engine computes the same numbers, checked against the first one that succeeds.
Floor: the multiply-adds of the matrix products that no method avoids, over the speed of a square product in the same process.
A peer that is not installed or fails on a case is named in the table with its error, not left out.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from hodsim.benchmarks.apart import apart
from hodsim.benchmarks.chart import png
from hodsim.benchmarks.derivative_peers import (
    autograd_jacobian,
    double_backward,
    import_jax,
    jax_directional,
    jax_modes,
    jax_network,
    jitted,
    nested,
)
from hodsim.benchmarks.memory import peak, reset_peak
from hodsim.multicomplex import derivative, hessian, hessian_mode, jacobian, jacobian_mode, laplacian, left_contraction
from hodsim.storage import write_atomically

SHAPES = ((40, 400), (200, 200), (400, 40))
WIDTH = 200


@dataclass
class Case:
    """One quantity of one network at one point: the same function for each engine, x -> result, and its floor in multiply-adds."""

    name: str
    dtype: str
    batch: int
    floor: float                                    # multiply-adds
    x: Tensor
    engines: dict[str, list[Callable]] = field(default_factory=dict)     # several: the engine's modes, of which the best counts


def network(n: int, m: int, activation: type[nn.Module], dtype: torch.dtype, width: int = WIDTH, hidden: int = 7) -> nn.Sequential:
    """The paper's: `hidden` + 1 layers, an activation after each."""
    sizes = [n, *[width] * hidden, m]
    layers: list[nn.Module] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b, dtype=dtype), activation()]
    return nn.Sequential(*layers).requires_grad_(False)


def cases(quick: bool, jax) -> list[Case]:
    """All cases; quick: the 40 -> 400 net, float32, batch 1, and the Laplacian."""
    found = []
    for n, m in SHAPES[:1] if quick else SHAPES:
        for dtype in ("float32",) if quick else ("float32", "float64"):
            for batch in (1,) if quick else (1, 64):
                found += _perceptron_cases(n, m, nn.ELU, dtype, batch, jax)
    if not quick:
        found += _perceptron_cases(200, 200, nn.Tanh, "float32", 1, jax)
        found += _conv_cases()
    return [*found, _laplacian_case("float32", 1000, jax)]


def _perceptron_cases(n: int, m: int, activation: type[nn.Module], dtype: str, batch: int, jax) -> list[Case]:
    kind = getattr(torch, dtype)
    net = network(n, m, activation, kind)
    x, a, b, c = torch.randn(4, *((n,) if batch == 1 else (batch, n)), dtype=kind)
    w = torch.randn(m, dtype=kind)
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    weights, first = sum(layer.weight.numel() for layer in linear), linear[0].weight.numel()
    jacobian_way, hessian_way = jacobian_mode(net, x).name, hessian_mode(net, x).name
    label = f"{n}->{m} {'ELU' if activation is nn.ELU else 'tanh'}"
    g: Callable = jax_network(net, jax) if jax else net                # what JAX would be given, were it here

    def case(name: str, rows: float, **engines) -> Case:
        return Case(f"{label}: {name}", dtype, batch, rows * batch, x, {k: v if isinstance(v, list) else [v] for k, v in engines.items() if v})

    def vmapped(f):
        return f if batch == 1 else torch.func.vmap(f)

    tf = torch.func
    jacobian_rows = min(n * (weights - first), m * (weights - n * m / 2)) + weights
    found = [case("Jacobian", jacobian_rows, hodsim=lambda x: jacobian(net, x, mode=jacobian_way),
                  autograd=lambda x: autograd_jacobian(net, x), func=[vmapped(tf.jacfwd(net)), vmapped(tf.jacrev(net))],
                  jax=jax_modes(jax, batch, lambda j: [j.jacfwd(g), j.jacrev(g)]))]
    if batch == 1:
        pairs = n * (n + 1) / 2
        floor = min(pairs * (weights - first), n * weights + m * weights + m * pairs * WIDTH * 7) + weights
        found.append(case("Hessian", floor, hodsim=lambda x: hessian(net, x, mode=hessian_way),
                          func=[tf.hessian(net), tf.jacfwd(tf.jacfwd(net))],
                          jax=jax_modes(jax, 1, lambda j: [j.jacfwd(j.jacfwd(g)), j.jacfwd(j.jacrev(g))])))

    def along(f, *directions):
        return nested(tf.jvp, f, directions)

    def jax_along(*directions):
        return nested(jax.jvp, g, directions)

    found += [
        case("w.D2f[a,.]", 4 * weights, hodsim=lambda x: left_contraction(net, x, w, a), autograd=lambda x: double_backward(net, x, w, a),
             func=lambda x: tf.jvp(tf.grad(lambda t: (net(t) * w).sum()), (x,), (a,))[1],
             jax=jax_directional(jax, lambda j, w, a: lambda x: j.jvp(j.grad(lambda t: (g(t) * w).sum()), (x,), (a,))[1], w, a)),
        case("D3f[a,b,c]", 8 * weights, hodsim=lambda x: derivative(net, x, a, b, c), func=along(net, a, b, c),
             jax=jax_directional(jax, lambda j, *d: jax_along(*d), a, b, c)),
        case("w.D3f[a,b,.]", 8 * weights, hodsim=lambda x: left_contraction(net, x, w, a, b),
             func=tf.grad(lambda t: (along(net, a, b)(t) * w).sum()),
             jax=jax_directional(jax, lambda j, w, *d: j.grad(lambda t: (jax_along(*d)(t) * w).sum()), w, a, b)),
    ]
    for order in (4,) if batch == 1 else (4, 5, 6):
        found.append(case(f"order {order} along a", (order + 1) * weights, hodsim=lambda x, k=order: derivative(net, x, *[a] * k),
                          func=along(net, *[a] * order),
                          jax=jax_directional(jax, lambda j, *d: jax_along(*d), *[a] * order, jet=(g, order))))
    return found


def _conv_cases() -> list[Case]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.SiLU(),
                            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(784, 10)).requires_grad_(False)
        x, a = torch.randn(2, 16, 1, 28, 28)
        w = torch.randn(10)
    weights = 8 * 9 * 784 + 16 * 8 * 9 * 196 + 7840
    return [
        Case("conv net: w.D2f[a,.]", "float32", 16, 4 * 16 * weights, x, {
            "hodsim": [lambda x: left_contraction(net, x, w, a)], "autograd": [lambda x: double_backward(net, x, w, a)]}),
        Case("conv net: D2f[a,a]", "float32", 16, 3 * 16 * weights, x, {
            "hodsim": [lambda x: derivative(net, x, a, a)], "func": [nested(torch.func.jvp, net, (a, a))]}),
    ]


def _laplacian_case(dtype: str, points: int, jax) -> Case:
    net = nn.Sequential(*list(network(2, 8, nn.Tanh, getattr(torch, dtype), width=100, hidden=4))[:-1])
    x = torch.rand(points, 2, dtype=getattr(torch, dtype))
    weights = sum(layer.weight.numel() for layer in net if isinstance(layer, nn.Linear))
    engines = {"hodsim": [lambda x: laplacian(net, x)],
               "func": [torch.func.vmap(lambda x: torch.func.hessian(net)(x).diagonal(dim1=1, dim2=2).sum(-1))]}
    if jax:
        g = jax_network(net, jax)
        engines["jax"] = [jitted(jax, jax.vmap(lambda x: jax.numpy.trace(jax.jacfwd(jax.jacfwd(g))(x), axis1=1, axis2=2)))]
        try:
            import folx
            engines["folx"] = [jitted(jax, jax.vmap(lambda x: folx.forward_laplacian(g, 0)(x).laplacian))]
        except ImportError:
            engines["folx"] = []
    return Case("2->100x4->8 tanh: Laplacian", dtype, points, 4 * points * weights, x, engines)


# -- measurement -------------------------------------------------------------------------------------------------------------


def measure(threads: int, quick: bool) -> list[dict]:
    """Time all cases in this process, which has not imported JAX yet."""
    threadpool_limits(threads)
    jax = import_jax(threads)
    rate = _product_rate()
    rows = []
    for dtype in ("float32", "float64"):
        if jax:
            jax.config.update("jax_enable_x64", dtype == "float64")
        rows += [_measure_case(case, threads, rate[dtype], quick, jax) for case in cases(quick, jax) if case.dtype == dtype]
    return rows


def _product_rate() -> dict[str, float]:
    """Multiply-adds a second of a square matrix product."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(1024, 1024, dtype=dtype)
        found[str(dtype)[6:]] = 1024**3 / min(_times(lambda a=a: a @ a, 8))
    return found


def _times(f: Callable, repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        found.append(time.perf_counter() - start)
    return found


def _measure_case(case: Case, threads: int, rate: float, quick: bool, jax) -> dict:
    engines: dict[str, dict] = {}
    functions = {"hodsim eager": case.engines["hodsim"], "torch.autograd": case.engines.get("autograd", []),
                 "torch.func": case.engines.get("func", [])}
    if not quick:
        functions["hodsim compiled"] = _compiled(case.engines["hodsim"], case.batch, fullgraph=True)
        functions["torch.func compiled"] = _compiled(case.engines.get("func", []), case.batch)
    functions["JAX jit"] = case.engines.get("jax", [])
    functions["folx"] = case.engines.get("folx", [])
    reference = None
    for name, modes in functions.items():
        results = []
        for f in modes:
            torch._dynamo.reset()
            try:
                with torch.no_grad():
                    result, value = _measure(lambda f=f: f(case.x), 0.2 if quick else 1.0)
                value = torch.as_tensor(value.tolist() if not isinstance(value, Tensor) else value).double()
                reference = value if reference is None else reference
                result["difference"] = float((value - reference).norm() / reference.norm())
                results.append(result)
            except Exception as error:
                engines.setdefault(name, {"error": f"{type(error).__name__}: {error}"[:160]})
        if results:
            engines[name] = min(results, key=lambda r: r["ms"])
    if jax is None:
        engines["JAX jit"] = {"error": "JAX is not installed"}
    floor = 1e3 * case.floor / rate
    peers = [e["ms"] for name, e in engines.items() if "ms" in e and not name.startswith("hodsim")]
    for engine in engines.values():
        if "ms" in engine:
            engine["times_floor"] = engine["ms"] / floor
            engine["best_peer_over_this"] = min(peers) / engine["ms"] if peers else None
    return {"case": case.name, "dtype": case.dtype, "batch": case.batch, "threads": threads, "floor_ms": floor, "engines": engines}


def _compiled(functions: list[Callable], batch: int, **options) -> list[Callable]:
    """Each as torch.compile makes it, and at batch 1, where its guards and the Python around its kernels are most of the time, without these."""
    found = [torch.compile(f, **options) for f in functions]
    if batch == 1 and hasattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe"):
        bare = {"cpp_wrapper": True, "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe}
        found += [torch.compile(f, options=bare, **options) for f in functions]
    return found


def _measure(f: Callable, seconds: float) -> tuple[dict, Any]:
    start = time.perf_counter()
    value = f()
    first = time.perf_counter() - start
    memory = _peak_memory(f)
    repeats = max(5, min(200, int(seconds / max(min(_times(f, 2)), 1e-6))))
    times = _times(f, repeats)
    low, _, high = statistics.quantiles(times, n=4)
    return {"ms": 1e3 * statistics.median(times), "interquartile_ms": 1e3 * (high - low), "first_s": first, "peak_mib": memory}, value


def _peak_memory(f: Callable) -> float | None:
    """Growth of the process's peak resident memory during a call [MiB] (Linux only)."""
    reset_peak()
    before = peak()
    f()
    after = peak()
    return None if before is None or after is None else after - before


# -- Fig. 1 ------------------------------------------------------------------------------------------------------------------


def step_errors() -> dict:
    """Relative error of forward, central and complex-step differences of e^x / (x^2 + 1) at 10, first to third order."""
    import numpy as np

    def f(x):
        return torch.exp(x) / (x * x + 1)

    x, one = torch.tensor([10.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    steps = [10.0**-k for k in np.arange(1, 17, 0.5)]
    found: dict = {"h": steps}
    for order in (1, 2, 3):
        exact = derivative(f, x, *[one] * order).item()
        forward = [sum((-1) ** (order - k) * math.comb(order, k) * f(x + k * h).item() for k in range(order + 1)) / h**order for h in steps]
        central = [sum((-1) ** k * math.comb(order, k) * f(x + (order / 2 - k) * h).item() for k in range(order + 1)) / h**order for h in steps]
        complex_step = [derivative(f, x, *[one] * order, h=h).item() for h in steps]
        for name, values in (("forward", forward), ("central", central), ("complex step", complex_step)):
            found[f"{name} {order}"] = [abs(v / exact - 1) for v in values]
    return found


# -- report ------------------------------------------------------------------------------------------------------------------


def run(output: Path, quick: bool = False) -> dict:
    """Measure, and write derivatives.json, derivatives.md and derivatives.png into the directory `output`."""
    cores = os.cpu_count() or 1
    rows = []
    for threads in (1,) if quick or cores == 1 else (1, cores):
        rows += apart(measure, threads, quick)
    report = {"quick": quick, "machine": {"processor": platform.processor() or platform.machine(), "cores": cores, "torch": torch.__version__},
              "cases": rows, "step_errors": step_errors()}
    write_atomically(output / "derivatives.json", json.dumps(report, indent=1))
    write_atomically(output / "derivatives.md", _table(report))
    write_atomically(output / "derivatives.png", _figure(report))
    return report


def _table(report: dict) -> str:
    machine = report["machine"]
    lines = [f"# Derivatives: {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}", "",
             "Rough figures: a quick run.\n" if report["quick"] else "",
             "| case | dtype | batch | threads | engine | ms | iqr | first call [s] | peak [MiB] | best peer / this | times floor |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["cases"]:
        start = f"| {row['case']} | {row['dtype']} | {row['batch']} | {row['threads']} |"
        for name, e in row["engines"].items():
            if "error" in e:
                lines.append(f"{start} {name} | {e['error'].replace('|', '/').splitlines()[0]} | | | | | |")
                continue
            memory = "" if e["peak_mib"] is None else f"{e['peak_mib']:.0f}"
            ratio = "" if e["best_peer_over_this"] is None else f"{e['best_peer_over_this']:.2f}"
            times = f"{e['ms']:.3g} | {e['interquartile_ms']:.2g} | {e['first_s']:.2g}"
            lines.append(f"{start} {name} | {times} | {memory} | {ratio} | {e['times_floor']:.1f} |")
    return "\n".join(lines) + "\n"


def _figure(report: dict) -> bytes:
    """Left: Fig. 1. Right: Fig. 3, gradients and Hessians of the paper's networks by engine."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    errors = report["step_errors"]
    for order in (1, 2, 3):
        for name, style in (("forward", ":"), ("central", "--"), ("complex step", "-")):
            left.loglog(errors["h"], [max(e, 1e-17) for e in errors[f"{name} {order}"]], style, color=f"C{order - 1}", label=f"{name}, order {order}")
    left.set(xlabel="h", ylabel="relative error", title="e^x / (x^2 + 1) at 10", ylim=(1e-17, 10))
    left.legend(fontsize=7)
    plain = [r for r in report["cases"] if (r["dtype"], r["batch"], r["threads"]) == ("float32", 1, 1)]
    rows = [r for r in plain if "Jacobian" in r["case"] or "Hessian" in r["case"]]
    names = list(dict.fromkeys(name for row in rows for name in row["engines"]))
    for k, name in enumerate(names):
        places = [i + 0.8 * k / len(names) for i in range(len(rows))]
        right.bar(places, [row["engines"].get(name, {}).get("ms", 0) for row in rows], 0.8 / len(names), label=name)
    right.set(yscale="log", ylabel="ms, one thread, float32, batch 1", title="the paper's networks")
    right.set_xticks([i + 0.4 for i in range(len(rows))], [row["case"] for row in rows], rotation=20, fontsize=7)
    right.legend(fontsize=7)
    return png(figure, 130)
