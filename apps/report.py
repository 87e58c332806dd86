"""`hodsim report`: the network, PCA and the full model side by side on held-out load cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import comparison, progress_bar, say
from hodsim.apps.study import Problem
from hodsim.reduced import ReducedModel, variational_step
from hodsim.report import Contender, evaluate, summary, write_report
from hodsim.snapshots import Snapshots, bending_loads
from hodsim.subspace import Model, pca

PCA_DIMENSIONS = (6, 12, 20)


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
    full, poses = model.full, snapshots.split("train").poses()
    exact, sampled = ReducedModel(full, model.subspace), ReducedModel.of(model)
    name, elements = model.subspace.name, 0 if model.cubature is None else len(model.cubature[0])
    contenders = [
        Contender(sampled, elasticity=f"{elements} elements" if elements else "exact", advance=variational_step),
        *([Contender(exact, name=f"{name}, all elements", advance=variational_step)] if elements else []),
        Contender(exact, name=f"{name}, Euler-Lagrange"),
        # in a linear subspace the two forms are one
        *(Contender(ReducedModel(full, pca(poses, dim, mass=full.mass))) for dim in PCA_DIMENSIONS),
    ]
    held_out = [case for case in problem.cases() if case.split == "test"]
    with progress_bar("Held-out cases (runs)") as update:
        evaluation = evaluate(
            full, contenders, held_out, bending_loads(full), dt=problem.dt, steps=problem.steps, progress=update
        )
    learned = sum(snapshots.split(name).seconds.sum() for name in ("train", "validation"))
    offline = {"snapshots_s": float(learned), "training_s": model.notes["training_s"]}
    with progress_bar("Drawing (frames)") as update:
        files = write_report(evaluation, offline=offline, directory=folder, command=command, rough=rough, progress=update)
    comparison(summary(evaluation, offline=offline, rough=rough))
    for file in files:
        say(f"  {file}")
    return files.html
