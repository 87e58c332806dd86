"""`hodsim report`: the network, PCA and the full model side by side on held-out load cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import comparison, progress_bar, say
from hodsim.apps.study import Problem
from hodsim.fem import FullModel, StVK
from hodsim.reduced import CompiledStep, CubicForce, ReducedModel, Sampling, choose_cubature
from hodsim.report import Contender, evaluate, summary, write_report
from hodsim.snapshots import Snapshots, bending_loads
from hodsim.subspace import Model, Subspace, pca

PCA_DIMENSIONS = (6, 12, 20)
CUBATURE_POSES = 400


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
    full = model.full
    held_out = [case for case in problem.cases() if case.split == "test"]
    with progress_bar("Held-out cases (runs)") as update:
        evaluation = evaluate(
            full, contenders(model, snapshots), held_out, bending_loads(full), dt=problem.dt, steps=problem.steps, progress=update
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


def contenders(model: Model, snapshots: Snapshots) -> list[Contender]:
    """The network with its cubature, without, and in Euler-Lagrange form; PCA with the exact force and with a cubature chosen likewise."""
    full, poses = model.full, snapshots.split("train").poses()
    exact, sampled = ReducedModel(full, model.subspace), ReducedModel.of(model)
    name, elements = model.subspace.name, 0 if model.cubature is None else len(model.cubature[0])
    chosen = [_compiled(sampled, name, f"{elements} elements" if elements else "exact")]
    if elements:
        chosen.append(_compiled(exact, f"{name}, all elements", "exact"))
    chosen.append(_compiled(sampled, f"{name}, Euler-Lagrange", chosen[0].elasticity, form="euler-lagrange"))
    for dim in PCA_DIMENSIONS:  # in a linear subspace the two forms are one
        subspace = pca(poses, dim, mass=full.mass)
        chosen.append(_exact_linear(full, subspace))
        if elements and dim > model.subspace.dim:  # where a linear subspace is a match for the network
            some = poses[:: max(1, len(poses) // CUBATURE_POSES)]
            cubature, _ = choose_cubature(full, subspace, some, snapshots.split("validation"), bending_loads(full))
            sampled = ReducedModel(full, subspace, elasticity=cubature)
            chosen.append(_compiled(sampled, f"{subspace.name}, cubature", f"{len(cubature.chosen)} elements"))
    return chosen


def _exact_linear(full: FullModel, subspace: Subspace) -> Contender:
    """A linear subspace with the exact force at its fastest: the cubic polynomial of StVK (Barbic & James 2005), or all elements."""
    if isinstance(full.material, StVK):
        return _compiled(ReducedModel(full, subspace, elasticity=CubicForce(full, subspace)), subspace.name, "cubic")
    return _compiled(ReducedModel(full, subspace), subspace.name, "exact")


def _compiled(model: ReducedModel, name: str, elasticity: str, *, form: str = "variational") -> Contender:
    return Contender(model, name=name, elasticity=elasticity, advance=CompiledStep(model, form=form))
