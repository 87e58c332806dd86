"""Physics-informed networks: accuracy in five minutes on one core (HoD-Net, eq. 13, Fig. 7), and the cost of their derivatives.

Each seed trains the paper's 2 -> 100 x 4 -> 8 tanh network in float64 in a process of one thread. Relative L2 error over all eight fields
on 101^2 points, which no training sees. DeepXDE has the same network, problem and time where it is installed. The Laplacian with its
gradient by the parameters is timed at 1000 points against nested torch.autograd, torch.func and, where they are installed, JAX and folx.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from hodsim.benchmarks.apart import apart
from hodsim.benchmarks.chart import png
from hodsim.benchmarks.pinn_peers import jax_engines, train_deepxde
from hodsim.multicomplex import derivatives, laplacian
from hodsim.pinn import network
from hodsim.pinn.problems import PROBLEMS, paper_poisson
from hodsim.report.machine import environment
from hodsim.storage import write_atomically
from hodsim.trainers.pinn import train_pinn

SEEDS, SECONDS, QUICK_SECONDS, OTHER_SECONDS = (0, 1, 2), 300.0, 20.0, 20.0
POINTS, REPEATS = 1000, 7
COARSER = (10, 15)  # Gauss points along a side that the paper's problem is begun on
DIMENSIONS, ORDERS = (2, 5, 10, 20, 50, 100), (1, 2, 3, 4, 5, 6)


def train(name: str, seed: int, seconds: float, method: str = "levenberg-marquardt") -> dict[str, Any]:
    """One training in this process, on one thread: its history, and for the paper's problem the fields on the test grid."""
    problem = PROBLEMS[name]()
    coarser = [paper_poisson(count) for count in COARSER] if name == "paper" else []
    model = network(problem, seed=seed)
    with threadpool_limits(1):
        history = train_pinn(model, problem, seconds=seconds, method=method, coarser=coarser)  # type: ignore[arg-type]
    found = {"problem": problem.name, "seed": seed, "method": method, "steps": len(history.loss), "seconds": history.spent,
             "loss": history.loss[-1], "error": history.error[-1][1], "curve": history.error}  # fmt: skip
    if name == "paper":
        with torch.no_grad():
            found["fields"] = model(problem.test_points)
    return found


def nested_laplacian(net: nn.Module, x: Tensor) -> Tensor:
    """The Laplacian as torch.autograd gives it at its best: one gradient for each output, one for each coordinate of these."""
    x = x.requires_grad_()
    u = net(x)
    columns = []
    for k in range(u.shape[1]):
        slope = torch.autograd.grad(u[:, k].sum(), x, create_graph=True)[0]
        seconds = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
        columns.append(torch.stack(seconds).sum(0))
    return torch.stack(columns, dim=1)


def func_laplacian(net: nn.Module, x: Tensor) -> Tensor:
    """The Laplacian by torch.func, forward over forward."""
    def along(x: Tensor, v: Tensor) -> Tensor:
        return torch.func.jvp(lambda y: torch.func.jvp(net, (y,), (v,))[1], (x,), (v,))[1]

    axes = torch.eye(x.shape[1], dtype=x.dtype)
    return torch.func.vmap(lambda v: along(x, v.expand_as(x)))(axes).sum(0)


def laplacian_times(compiled: bool = True) -> dict[str, float | str]:
    """Seconds of the gradient by the parameters of the mean squared Laplacian, one thread, median of repeats taken in turn.

    All engines must agree; one that fails has its error in place of the time. To be called in a process of its own."""
    net = network(paper_poisson(4))
    x = torch.rand(POINTS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def with_torch(laplacian_of: Callable[[nn.Module, Tensor], Tensor], wrap: Callable = lambda loss: loss) -> Callable[[], list]:
        loss = wrap(lambda: laplacian_of(net, x.clone()).square().mean())
        return lambda: list(torch.autograd.grad(loss(), list(net.parameters()), materialize_grads=True))

    engines = {"hodsim": with_torch(laplacian)}
    if compiled:
        engines["hodsim compiled"] = with_torch(laplacian, lambda loss: torch.compile(loss, fullgraph=True))
    engines |= {"torch.autograd": with_torch(nested_laplacian), "torch.func": with_torch(func_laplacian), **jax_engines(net, x)}
    found: dict[str, float | str] = {}
    times: dict[str, list[float]] = {}
    with threadpool_limits(1):
        expected = engines["hodsim"]()
        for name, engine in engines.items():  # a first call, which compiles
            try:
                gradient = engine()
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                continue
            times[name] = []
            for one, other in zip(gradient, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))
        for _ in range(REPEATS):
            for name, taken in times.items():
                start = time.perf_counter()
                engines[name]()
                taken.append(time.perf_counter() - start)
    return found | {name: statistics.median(taken) for name, taken in times.items()}


def scaling() -> dict[str, list[dict[str, float]]]:
    """Seconds and rows of a pass: the Laplacian by dimension, and D^k u[v, .., v] by order k."""
    found: dict[str, list[dict[str, float]]] = {"dimension": [], "order": []}
    for n in DIMENSIONS:
        net = nn.Sequential(nn.Linear(n, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 1)).double()
        x = torch.rand(100, n, dtype=torch.float64)
        found["dimension"].append({"d": n, "rows": n + 2, "seconds": _median(lambda net=net, x=x: laplacian(net, x))})
    net, x = network(paper_poisson()), torch.rand(100, 2, dtype=torch.float64)
    v = torch.ones(2, dtype=torch.float64)
    for order in ORDERS:
        def once(order: int = order):
            return derivatives(net, x, *(v,) * order)
        found["order"].append({"order": order, "rows": once().layout.rows, "seconds": _median(once)})
    return found


def _median(f: Callable[[], Any]) -> float:
    times = []
    with threadpool_limits(1), torch.no_grad():
        for _ in range(REPEATS):
            start = time.perf_counter()
            f()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def run(output: Path, quick: bool = False, progress: Callable[[int, int, str], None] | None = None) -> dict:
    """Measure, and write pinn.json, pinn.md, pinn.png (Fig. 7) and pinn-scaling.png into the directory `output`.

    quick: one seed, seconds in place of minutes. progress: (seconds done, seconds in all, what is being trained)."""
    seconds = QUICK_SECONDS if quick else SECONDS
    jobs: list[tuple[str, float, Callable, tuple]] = [
        (f"seed {seed}", seconds, train, ("paper", seed, seconds)) for seed in (SEEDS[:1] if quick else SEEDS)
    ]
    if not quick:
        jobs += [(method, seconds, train, ("paper", 0, seconds, method)) for method in ("newton-krylov", "l-bfgs", "adam")]
        jobs += [("DeepXDE", seconds, train_deepxde, (seconds, 0))]
        jobs += [(name, OTHER_SECONDS, train, (name, 0, OTHER_SECONDS)) for name in PROBLEMS if name != "paper"]
    total, done, found = sum(length for _, length, *_ in jobs), 0.0, []
    for label, length, function, arguments in jobs:
        started = time.monotonic()

        def tell(label: str = label, length: float = length, done: float = done, started: float = started) -> None:
            if progress:
                progress(round(done + min(length, time.monotonic() - started)), round(total), label)

        found.append(apart(function, *arguments, waiting=tell))
        done += length
    trainings = [training for training in found if training]
    fields = [training.pop("fields", None) for training in trainings]
    report = {"quick": quick, "machine": environment(), "trainings": trainings, "absent": [] if all(found) else ["DeepXDE"],
              "laplacian": apart(laplacian_times, not quick), "scaling": scaling()}  # fmt: skip
    write_atomically(output / "pinn.json", json.dumps(report, indent=1))
    write_atomically(output / "pinn.md", _table(report))
    write_atomically(output / "pinn.png", _figure(fields[0]))
    write_atomically(output / "pinn-scaling.png", _scaling_figure(report))
    return report


def _table(report: dict) -> str:
    machine = report["machine"]
    lines = [f"# Physics-informed networks: {machine['processor']}, one thread, commit {machine['commit']}", "",
             "Rough figures: a quick run.\n" if report["quick"] else "",
             "| problem | method | seed | steps | seconds | relative L2 error |", "|---|---|---|---|---|---|"]
    for t in report["trainings"]:
        lines.append(f"| {t['problem']} | {t['method']} | {t['seed']} | {t['steps']} | {t['seconds']:.0f} | {t['error']:.2e} |")
    lines += [f"| {report['trainings'][0]['problem']} | {name}, not installed | | | | |" for name in report["absent"]]
    own = report["laplacian"]["hodsim"]
    lines += ["", f"Laplacian and its gradient by the parameters, {POINTS} points, float64:", "", "| engine | ms | over hodsim |", "|---|---|---|"]
    for name, value in report["laplacian"].items():
        lines.append(f"| {name} | {value} | |" if isinstance(value, str) else f"| {name} | {1e3 * value:.1f} | {value / own:.2f} |")
    for kind, key in (("dimension", "d"), ("order", "order")):
        lines += ["", f"| {kind} | rows | ms |", "|---|---|---|"]
        lines += [f"| {row[key]} | {row['rows']} | {1e3 * row['seconds']:.2f} |" for row in report["scaling"][kind]]
    return "\n".join(lines) + "\n"


def _figure(fields: Tensor) -> bytes:
    """Like Fig. 7: truth, prediction and error of each field."""
    from matplotlib.figure import Figure

    problem = paper_poisson()
    side = round(len(fields) ** 0.5)
    exact = problem.exact(problem.test_points)
    count = fields.shape[1]
    figure = Figure(figsize=(9, 2.6 * count), layout="constrained")
    for k, row in enumerate(figure.subplots(count, 3), start=1):
        truth, prediction = exact[:, k - 1].view(side, side).T, fields[:, k - 1].view(side, side).T
        low, high = float(truth.min()), float(truth.max())
        for axes, title, value in zip(row, ("truth", "prediction", "error"), (truth, prediction, (prediction - truth).abs()), strict=True):
            limits = {} if title == "error" else {"vmin": low, "vmax": high}
            image = axes.imshow(value.numpy(), origin="lower", extent=(0, 1, 0, 1), cmap="viridis", **limits)
            axes.set_title(f"k = {k}, {title}", fontsize=9)
            figure.colorbar(image, ax=axes, shrink=0.8)
    return png(figure, 120)


def _scaling_figure(report: dict) -> bytes:
    """Left: error against seconds by method. Right: milliseconds of a pass against its rows, by dimension and by order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    paper = report["trainings"][0]["problem"]
    for number, t in enumerate(t for t in report["trainings"] if t["problem"] == paper and t["curve"]):
        left.semilogy(*zip(*t["curve"], strict=True), f"C{number}", label=f"{t['method']}, seed {t['seed']}")
    left.set(xlabel="seconds, one core", ylabel="relative L2 error", title=paper)
    left.legend(fontsize=7)
    for kind, key, name, marker in (("dimension", "d", "Laplacian in d dimensions", "o"), ("order", "order", "order k along one direction", "s")):
        rows = report["scaling"][kind]
        right.loglog([row["rows"] for row in rows], [1e3 * row["seconds"] for row in rows], f"{marker}-", label=name)
        for row in rows:
            right.annotate(str(row[key]), (row["rows"], 1e3 * row["seconds"]), textcoords="offset points", xytext=(4, -9), fontsize=7)
    right.set(xlabel="rows of the pass", ylabel="ms, 100 points, one thread", title="cost of a term")
    right.legend(fontsize=7)
    return png(figure, 120)
