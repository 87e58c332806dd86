"""High-order fine-tuning (HoD-Net, Application I, Fig. 4): Adam to a plateau, then eight ways on from there.

    cost      one Hessian-vector product on four nets (`finetune_products.py`)
    training  on the beam's autoencoder in equal seconds, and with --data on nets of images in equal epochs and in equal seconds: Adam
              (cosine), AdaGrad, L-BFGS, SOAP and Shampoo (pytorch_optimizer, where installed), Hessian-free (Gauss-Newton conjugate
              gradients), NewtonKrylov by Gauss-Newton with Kronecker factors, and Algorithm 1 with them (exact Hessian)

Each method's rate is the one of a grid whose validation loss comes lowest, from the first of three seeds. Every race is kept in
OUTPUT/finetune as it ends, so that the benchmark goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from hodsim.benchmarks.finetune_methods import Budget, Method, methods, package, plateau, race
from hodsim.benchmarks.finetune_problems import Problem, beam_autoencoder, image_problems
from hodsim.benchmarks.finetune_products import product_costs
from hodsim.benchmarks.finetune_report import figure, table
from hodsim.benchmarks.journal import Journal, journal
from hodsim.storage import write_atomically

SEEDS = (0, 1, 2)
VERSION = 3  # of what a race is; the journal of another version is not read

Progress = Callable[..., None]


def run(output: Path, quick: bool, data: Path | None = None, progress: Progress = lambda *_, **__: None) -> None:
    """Measure and write finetune.json, finetune.md and finetune.png."""
    with journal(output / "finetune" / ("quick" if quick else "full")) as finished:
        seeds = SEEDS[:1] if quick else SEEDS
        problems = [beam_autoencoder(output, quick), *(image_problems(data, quick) if data else [])]
        cost = finished.row({"version": VERSION, "cost": "products"}, lambda: {"rows": product_costs(quick)})["rows"]
        work = [(problem, Budget(*budget)) for problem in problems for budget in problem.budgets]
        total = sum(races(seeds) for _ in work)
        done = 0

        def tick(note: str) -> None:
            nonlocal done
            done += 1
            progress(done, total, note=note)

        report = {
            "quick": quick,
            "threads": torch.get_num_threads(),
            "absent": [name for name in ("pytorch_optimizer", "curvlinops") if package(name) is None],
            "cost": cost,
            "training": [compare(problem, budget, seeds, finished, tick) for problem, budget in work],
        }
    write_atomically(output / "finetune.json", json.dumps(report, indent=1))
    write_atomically(output / "finetune.md", table(report))
    write_atomically(output / "finetune.png", figure(report))


def kept(finished: Journal, key: dict[str, Any], like: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """A net, with the weights that lie beside the journal under the key; where there are none, those of make(), kept from now on."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    file = finished.path.with_name(f"{'-'.join(str(v).replace(' ', '_').replace('+', '') for v in key.values())[:80]}-{digest}.safetensors")
    if not file.exists():
        write_atomically(file, save({name: value.contiguous() for name, value in make().state_dict().items()}))
    like.load_state_dict(load(file.read_bytes()))
    return like


def races(seeds: tuple[int, ...]) -> int:
    """How many a comparison takes."""
    return sum(len(method.rates) + len(seeds) - 1 for method in methods())


def compare(problem: Problem, budget: Budget, seeds: tuple[int, ...], finished: Journal, tick: Callable[[str], None]) -> dict[str, Any]:
    """The best rate of every method by validation, then all seeds, from the same plateaus."""
    key = {"version": VERSION, "problem": problem.name, "samples": problem.samples}
    starts = {seed: kept(finished, {**key, "start": seed}, problem.make(seed), lambda seed=seed: plateau(problem, seed)) for seed in seeds}

    def curve(method: Method, rate: float, seed: int) -> dict[str, Any]:
        race_key = {**key, "method": method.name, "rate": rate, "budget": str(budget), "seed": seed}

        def measure() -> dict[str, Any]:
            found, best = race(problem, method, rate, budget, starts[seed], seed)
            if problem.simulate:
                kept(finished, race_key, problem.make(seed), lambda: best)
            return {"curve": found}

        found = finished.row(race_key, measure)
        tick(f"{problem.name}, {method.name}, {rate:g}, seed {seed}")
        return found

    def simulated(method: Method, rate: float, seed: int) -> float | None:
        if problem.simulate is None:
            return None
        race_key = {**key, "method": method.name, "rate": rate, "budget": str(budget), "seed": seed}
        net = kept(finished, race_key, problem.make(seed), lambda: starts[seed])
        return finished.row({**race_key, "what": "simulation"}, lambda: {"error": problem.simulate(net)})["error"]  # type: ignore[misc]

    rows = []
    for method in methods():
        trials = {rate: curve(method, rate, seeds[0])["curve"] for rate in method.rates}
        rate = min(trials, key=lambda rate: min(point["validation"] for point in trials[rate]))
        curves = [trials[rate], *(curve(method, rate, seed)["curve"] for seed in seeds[1:])]
        rows.append({"method": method.name, "rate": rate, "curves": curves, "grid": {r: c[-1] for r, c in trials.items()}})
    for row, method in zip(rows, methods(), strict=True):
        row["simulation"] = [simulated(method, row["rate"], seed) for seed in seeds]
    start = finished.row({**key, "what": "start"}, lambda: {str(seed): problem.losses(starts[seed]) for seed in seeds})
    return {"problem": problem.name, "samples": problem.samples, "budget": str(budget), "along": budget.kind, "start": start, "methods": rows}
