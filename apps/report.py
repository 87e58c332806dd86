"""`hodsim report`: the network, PCA and the full model side by side on held-out load cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import comparison, progress_bar, say
from hodsim.apps.study import Problem
from hodsim.reduced import Sampling
from hodsim.report import contenders, evaluate, summary, write_report
from hodsim.snapshots import Snapshots, bending_loads
from hodsim.subspace import Model


def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study with a trained model.")],
) -> None:
    """Run the held-out load cases with the full model, the network and PCA, and write report.html and report.json into the study.

    Example: hodsim report out/study
    """
    problem = Problem.load(study)
    model = Model.load(study / "model.hod", full=problem.full_model())
    make_report(problem, model, Snapshots.load(study / "snapshots", model.full), study, command=f"hodsim report {study}")


def make_report(problem: Problem, model: Model, snapshots: Snapshots, folder: Path, *, command: str, rough: bool = False) -> Path:
    """Evaluate and write the report; returns the page."""
    held_out = [case for case in problem.cases() if case.split == "test"]
    with progress_bar("Held-out cases (runs)") as update:
        evaluation = evaluate(
            model.full, contenders(model, snapshots), held_out, bending_loads(model.full), dt=problem.dt, steps=problem.steps, progress=update
        )
    learned = sum(snapshots.split(name).seconds.sum() for name in ("train", "validation"))
    offline = {"snapshots_s": float(learned), "training_s": model.notes["training_s"]}
    with progress_bar("Drawing (frames)") as update:
        files = write_report(
            evaluation, offline=offline, directory=folder, command=command, rough=rough, progress=update,
            samplings=[Sampling(**sampling) for sampling in model.notes.get("cubature", ())],
        )  # fmt: skip
    comparison(summary(evaluation, offline=offline, rough=rough))
    for file in files:
        say(f"  {file}")
    return files.html
