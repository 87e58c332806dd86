"""High-order fine-tuning (HoD-Net, Application I, Fig. 4): Adam to a plateau, then eight ways on from there in equal seconds.

    cost      one Hessian-vector product by CSFD-BP on four nets, against double backward, torch.func and, where installed, curvlinops
    training  from Adam's plateau: Adam (cosine), AdaGrad, L-BFGS, SOAP and Shampoo (pytorch_optimizer, where installed), Hessian-free
              (Gauss-Newton conjugate gradients), NewtonKrylov (Gauss-Newton, Kronecker factors) and Algorithm 1 (exact Hessian)

on the beam's autoencoder, and with --data on nets of images. Each method's rate is the best of a grid by validation, over the whole time
from the first of three seeds. An epoch is a gradient's worth of passes over the data: a Hessian product counts as one, an evaluation of
the loss as a third.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from hodsim.benchmarks.chart import png
from hodsim.benchmarks.finetune_problems import NETS, Problem, beam_autoencoder, image_problems, seeded
from hodsim.benchmarks.memory import peak, reset_peak
from hodsim.multicomplex import hessian_vector_product
from hodsim.optim import GaussNewton, Hessian, Identity, KroneckerFactored, NewtonKrylov
from hodsim.storage import write_atomically

POINTS = 24  # of a curve
SEEDS = (0, 1, 2)


def run(output: Path, quick: bool, data: Path | None = None) -> None:
    """Measure and write finetune.json, finetune.md and finetune.png."""
    output.mkdir(parents=True, exist_ok=True)
    problems = [beam_autoencoder(output / "finetune", quick), *(image_problems(data, quick) if data else [])]
    seconds = 2.0 if quick else 10.0
    report = {
        "quick": quick,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "absent": [name for name, package in peers().items() if package is None],
        "cost": product_costs(quick),
        "training": [compare(problem, seconds, SEEDS[:1] if quick else SEEDS) for problem in problems],
    }
    write_atomically(output / "finetune.json", json.dumps(report, indent=1))
    write_atomically(output / "finetune.md", table(report))
    write_atomically(output / "finetune.png", figure(report))


def peers() -> dict[str, Any]:
    """The packages measured against, None for one that is not installed."""
    found: dict[str, Any] = {"pytorch_optimizer": None, "curvlinops": None}
    try:
        import pytorch_optimizer

        found["pytorch_optimizer"] = pytorch_optimizer
    except ImportError:
        pass
    try:
        import curvlinops

        found["curvlinops"] = curvlinops
    except ImportError:
        pass
    return found


# -- one Hessian-vector product ----------------------------------------------------------------------------------------------


def product_costs(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds and peak MiB of one product by each method on each net, the methods taking turns."""
    rows = []
    for name, (build, shape) in NETS.items():
        x = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))
        net = seeded(lambda build=build, x=x: _sized(build(), x))(0)
        target = net(x).detach().roll(1, 0)
        loss = F.mse_loss if name == "autoencoder" else lambda out, y: F.cross_entropy(out, y.softmax(1))
        ways = product_methods(net, x, target, loss)
        times: dict[str, list[float]] = {way: [] for way in ways}
        memory = {}
        for way, product in ways.items():
            product()
            reset_peak()
            before = peak()
            product()
            after = peak()
            memory[way] = after - before if after is not None and before is not None else None
        for _ in range(5 if quick else 25):
            for way, product in ways.items():
                start = time.perf_counter()
                product()
                times[way].append(1e3 * (time.perf_counter() - start))
        rows += [{"net": name, "method": way, "ms": float(np.median(t)), "MiB": memory[way]} for way, t in times.items()]
    return rows


def _sized(net: nn.Module, x: torch.Tensor) -> nn.Module:
    net(x[:2])
    return net


def product_methods(net: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Callable) -> dict[str, Callable[[], Any]]:
    parameters = dict(net.named_parameters())
    v = {name: torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) for name, p in parameters.items()}

    def double_backward() -> Any:
        gradient = torch.autograd.grad(loss(net(x), y), list(parameters.values()), create_graph=True)
        return torch.autograd.grad(gradient, list(parameters.values()), list(v.values()))

    def functional() -> Any:
        detached = {name: p.detach() for name, p in parameters.items()}
        return torch.func.jvp(torch.func.grad(lambda p: loss(torch.func.functional_call(net, p, (x,)), y)), (detached,), (v,))[1]

    ways: dict[str, Callable[[], Any]] = {
        "CSFD-BP": lambda: hessian_vector_product(lambda module: loss(module(x), y), net, v),
        "double backward": double_backward,
    }
    ways["torch.func"] = functional
    if (curvlinops := peers()["curvlinops"]) is not None:
        operator = curvlinops.HessianLinearOperator(net, _loss_module(loss), list(parameters.values()), [(x, y)], check_deterministic=False)
        ways["curvlinops"] = lambda: operator @ list(v.values())
    return {way: product for way, product in ways.items() if _works(product)}


def _works(product: Callable[[], Any]) -> bool:
    """Peers by forward mode over a gradient lack it for some functions."""
    try:
        product()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _loss_module(loss: Callable) -> nn.Module:
    """curvlinops takes a loss as a module of torch; both losses here are means."""
    return nn.MSELoss() if loss is F.mse_loss else _Soft()


class _Soft(nn.CrossEntropyLoss):
    """Cross entropy against the softmax of the target."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(input, target.softmax(1))


# -- training in equal seconds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """make: the optimiser of a net at a rate; it makes one step on a closure in `step` and returns its passes over that batch."""

    name: str
    rates: tuple[float, ...]
    make: Callable[[nn.Module, float], torch.optim.Optimizer]
    cosine: bool = False
    full: bool = False  # on large batches


def methods() -> list[Method]:
    found = [
        Method("Adam", (1e-3, 3e-3, 1e-2, 3e-2), _adam, cosine=True),
        Method("AdaGrad", (1e-3, 3e-3, 1e-2), lambda net, rate: torch.optim.Adagrad(net.parameters(), rate)),
        Method("L-BFGS", (0.3, 1.0), lambda net, rate: torch.optim.LBFGS(
            net.parameters(), rate, max_iter=20, history_size=50, line_search_fn="strong_wolfe"), full=True),
    ]  # fmt: skip
    if (library := peers()["pytorch_optimizer"]) is not None:
        found += [
            Method("SOAP", (3e-3, 1e-2, 3e-2), lambda net, rate: library.SOAP(net.parameters(), lr=rate, weight_decay=0.0), cosine=True),
            Method("Shampoo", (1e-3, 1e-2, 1e-1), lambda net, rate: library.Shampoo(
                net.parameters(), lr=rate, preconditioning_compute_steps=10), cosine=True),
        ]  # fmt: skip
    dampings = (1e-3, 1e-4, 1e-5)
    return [
        *found,
        Method("Hessian-free", dampings, lambda net, rate: _second_order(net, GaussNewton(), Identity(), rate), full=True),
        Method("Gauss-Newton + KFAC", dampings, lambda net, rate: _second_order(net, GaussNewton(), KroneckerFactored(every=1), rate), full=True),
        Method("Algorithm 1", dampings, lambda net, rate: _second_order(net, Hessian(), KroneckerFactored(every=1), rate), full=True),
    ]  # fmt: skip


def _adam(net: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99))


def _second_order(net: nn.Module, curvature: Any, preconditioner: Any, damping: float) -> NewtonKrylov:
    return NewtonKrylov(net, curvature=curvature, preconditioner=preconditioner, damping=damping, adaptation=0.3, memory=0.0)


def compare(problem: Problem, seconds: float, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Adam to the plateau, the best rate of every method by validation from there, then all seeds."""
    starts = {seed: plateau(problem, seed, seconds / 3) for seed in seeds}
    rows = []
    for method in methods():
        trials = {rate: race(problem, method, rate, seconds, starts[seeds[0]], seeds[0]) for rate in method.rates}
        rate = min(trials, key=lambda rate: max(trials[rate][-1]["validation"], least(trials[rate])))
        curves = [trials[rate], *(race(problem, method, rate, seconds, starts[seed], seed) for seed in seeds[1:])]
        rows.append({"method": method.name, "rate": rate, "curves": curves})
    return {"problem": problem.name, "samples": problem.samples, "methods": rows}


def least(curve: list[dict[str, float]]) -> float:
    return min(point["validation"] for point in curve)


def plateau(problem: Problem, seed: int, seconds: float) -> nn.Module:
    """A net that Adam has trained at a constant rate."""
    net = problem.make(seed)
    adam = Method("Adam", (), _adam)
    race(problem, adam, 3e-3, seconds, net, seed, copy=False)
    return net


def race(problem: Problem, method: Method, rate: float, seconds: float, start: nn.Module, seed: int, copy: bool = True) -> list[dict[str, float]]:
    """The curve of a training of some seconds; the clock stands while losses are evaluated for it."""
    net = deepcopy(start) if copy else start
    optimizer = method.make(net, rate)
    spent, epochs, curve = 0.0, 0.0, []
    batches = shuffled(problem.samples, problem.large if method.full else problem.batch, seed)
    while True:
        if spent >= seconds * len(curve) / POINTS:
            losses = {split: problem.loss(net, split) for split in problem.data}
            curve.append({"seconds": spent, "epochs": epochs, **losses})
            if spent >= seconds or not math.isfinite(losses["train"]):
                break
        begun = time.perf_counter()
        if method.cosine:
            for group in optimizer.param_groups:
                group["lr"] = rate * warm_cosine(min(1.0, spent / seconds))
        indices = next(batches)
        try:
            epochs += step(optimizer, problem.closure(net, indices)) * len(indices) / problem.samples
        except (FloatingPointError, torch.linalg.LinAlgError):  # it has diverged
            return [*curve, {"seconds": spent, "epochs": epochs, **dict.fromkeys(problem.data, float("inf"))}]
        spent += time.perf_counter() - begun
    return [{key: value if math.isfinite(value) else float("inf") for key, value in point.items()} for point in curve]


def warm_cosine(done: float) -> float:
    """Up over the first twentieth, then down half a cosine, as `hodsim train` has it."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def step(optimizer: torch.optim.Optimizer, closure: Callable[[], tuple[Any, Callable]]) -> float:
    """One step; returns the gradient's worth of passes that it took."""
    if isinstance(optimizer, NewtonKrylov):
        optimizer.step(closure)
        assert optimizer.last is not None
        return 1 + optimizer.last.products + (optimizer.last.evaluations - 1) / 3
    calls = 0

    def evaluate() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        output, criterion = closure()
        loss = criterion(output)
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(evaluate)  # type: ignore[arg-type]
    else:
        evaluate()
        optimizer.step()
    return calls


def shuffled(samples: int, batch: int, seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(samples, generator=generator).split(batch)


# -- the report --------------------------------------------------------------------------------------------------------------


def outcome(curves: list[list[dict[str, float]]]) -> dict[str, np.ndarray]:
    """By seed: the last training loss, the test loss where validation is least, the epochs."""
    best = [min(curve, key=lambda point: point["validation"]) for curve in curves]
    return {"train": np.array([curve[-1]["train"] for curve in curves]), "test": np.array([point["test"] for point in best]),
            "epochs": np.array([curve[-1]["epochs"] for curve in curves])}  # fmt: skip


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["# High-order fine-tuning", "", f"{report['threads']} thread(s)." + " Rough: --quick." * report["quick"], ""]
    if report["absent"]:
        lines += [f"Not installed: {', '.join(report['absent'])}.", ""]
    lines += ["## One Hessian-vector product, batches of 64", ""]
    lines += ["| net | method | ms | of the best other | MiB above the net |", "|---|---|---|---|---|"]
    for row in report["cost"]:
        best = min(r["ms"] for r in report["cost"] if r["net"] == row["net"] and r["method"] != "CSFD-BP")
        memory = "-" if row["MiB"] is None else f"{row['MiB']:.1f}"
        lines.append(f"| {row['net']} | {row['method']} | {row['ms']:.2f} | {row['ms'] / best:.2f} | {memory} |")
    for training in report["training"]:
        lines += ["", f"## {training['problem']}: {training['samples']} samples, {report['seconds']:.0f} s from Adam's plateau", ""]
        lines += ["Median (least to largest) over seeds; the test loss is that where validation is least.", ""]
        lines += ["| method | rate or damping | train | test | epochs |", "|---|---|---|---|---|"]
        for row in training["methods"]:
            reached = outcome(row["curves"])
            cells = [f"{np.median(v):.2e} ({v.min():.2e} to {v.max():.2e})" for v in (reached["train"], reached["test"])]
            lines.append(f"| {row['method']} | {row['rate']:g} | {cells[0]} | {cells[1]} | {np.median(reached['epochs']):.0f} |")
    return "\n".join(lines) + "\n"


def resampled(curves: list[list[dict[str, float]]], along: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The median abscissa and the losses (curves, points) of all curves at common seconds."""
    seconds = np.linspace(0, min(curve[-1]["seconds"] for curve in curves), 3 * POINTS)

    def at(key: str) -> np.ndarray:
        return np.array([np.interp(seconds, [p["seconds"] for p in curve], [p[key] for p in curve]) for curve in curves])

    return np.median(at(along), axis=0), at(split)


def figure(report: dict[str, Any]) -> bytes:
    """PNG: by problem, training and test loss against seconds and against epochs; medians with their spread."""
    trainings = report["training"]
    chart = Figure(figsize=(15, 3.4 * len(trainings)), layout="constrained")
    axes = chart.subplots(len(trainings), 4, squeeze=False)
    for row, training in zip(axes, trainings, strict=True):
        for axis, (split, along) in zip(row, ((s, a) for a in ("seconds", "epochs") for s in ("train", "test")), strict=True):
            for index, method in enumerate(training["methods"]):
                x, y = resampled(method["curves"], along, split)
                axis.plot(x, np.median(y, axis=0), color=f"C{index}", label=method["method"])
                axis.fill_between(x, y.min(0), y.max(0), color=f"C{index}", alpha=0.15, linewidth=0)
            axis.set(yscale="log", xlabel=along, ylabel=f"{split} loss", title=training["problem"])
            if along == "epochs":
                axis.set_xscale("symlog")
                axis.set_xlim(left=0)
        row[0].legend(fontsize=7)
    return png(chart, 110)
