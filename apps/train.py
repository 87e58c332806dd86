"""`hodsim train`: from the snapshots of a project to a model file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import torch
import typer

from hodsim.apps.arguments import ProjectPath, Set
from hodsim.apps.console import progress_bar, say, working
from hodsim.project import Project
from hodsim.reduced import Cubature, ReducedModel, calibrate, choose_cubature, fitting_poses, rollout_error
from hodsim.snapshots import Snapshots
from hodsim.subspace import Model, Subspace
from hodsim.trainers.autoencoder import Training, checkpoint_file, identity, train_autoencoder


def train(
    project: ProjectPath,
    set: Set = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train the autoencoder on a project's snapshots and save model.hod. An interrupted training continues; Ctrl-C keeps the best so far.

    Example: hodsim train beam.toml --set subspace.latent=8
    """
    opened = Project.open(project, set or ())
    snapshots = opened.snapshots()
    with opened.at_work():
        make_model(opened, snapshots, device=None if device == "auto" else torch.device(device))
    say(f"Next: hodsim report {project}   or   hodsim view {opened.model_file}")


def make_model(project: Project, snapshots: Snapshots, *, device: torch.device | None = None) -> Model:
    """The project's model file: the one that is there if it was made from the same data and settings, else a new one.

    Ctrl-C saves the best so far and ends the command: raises KeyboardInterrupt."""
    full, training, elements = project.full, Training.of(project), project.settings.cubature.elements
    file, wanted = project.model_file, f"{identity(full, snapshots, training)} {elements} elements, indicator"
    if file.exists() and (stored := Model.load(file, full=full)).notes.get("identity") == wanted:
        say(f"{file} is up to date")
        return stored
    shapes, validation = project.load_shapes, snapshots.split("validation")

    def judge(subspace: Subspace) -> float:
        return rollout_error(ReducedModel(full, subspace), validation, shapes)

    with progress_bar("Metric (poses)") as preparation, progress_bar("Training (epochs)") as update, progress_bar("Refining (rounds)") as refining:
        subspace, fitted, refined = train_autoencoder(
            full, snapshots, training, checkpoint=checkpoint_file(project), device=device, preparation=preparation, judge=judge,
            progress=lambda done, total, loss: update(done, total, f"validation loss {loss:.2e}"),
            refining=lambda done, total, loss: refining(done, total, f"validation error {100 * loss:.2f} %"),
        )  # fmt: skip
    interrupted = fitted.interrupted or refined.interrupted
    cubature, curve = None, ()
    if elements == "auto":
        with working("Choosing elements"):
            cubature, curve = choose_cubature(full, subspace, snapshots, shapes)
    elif elements:
        (*_, cubature) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[elements])
    notes = {
        "identity": None if interrupted else wanted,
        "dt": snapshots.dt,
        "training_s": fitted.seconds + refined.seconds,
        "validation_loss": fitted.best,
        "epochs": fitted.epochs,
        "rounds": refined.epochs,
        "validation_error": refined.best if refined.epochs else None,
        "cubature": [asdict(sampling) for sampling in curve],
        **project.provenance,
    }
    with working("Calibrating the error indicator"):
        indicator = calibrate(ReducedModel(full, subspace, elasticity=cubature), snapshots, shapes)
    model = Model(full, subspace, notes, cubature and (cubature.chosen, cubature.weights), indicator.arrays())
    model.save(file)
    if cubature:
        say(f"elastic force sampled on {len(cubature.chosen)} of {len(full.mesh.tetrahedra)} elements")
    gained = f"; simulated validation error {100 * refined.best:.2f} % after {refined.epochs} rounds of Newton-Krylov" if refined.epochs else ""
    seconds = fitted.seconds + refined.seconds
    say(f"{file}: {subspace.name}, validation loss {fitted.best:.2e} after {fitted.epochs} epochs{gained}; {seconds:.0f} s")
    if interrupted:  # the best so far is saved; what would follow is not what was asked for
        raise KeyboardInterrupt
    return model
