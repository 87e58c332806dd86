"""Physics-informed networks: accuracy in five minutes on one core (HoD-Net, eq. 13, Fig. 7), and the cost of their derivatives.

Each seed trains the paper's 2 -> 100 x 4 -> 8 tanh network in float64 in a process of one thread. Relative L2 error over all eight fields
on 101^2 points. The Laplacian with its gradient by the parameters is timed at 1000 points against nested torch.autograd.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from hodsim.multicomplex import derivatives, laplacian
from hodsim.pinn import network
from hodsim.pinn.problems import PROBLEMS, paper_poisson
from hodsim.report.machine import environment
from hodsim.storage import write_atomically
from hodsim.trainers.pinn import train_pinn

SEEDS, SECONDS, QUICK_SECONDS, OTHER_SECONDS = (0, 1, 2), 300.0, 20.0, 20.0
POINTS, REPEATS = 1000, 7
COARSER = (10, 15)  # Gauss points along a side that the paper's problem is begun on
SHOWN = (1, 3, 5, 8)  # wave numbers k in the figure
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


def train_apart(*arguments: Any) -> dict[str, Any]:
    """`train` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, *arguments).result()


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


def laplacian_times() -> dict[str, float]:
    """Seconds of the squared Laplacian with its gradient by the parameters, median of repeats taken in turn; all engines must agree."""
    net = network(paper_poisson())
    x = torch.rand(POINTS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    engines: dict[str, Callable] = {"hodsim": laplacian, "torch.autograd": nested_laplacian, "torch.func": func_laplacian}
    times: dict[str, list[float]] = {name: [] for name in engines}
    with threadpool_limits(1):
        gradients = {}
        for repeat in range(REPEATS + 1):  # the first warms up
            for name, engine in engines.items():
                start = time.perf_counter()
                gradients[name] = torch.autograd.grad(engine(net, x.clone()).square().mean(), list(net.parameters()), allow_unused=True)
                if repeat:
                    times[name].append(time.perf_counter() - start)
    for name in engines:  # the last bias does not touch a Laplacian
        for found, expected in zip(gradients[name][:-1], gradients["hodsim"][:-1], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    return {name: statistics.median(values) for name, values in times.items()}


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


def run(output: Path, quick: bool = False) -> dict:
    """Measure, and write pinn.json, pinn.md and pinn.png into the directory `output`. quick: one seed, seconds in place of minutes."""
    seconds = QUICK_SECONDS if quick else SECONDS
    trainings = [train_apart("paper", seed, seconds) for seed in (SEEDS[:1] if quick else SEEDS)]
    fields = trainings[0]["fields"]
    others = [] if quick else [train_apart("paper", 0, seconds, method) for method in ("newton-krylov", "l-bfgs", "adam")]
    others += [] if quick else [train_apart(name, 0, OTHER_SECONDS) for name in PROBLEMS if name != "paper"]
    for training in (*trainings, *others):
        training.pop("fields", None)
    report = {"quick": quick, "machine": environment(), "paper": trainings, "others": others,
              "laplacian": laplacian_times(), "scaling": scaling()}  # fmt: skip
    write_atomically(output / "pinn.json", json.dumps(report, indent=1))
    write_atomically(output / "pinn.md", _table(report))
    write_atomically(output / "pinn.png", _figure(fields))
    return report


def _table(report: dict) -> str:
    machine = report["machine"]
    lines = [f"# Physics-informed networks: {machine['processor']}, one thread, commit {machine['commit']}", "",
             "Rough figures: a quick run.\n" if report["quick"] else "",
             "| problem | method | seed | steps | seconds | relative L2 error |", "|---|---|---|---|---|---|"]
    for t in (*report["paper"], *report["others"]):
        lines.append(f"| {t['problem']} | {t['method']} | {t['seed']} | {t['steps']} | {t['seconds']:.0f} | {t['error']:.2e} |")
    own = report["laplacian"]["hodsim"]
    lines += ["", f"Laplacian and its gradient by the parameters, {POINTS} points, float64:", "", "| engine | ms | over hodsim |", "|---|---|---|"]
    lines += [f"| {name} | {1e3 * value:.1f} | {value / own:.2f} |" for name, value in report["laplacian"].items()]
    for kind, key in (("dimension", "d"), ("order", "order")):
        lines += ["", f"| {kind} | rows | ms |", "|---|---|---|"]
        lines += [f"| {row[key]} | {row['rows']} | {1e3 * row['seconds']:.2f} |" for row in report["scaling"][kind]]
    return "\n".join(lines) + "\n"


def _figure(fields: Tensor) -> bytes:
    """Like Fig. 7: truth, prediction and error of some of the eight fields."""
    from matplotlib.figure import Figure

    problem = paper_poisson()
    side = round(len(fields) ** 0.5)
    exact = problem.exact(problem.test_points)
    figure = Figure(figsize=(9, 2.6 * len(SHOWN)), layout="constrained")
    for row, k in zip(figure.subplots(len(SHOWN), 3), SHOWN, strict=True):
        truth, prediction = exact[:, k - 1].view(side, side).T, fields[:, k - 1].view(side, side).T
        low, high = float(truth.min()), float(truth.max())
        for axes, title, value in zip(row, ("truth", "prediction", "error"), (truth, prediction, (prediction - truth).abs()), strict=True):
            limits = {} if title == "error" else {"vmin": low, "vmax": high}
            image = axes.imshow(value.numpy(), origin="lower", extent=(0, 1, 0, 1), cmap="viridis", **limits)
            axes.set_title(f"k = {k}, {title}", fontsize=9)
            figure.colorbar(image, ax=axes, shrink=0.8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    return buffer.getvalue()
