"""What each part of the autoencoder's training buys: the same training with one part changed, on the beam of `hodsim bench simulation`.

    as it is            Adam, then Newton-Krylov, in the elastic metric, the second stage chosen by validation rollouts; three seeds
    Adam alone          no second stage
    Adam for longer     no second stage, epochs for as many seconds as the two stages took
    chosen by loss      the second stage chosen by the validation loss
    mass norm           |e|_M^2 in place of the elastic metric, in both stages
    with NAME           a further term of the loss (trainers/terms.py), in both stages; the loss that chooses in the first has it, too

Every subspace simulates the validation and the test cases with the exact elastic force, so that its own error is what is seen: mean over
cases of sqrt(sum |u - u_full|_M^2 / sum |u_full|_M^2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from hodsim.benchmarks.chart import png
from hodsim.benchmarks.simulation import sampled_beam
from hodsim.fem import FullModel
from hodsim.reduced import subspace_error
from hodsim.snapshots import Snapshots, bending_loads
from hodsim.storage import write_atomically
from hodsim.subspace import Subspace
from hodsim.trainers.autoencoder import Training, identity, train_autoencoder
from hodsim.trainers.terms import Weights

SEEDS = 3
SPLITS = ("validation", "test")
TERMS = {"velocity": 1.0, "force": 1.0, "tangent": 1.0, "contractive": 1e-3}  # weights of the further terms, one at a time

Progress = Callable[[int, int], None]  # rows done and in all


def run(output: Path, quick: bool, progress: Progress | None = None) -> None:
    """Train and write training.json, training.md and training.png; snapshots are shared with `hodsim bench simulation`.

    A row that is done is kept, one that is interrupted resumes from its checkpoint."""
    output.mkdir(parents=True, exist_ok=True)
    folder = output / "simulation" / ("quick" if quick else "full")
    full, snapshots = sampled_beam(folder, quick)
    with threadpool_limits(1):
        report = {"quick": quick, "variants": compare(full, snapshots, folder / "ablation", quick, progress)}
    write_atomically(output / "training.json", json.dumps(report, indent=1))
    write_atomically(output / "training.md", table(report))
    write_atomically(output / "training.png", figure(report))


def compare(full: FullModel, snapshots: Snapshots, folder: Path, quick: bool, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Errors and seconds of each variant."""
    base = replace(Training(), **({"epochs": 40, "rounds": 1} if quick else {}))
    shapes, seeds = bending_loads(full), range(1 if quick else SEEDS)
    errors = {split: partial(subspace_error, full, snapshots.split(split), shapes) for split in SPLITS}
    validate, rows, total = errors["validation"], [], len(seeds) + 4 + len(TERMS)

    def add(name: str, training: Training, judge: Callable[[Subspace], float] | None = validate) -> float:
        stem = folder / f"{name.replace(' ', '-')}-{training.seed}"
        known, kept = identity(full, snapshots, training), stem.with_suffix(".json")
        row = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if row.get("identity") != known:
            subspace, fitted, refined = train_autoencoder(full, snapshots, training, checkpoint=stem.with_suffix(".safetensors"), judge=judge)
            if fitted.interrupted or refined.interrupted:
                raise KeyboardInterrupt
            row = {"identity": known, "name": name, "seed": training.seed, "epochs": fitted.epochs, "rounds": refined.epochs}
            row |= {"seconds": fitted.seconds + refined.seconds} | {split: error(subspace) for split, error in errors.items()}
            write_atomically(kept, json.dumps(row, indent=1))
        rows.append({key: value for key, value in row.items() if key != "identity"})
        if progress:
            progress(len(rows), total)
        return row["seconds"]

    folder.mkdir(parents=True, exist_ok=True)
    seconds = [add("as it is", replace(base, seed=seed)) for seed in seeds]
    alone = add("Adam alone", replace(base, rounds=0), None)
    add("Adam for longer", replace(base, rounds=0, epochs=round(base.epochs * float(np.median(seconds)) / alone)), None)
    add("chosen by loss", base, None)
    add("mass norm", replace(base, weights=Weights(elastic=0.0)))
    for term, weight in TERMS.items():
        add(f"with {term}", replace(base, weights=Weights(**{term: weight})))
    return rows


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# What each part of the training buys",
        "",
        "Mean position error of simulations, r = 6, exact elastic force." + (" **Rough figures: --quick.**" if report["quick"] else ""),
        "",
        "| training | seed | epochs of Adam | rounds of Newton-Krylov | seconds | validation error | test error |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['name']} | {row['seed']} | {row['epochs']} | {row['rounds']} | {row['seconds']:.0f} "
            f"| {100 * row['validation']:.2f} % | {100 * row['test']:.2f} % |"
            for row in report["variants"]
        ),
    ]
    return "\n".join(lines) + "\n"


def figure(report: dict[str, Any]) -> bytes:
    """A bar a variant and split, a point a seed."""
    names = list(dict.fromkeys(row["name"] for row in report["variants"]))
    drawing = Figure((11, 3.6), layout="constrained")
    axes = drawing.subplots()
    for offset, split, colour in zip((-0.2, 0.2), SPLITS, ("#0072b2", "#d55e00"), strict=True):
        errors = [[100 * row[split] for row in report["variants"] if row["name"] == name] for name in names]
        places = np.arange(len(names)) + offset
        axes.bar(places, [float(np.median(some)) for some in errors], 0.36, color=colour, label=split)
        for place, some in zip(places, errors, strict=True):
            axes.plot(np.full(len(some), place), some, "o", color="#30353c", markersize=3)
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
    axes.set_ylabel("simulated position error [%]")
    axes.legend(frameon=False)
    return png(drawing, 130)
