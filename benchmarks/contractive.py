"""The contractive autoencoder (HoD-Net, eqs. 10 and 11, Fig. 6, Table 1): what its terms cost, and what they are worth.

    cost       terms with gradient on the paper's net, 784 inputs and four layers of 400 with ELU, against torch.func, autograd and JAX
    training   with --data: vanilla, Jacobian and HoD autoencoders with tied weights on MNIST, MNIST-rot and CIFAR-bw over a grid of both
               weights; the encoder is then fine-tuned as the head of a classifier, and validation error chooses the weights

`--quick` and the default fit two cores (784 -> 128 -> 64, closed forms, subsets); `--full` trains the paper's net on all images, for GPUs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import rotate
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim.benchmarks.chart import png
from hodsim.benchmarks.contractive_peers import jax_ways, torch_ways
from hodsim.benchmarks.finetune_problems import load_images, seeded
from hodsim.contractive import contractive_ratio, contractive_terms
from hodsim.storage import write_atomically
from hodsim.trainers.contractive import ContractiveTraining, train_contractive

METHODS = ("vanilla", "Jacobian", "HoD")
RADII = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
MEMORY_MIB = 8.0


@dataclass(frozen=True)
class Budget:
    """Sizes of the training part."""

    samples: int
    widths: tuple[int, ...]
    epochs: int
    seeds: int
    alphas: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    betas: tuple[float, ...] = (1e-1, 1.0, 10.0)


QUICK = Budget(400, (32, 16), 2, 2, (1e-3,), (1e-2,))
DEFAULT = Budget(2000, (128, 64), 12, 5)
FULL = Budget(50_000, (400, 400, 400, 400), 50, 5, (1e-5, 1e-4, 1e-3, 1e-2), (1e-2, 1e-1, 1.0, 10.0))


def run(output: Path, quick: bool, data: Path | None = None, full: bool = False) -> None:
    """Measure and write contractive.json, contractive.md and contractive.png."""
    output.mkdir(parents=True, exist_ok=True)
    budget = FULL if full else QUICK if quick else DEFAULT
    report: dict[str, Any] = {
        "quick": quick, "threads": torch.get_num_threads(), "memory_mib": MEMORY_MIB, "budget": vars(budget),
        "cost": costs(batch=1 if quick else 4, repeats=1 if quick else 7), "training": [],
    }  # fmt: skip
    for name in ("mnist", "mnist-rot", "cifar-bw") if data else ():
        images = load(data, name, budget.samples)
        if images is not None:
            report["training"].append(compare(name, images, budget, output / "contractive"))
    write_atomically(output / "contractive.json", json.dumps(report, indent=1))
    write_atomically(output / "contractive.md", table(report))
    write_atomically(output / "contractive.png", figure(report))


def costs(batch: int, repeats: int, widths: tuple[int, ...] = (784, 400, 400, 400, 400)) -> list[dict[str, Any]]:
    """Milliseconds of a value with its gradient by each way, least of the repeats, the ways taking turns."""
    layers = [layer for n, m in zip(widths[:-1], widths[1:], strict=True) for layer in (nn.Linear(n, m), nn.ELU())]
    net = seeded(lambda: nn.Sequential(*layers[:-1]))(0)
    x = torch.rand(batch, widths[0], generator=torch.Generator().manual_seed(0))
    rows = []
    for term, beta in (("Jacobian", 0.0), ("both", 1.0)):

        def ours(beta: float = beta) -> float:
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
                times[name].append(1e3 * (time.perf_counter() - start))
        rows += [{"term": term, "batch": batch, "way": name, "ms": min(times[name], default=None), "failed": failed.get(name)} for name in ways]
    return rows


# -- training ----------------------------------------------------------------------------------------------------------------


def load(folder: Path, name: str, count: int) -> dict[str, tuple[Tensor, Tensor]] | None:
    """train (count), validation (count / 4) and test (count / 2 at most) images (n, pixels) in [0, 1] and labels; None if not there."""
    raw = load_images(folder, "cifar10" if name == "cifar-bw" else "mnist")
    if raw is None:
        return None
    count = min(count, len(raw["x_train"]) * 4 // 5)
    rng = np.random.default_rng(0)

    def prepared(split: str, where: slice) -> tuple[Tensor, Tensor]:
        x = raw[f"x_{split}"][where].astype(np.float32) / 255
        x = np.tensordot(x, [0.299, 0.587, 0.114], axes=(1, 0)) if name == "cifar-bw" else x[:, 0]
        if name == "mnist-rot":
            x = np.stack([rotate(image, angle, reshape=False, order=1) for image, angle in zip(x, rng.uniform(0, 360, len(x)), strict=True)])
        return torch.from_numpy(x.astype(np.float32)).flatten(1), torch.from_numpy(raw[f"y_{split}"][where].astype(np.int64))

    return {"train": prepared("train", slice(count)), "validation": prepared("train", slice(count, count + count // 4)),
            "test": prepared("test", slice(count // 2))}  # fmt: skip


def compare(name: str, images: dict[str, tuple[Tensor, Tensor]], budget: Budget, folder: Path) -> dict[str, Any]:
    """The frontier over both weights by one seed, then the weights that validation chooses by all seeds."""
    if torch.cuda.is_available():
        images = {split: (x.cuda(), y.cuda()) for split, (x, y) in images.items()}
    base = ContractiveTraining(widths=budget.widths, epochs=budget.epochs)
    grid = {
        "vanilla": [base],
        "Jacobian": [replace(base, jacobian_weight=a) for a in budget.alphas],
        "HoD": [replace(base, jacobian_weight=a, hessian_weight=b) for a in budget.alphas for b in budget.betas],
    }
    frontier = [{"method": m, **evaluate(name, images, t, folder)} for m, trainings in grid.items() for t in trainings]
    chosen = []
    for method in METHODS:
        best = min((row for row in frontier if row["method"] == method), key=lambda row: row["validation_error"])
        training = replace(base, jacobian_weight=best["jacobian_weight"], hessian_weight=best["hessian_weight"])
        rows = [best, *(evaluate(name, images, replace(training, seed=seed), folder) for seed in range(1, budget.seeds))]
        chosen.append({"method": method, "seeds": rows})
    return {"data": name, "samples": len(images["train"][0]), "frontier": frontier, "chosen": chosen}


def evaluate(name: str, images: dict[str, tuple[Tensor, Tensor]], training: ContractiveTraining, folder: Path) -> dict[str, Any]:
    """Train, then reconstruction error and contractive ratios on test images, and errors of the fine-tuned classifier [%]."""
    checkpoint = folder / f"{name}-{training.jacobian_weight:g}-{training.hessian_weight:g}-{training.seed}.safetensors"
    model, _ = train_contractive(images["train"][0], images["validation"][0], training, checkpoint=checkpoint)
    x = images["test"][0]
    radii = torch.tensor(RADII, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        reconstruction = float(F.mse_loss(model(x), x))
    ratios = contractive_ratio(model.encoder, x, radii, generator=torch.Generator().manual_seed(0))
    errors = classify(model.encoder, images, training)
    return {"jacobian_weight": training.jacobian_weight, "hessian_weight": training.hessian_weight, "seed": training.seed,
            "reconstruction": reconstruction, "ratios": ratios.tolist(), **errors}  # fmt: skip


def classify(encoder: nn.Module, images: dict[str, tuple[Tensor, Tensor]], training: ContractiveTraining) -> dict[str, float]:
    """The encoder with a linear layer behind it, all of it trained on labels; errors [%] where validation is least."""
    x, y = images["train"]
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        net = nn.Sequential(deepcopy(encoder), nn.ELU(), nn.Linear(training.widths[-1], 10)).to(x.device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(training.seed)
    best = {"validation_error": float("inf"), "test_error": float("inf")}
    for _ in range(training.epochs):
        for indices in torch.randperm(len(x), generator=generator).split(training.batch):
            optimizer.zero_grad()
            F.cross_entropy(net(x[indices]), y[indices]).backward()
            optimizer.step()
        with torch.no_grad():
            found = {f"{split}_error": 100 * float((net(images[split][0]).argmax(1) != images[split][1]).float().mean())
                     for split in ("validation", "test")}  # fmt: skip
        best = min(best, found, key=lambda errors: errors["validation_error"])
    return best


# -- the report --------------------------------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["# Contractive autoencoder", "", f"{report['threads']} thread(s)." + " Rough: --quick." * report["quick"], ""]
    lines += [f"## A value with its gradient, 784 -> 400 x 4, ELU, lanes in at most {report['memory_mib']:.0f} MiB", ""]
    lines += ["| term | way | ms | times hodsim's |", "|---|---|---|---|"]
    for row in report["cost"]:
        own = next(r["ms"] for r in report["cost"] if r["term"] == row["term"] and r["way"] == "hodsim")
        cells = f"{row['ms']:.0f} | {row['ms'] / own:.2f}" if row["ms"] else f"{row['failed']} | -"
        lines.append(f"| {row['term']}, batch {row['batch']} | {row['way']} | {cells} |")
    for training in report["training"]:
        lines += ["", f"## {training['data']}: {training['samples']} images, weights by validation error", ""]
        lines += ["| method | alpha | beta | reconstruction | ratio at radius 1 | test error % |", "|---|---|---|---|---|---|"]
        for row in training["chosen"]:
            first = row["seeds"][0]
            cells = [_spread([s["reconstruction"] for s in row["seeds"]], 4), _spread([s["ratios"][RADII.index(1.0)] for s in row["seeds"]], 3),
                     _spread([s["test_error"] for s in row["seeds"]], 2)]  # fmt: skip
            lines.append(f"| {row['method']} | {first['jacobian_weight']:g} | {first['hessian_weight']:g} | {' | '.join(cells)} |")
        lines += ["", "The frontier, one seed:", ""]
        lines += ["| method | alpha | beta | reconstruction | ratio at radius 1 | validation % | test % |", "|---|---|---|---|---|---|---|"]
        for r in sorted(training["frontier"], key=lambda r: r["reconstruction"]):
            lines.append(f"| {r['method']} | {r['jacobian_weight']:g} | {r['hessian_weight']:g} | {r['reconstruction']:.4f} | "
                         f"{r['ratios'][RADII.index(1.0)]:.3f} | {r['validation_error']:.1f} | {r['test_error']:.1f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def figure(report: dict[str, Any]) -> bytes:
    """PNG: by data set, contractive ratio against radius (Fig. 6) and against reconstruction error over both weights."""
    trainings = report["training"]
    chart = Figure(figsize=(9, 3.2 * max(1, len(trainings))), layout="constrained")
    for row, training in zip(chart.subplots(max(1, len(trainings)), 2, squeeze=False), trainings, strict=False):
        for index, chosen in enumerate(training["chosen"]):
            ratios = np.array([seed["ratios"] for seed in chosen["seeds"]])
            row[0].plot(RADII, ratios.mean(0), "o-", color=f"C{index}", label=chosen["method"])
            row[0].fill_between(RADII, ratios.min(0), ratios.max(0), color=f"C{index}", alpha=0.15, linewidth=0)
            points = [r for r in training["frontier"] if r["method"] == chosen["method"]]
            row[1].plot([p["reconstruction"] for p in points], [p["ratios"][RADII.index(1.0)] for p in points], "o", color=f"C{index}")
        row[0].set(xscale="log", xlabel="radius", ylabel="contractive ratio, normalised", title=training["data"])
        row[1].set(xlabel="test reconstruction error", ylabel="ratio at radius 1", title=f"{training['data']}: all weights, one seed")
        row[0].legend()
    return png(chart, 110)
