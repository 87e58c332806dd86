"""`hodsim report`: the network, PCA and the full model side by side on held-out load cases."""

from __future__ import annotations

from pathlib import Path

from hodsim.apps.arguments import ProjectPath, Set
from hodsim.apps.console import comparison, progress_bar, say
from hodsim.project import Project
from hodsim.reduced import Sampling
from hodsim.report import contenders, evaluate, summary, write_report
from hodsim.snapshots import Snapshots
from hodsim.subspace import Model


def report(project: ProjectPath, set: Set = None) -> None:
    """Run the held-out load cases with the full model, the network and PCA, and write report.html and report.json beside the model.

    Example: hodsim report beam.toml
    """
    opened = Project.open(project, set or ())
    snapshots = opened.snapshots()
    model = Model.load(opened.model_file, full=opened.full)
    with opened.at_work():
        make_report(opened, model, snapshots, command=f"hodsim report {project}")


def make_report(project: Project, model: Model, snapshots: Snapshots, *, command: str, rough: bool = False) -> Path:
    """Evaluate and write the report; returns the page."""
    held_out = [case for case in project.cases if case.split == "test"]
    with progress_bar("Held-out cases (runs)") as update:
        models = contenders(model, snapshots, project.load_shapes, dimensions=project.settings.report.pca, refine=not rough)
        evaluation = evaluate(
            model.full, models, held_out, project.load_shapes, progress=update,
            dt=project.settings.simulation.dt, steps=project.settings.simulation.steps,
        )  # fmt: skip
    learned = sum(snapshots.split(name).seconds.sum() for name in ("train", "validation"))
    offline = {"snapshots_s": float(learned), "training_s": model.notes["training_s"]}
    with progress_bar("Drawing (frames)") as update:
        files = write_report(
            evaluation, offline=offline, directory=project.output, command=command, rough=rough, progress=update,
            samplings=[Sampling(**sampling) for sampling in model.notes.get("cubature", ())], provenance=project.provenance,
        )  # fmt: skip
    comparison(summary(evaluation, offline=offline, rough=rough))
    for file in files:
        say(f"  {file}")
    return files.html
