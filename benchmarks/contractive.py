"""The contractive autoencoder (HoD-Net, eqs. 10 and 11, Fig. 6, Table 1): what its terms cost, and what they are worth.

    cost       terms with gradient on the paper's net, 784 inputs and four layers of 400 with ELU, against torch.func, autograd and JAX
    training   with --data: vanilla, Jacobian and HoD autoencoders on MNIST, MNIST-rot and CIFAR-bw, see contractive_training.py

`--quick` and the default fit two cores (784 -> 128 -> 64, closed forms, subsets); `--full` trains the paper's net on all images, for GPUs.
An interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from hodsim.benchmarks.chart import png
from hodsim.benchmarks.contractive_peers import jax_ways, torch_ways
from hodsim.benchmarks.contractive_training import DATA, METHODS, RADII, Budget, column, compare, load, mean
from hodsim.benchmarks.finetune_problems import seeded
from hodsim.benchmarks.journal import journal
from hodsim.contractive import contractive_terms
from hodsim.storage import write_atomically

WIDTHS = (784, 400, 400, 400, 400)
MEMORY_MIB = 16.0
CASES = (("Jacobian", 0.0, 32), ("Jacobian", 0.0, 100), ("both", 1.0, 4))  # beta and batch
REPEATS = 8

QUICK = Budget(400, (32, 16), 2, 2, (1e-3, 1e-2), (1e-1,))
DEFAULT = Budget(3000, (128, 64), 10, 5)
FULL = Budget(40_000, (400, 400, 400, 400), 50, 5, (1e-5, 1e-4, 1e-3, 1e-2), (1e-2, 1e-1, 1.0, 10.0), memory_mib=2048.0)
COLOURS = dict(zip(METHODS, ("#30353c", "#0072b2", "#d55e00"), strict=True))


def run(output: Path, quick: bool, data: Path | None = None, full: bool = False, progress: Callable[..., None] | None = None) -> None:
    """Measure and write contractive.json, contractive.md and contractive.png."""
    budget = FULL if full else QUICK if quick else DEFAULT
    cases = [(term, beta, 1) for term, beta, _ in (CASES[0], CASES[-1])] if quick else CASES
    loaded = {name: images for name in DATA if data and (images := load(data, name, budget.samples))}
    total = len(cases) + len(loaded) * sum(len(trainings) for _, trainings in budget.trainings())
    done = 0

    def advance(note: str) -> None:
        nonlocal done
        if progress:
            progress(done, total, note)
        done += 1

    threads = torch.get_num_threads()
    folder = output / "contractive" / ("full" if full else "quick" if quick else "default")
    with journal(folder) as finished:
        report: dict[str, Any] = {"quick": quick, "threads": threads, "memory_mib": MEMORY_MIB, "budget": vars(budget), "cost": [], "training": []}
        for term, beta, batch in cases:
            advance(f"cost, {term}, batch {batch}")
            of = {"cost": term, "batch": batch, "threads": threads, "torch": torch.__version__}
            report["cost"] += finished.row(of, lambda a=(term, beta, batch): costs(*a, repeats=1 if quick else REPEATS))
        report["training"] = [compare(name, images, budget, finished, advance) for name, images in loaded.items()]
        advance("done")
    write_atomically(output / "contractive.json", json.dumps(report, indent=1))
    write_atomically(output / "contractive.md", table(report))
    write_atomically(output / "contractive.png", figure(report))


def costs(term: str, beta: float, batch: int, *, repeats: int, widths: tuple[int, ...] = WIDTHS) -> list[dict[str, Any]]:
    """Milliseconds a sample of a value with its gradient by each way, least of the repeats, the ways taking turns."""
    layers = [layer for n, m in zip(widths[:-1], widths[1:], strict=True) for layer in (nn.Linear(n, m), nn.ELU())]
    net = seeded(lambda: nn.Sequential(*layers[:-1]))(0)
    x = torch.rand(batch, widths[0], generator=torch.Generator().manual_seed(0))

    def ours() -> float:
        net.zero_grad()
        penalty = contractive_terms(net, x, hessian_weight=beta, memory_mib=MEMORY_MIB).penalty
        penalty.backward()
        return float(penalty.detach())

    ways: dict[str, Callable[[], float]] = {"hodsim": ours, **torch_ways(net, x, beta), **jax_ways(net, x, beta)}
    expected, times, failed = ours(), {name: [] for name in ways}, {}
    for name, way in ways.items():
        try:  # compiles and warms up
            found = way()
        except (RuntimeError, ImportError, NotImplementedError) as error:
            failed[name] = str(error).splitlines()[0]
            continue
        if not np.isclose(found, expected, rtol=1e-3):
            failed[name] = f"found {found}, not {expected}"
    for _ in range(repeats):
        for name in ways.keys() - failed.keys():
            start = time.perf_counter()
            ways[name]()
            times[name].append(1e3 * (time.perf_counter() - start) / batch)
    return [{"term": term, "batch": batch, "way": name, "ms": min(times[name], default=None), "failed": failed.get(name)} for name in ways]


# -- the report --------------------------------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["# Contractive autoencoder", "", f"{report['threads']} thread(s)." + " Rough: --quick." * report["quick"], ""]
    lines += [f"## A value with its gradient, 784 -> 400 x 4, ELU, float32, at most {report['memory_mib']:.0f} MiB at work in hodsim", ""]
    lines += ["| term | batch | way | ms a sample | times hodsim's |", "|---|---|---|---|---|"]
    for row in report["cost"]:
        own = next(r["ms"] for r in report["cost"] if (r["term"], r["batch"], r["way"]) == (row["term"], row["batch"], "hodsim"))
        cells = f"{row['ms']:.1f} | {row['ms'] / own:.2f}" if row["ms"] else f"{row['failed']} | -"
        lines.append(f"| {row['term']} | {row['batch']} | {row['way']} | {cells} |")
    for training in report["training"]:
        lines += ["", f"## {training['data']}: {training['samples']} images, weights by mean validation error", ""]
        lines += [*_rows([training["chosen"][m] for m in METHODS]), "", *_order(training["chosen"])]
        lines += ["", "All weights:", "", *_rows(training["points"])]
        lines += ["", "HoD against Jacobian at equal reconstruction error, seed by seed, mean and standard error:", ""]
        lines += ["| alpha | beta | contractive ratio, times | test error, less by % |", "|---|---|---|---|"]
        for row in training["matched"]:
            cells = [_error(row["ratio"], 3), _error([-e for e in row["test_error"]], 2)] if row["ratio"] else ["out of range"] * 2
            lines.append(f"| {row['jacobian_weight']:g} | {row['hessian_weight']:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rows(points: list[dict[str, Any]]) -> list[str]:
    lines = ["| method | alpha | beta | reconstruction | ratio at radius 1 | validation error % | test error % |", "|---|---|---|---|---|---|---|"]
    for p in points:
        cells = [f"{mean(p, what):.{digits}f} ± {np.std(column(p, what), ddof=1):.{digits}f}"
                 for what, digits in (("reconstruction", 4), ("ratio", 3), ("validation_error", 2), ("test_error", 2))]  # fmt: skip
        lines.append(f"| {p['method']} | {p['jacobian_weight']:g} | {p['hessian_weight']:g} | {' | '.join(cells)} |")
    return lines


def _order(chosen: dict[str, Any]) -> list[str]:
    """The paper's order, HoD < Jacobian < vanilla, by the differences of the same seeds."""
    lines = ["The paper's order wants these differences, seed by seed with their standard error, below zero:", ""]
    for one, other in (("Jacobian", "vanilla"), ("HoD", "Jacobian")):
        pairs = {"test error %": "test_error", "ratio at radius 1": "ratio"}
        found = [f"{name} {_error(list(column(chosen[one], what) - column(chosen[other], what)), 3)}" for name, what in pairs.items()]
        lines.append(f"- {one} - {other}: {', '.join(found)}")
    return lines


def _error(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.{digits}f}"


def figure(report: dict[str, Any]) -> bytes:
    """PNG: by data set, contractive ratio against radius (Fig. 6); ratio and test error against reconstruction error over all weights."""
    trainings = report["training"]
    chart = Figure(figsize=(11, 3.2 * max(1, len(trainings))), layout="constrained")
    for row, training in zip(chart.subplots(max(1, len(trainings)), 3, squeeze=False), trainings, strict=False):
        for method, point in training["chosen"].items():
            ratios = np.array([seed["ratios"] for seed in point["seeds"]])
            row[0].plot(RADII, ratios.mean(0), "o-", color=COLOURS[method], label=method)
            row[0].fill_between(RADII, ratios.min(0), ratios.max(0), color=COLOURS[method], alpha=0.2, linewidth=0)
        for axes, what in ((row[1], "ratio"), (row[2], "test_error")):
            curve = sorted((mean(p, "reconstruction"), mean(p, what)) for p in training["points"] if p["method"] != "HoD")
            axes.plot(*zip(*curve, strict=True), "-", color=COLOURS["Jacobian"], linewidth=1)
            for p in training["points"]:
                spread = {name: np.std(column(p, key), ddof=1) for name, key in (("xerr", "reconstruction"), ("yerr", what))}
                axes.errorbar(mean(p, "reconstruction"), mean(p, what), **spread, fmt="o", markersize=4, color=COLOURS[p["method"]], linewidth=1)
        row[0].set(xscale="log", xlabel="radius", ylabel="contractive ratio", title=f"{training['data']}: weights by validation")
        row[1].set(xlabel="reconstruction error", ylabel="contractive ratio at radius 1", title="all weights")
        row[2].set(xlabel="reconstruction error", ylabel="test error %", title="all weights")
        for axes in row[1:]:
            axes.locator_params(axis="x", nbins=5)
        row[0].legend(frameon=False)
    return png(chart, 110)
