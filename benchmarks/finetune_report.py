"""Table and figure (HoD-Net, Fig. 4) of `hodsim bench finetune`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hodsim.benchmarks.chart import png
from hodsim.benchmarks.finetune_products import cost_table

Curve = list[dict[str, float]]


def reached(row: dict[str, Any]) -> dict[str, np.ndarray]:
    """By seed: the last training loss, the test loss where validation is least, epochs and seconds."""
    best = [min(curve, key=lambda point: point["validation"]) for curve in row["curves"]]
    last = [curve[-1] for curve in row["curves"]]
    found = {key: np.array([point[key] for point in last]) for key in ("train", "epochs", "seconds")}
    return found | {"test": np.array([point["test"] for point in best])}


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["# High-order fine-tuning", "", f"{report['threads']} thread(s)." + " Rough: --quick." * report["quick"], ""]
    if report["absent"]:
        lines += [f"Not installed: {', '.join(report['absent'])}.", ""]
    lines += cost_table(report["cost"])
    for training in report["training"]:
        lines += ["", f"## {training['problem']}: {training['samples']} samples, {training['budget']} from Adam's plateau", ""]
        lines += ["Median (least to largest) over seeds; the test loss is that where validation is least.", ""]
        simulated = any(value is not None for row in training["methods"] for value in row["simulation"])
        lines += ["| method | rate or damping | train | test | epochs | seconds |" + " simulation error |" * simulated]
        lines += ["|---|---|---|---|---|---|" + "---|" * simulated]
        start = {key: np.array([losses[key] for losses in training["start"].values()]) for key in ("train", "test")}
        lines += [f"| at the plateau | | {spread(start['train'])} | {spread(start['test'])} | | |" + " |" * simulated]
        for row in training["methods"]:
            found = reached(row)
            cells = [spread(found["train"]), spread(found["test"]), *(f"{np.median(found[key]):.3g}" for key in ("epochs", "seconds"))]
            if simulated:
                errors = 100 * np.array(row["simulation"])
                cells.append(f"{np.median(errors):.2f} % ({errors.min():.2f} to {errors.max():.2f})")
            lines.append(f"| {row['method']} | {row['rate']:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: np.ndarray) -> str:
    return f"{np.median(values):.2e} ({values.min():.2e} to {values.max():.2e})"


def resampled(curves: list[Curve], along: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Common abscissae, and the losses (curves, points) there."""
    x = np.linspace(0, min(curve[-1][along] for curve in curves), 80)
    return x, np.array([np.interp(x, [p[along] for p in curve], [p[split] for p in curve]) for curve in curves])


def figure(report: dict[str, Any]) -> bytes:
    """PNG: by comparison, training and test loss against epochs and against seconds; medians with their spread."""
    trainings = report["training"]
    chart = Figure(figsize=(15, 3.3 * len(trainings)), layout="constrained")
    axes = chart.subplots(len(trainings), 4, squeeze=False)
    for row, training in zip(axes, trainings, strict=True):
        for axis, (split, along) in zip(row, ((s, a) for a in ("epochs", "seconds") for s in ("train", "test")), strict=True):
            for index, method in enumerate(training["methods"]):
                x, y = resampled(method["curves"], along, split)
                axis.plot(x, np.median(y, axis=0), color=f"C{index}", label=method["method"])
                axis.fill_between(x, y.min(0), y.max(0), color=f"C{index}", alpha=0.15, linewidth=0)
            axis.set(yscale="log", xlabel=along, ylabel=f"{split} loss", title=f"{training['problem']}, {training['budget']}")
            axis.set_xlim(left=0)
        row[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return png(chart, 100)
