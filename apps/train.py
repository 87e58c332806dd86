"""`hodsim train`: from the snapshots of a project to a model file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import torch
import typer

from hodsim.apps.arguments import ProjectPath, Set
from hodsim.apps.console import progress_bar, say, working
from hodsim.project import Project
from hodsim.reduced import Cubature, ReducedModel, calibrate, choose_cubature, fitting_poses
from hodsim.snapshots import Snapshots
from hodsim.subspace import Model
from hodsim.trainers.autoencoder import Training, checkpoint_file, identity, train_autoencoder
from hodsim.trainers.loop import Fit


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


def training_steps(training: Training, fitted: Fit) -> str:
    """What a training took, in words."""
    epochs = min(fitted.epochs, training.epochs)
    more = fitted.epochs - epochs
    return f"{epochs} epochs" + (f" and {more} steps of Newton-Krylov" if more else "")


def make_model(project: Project, snapshots: Snapshots, *, device: torch.device | None = None) -> Model:
    """The project's model file: the one that is there if it was made from the same data and settings, else a new one.

    Ctrl-C saves the best so far and ends the command: raises KeyboardInterrupt."""
    full, training, elements = project.full, Training.of(project), project.settings.cubature.elements
    file, wanted = project.model_file, f"{identity(full, snapshots, training)} {elements} elements, indicator"
    if file.exists() and (stored := Model.load(file, full=full)).notes.get("identity") == wanted:
        say(f"{file} is up to date")
        return stored
    with progress_bar("Metric (poses)") as preparation, progress_bar("Training (epochs)") as update, progress_bar("Refining (steps)") as refining:
        subspace, fitted = train_autoencoder(
            full, snapshots, training, checkpoint=checkpoint_file(project), device=device, preparation=preparation,
            progress=lambda done, total, loss: update(done, total, f"validation loss {loss:.2e}"),
            refining=lambda done, total, loss: refining(done, total, f"validation loss {loss:.2e}"),
        )  # fmt: skip
    cubature, curve = None, ()
    if elements == "auto":
        with working("Choosing elements"):
            cubature, curve = choose_cubature(full, subspace, snapshots, project.load_shapes)
    elif elements:
        (*_, cubature) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[elements])
    notes = {
        "identity": None if fitted.interrupted else wanted,
        "dt": snapshots.dt,
        "training_s": fitted.seconds,
        "validation_loss": fitted.best,
        "epochs": fitted.epochs,
        "cubature": [asdict(sampling) for sampling in curve],
        **project.provenance,
    }
    with working("Calibrating the error indicator"):
        indicator = calibrate(ReducedModel(full, subspace, elasticity=cubature), snapshots, project.load_shapes)
    model = Model(full, subspace, notes, cubature and (cubature.chosen, cubature.weights), indicator.arrays())
    model.save(file)
    if cubature:
        say(f"elastic force sampled on {len(cubature.chosen)} of {len(full.mesh.tetrahedra)} elements")
    say(f"{file}: {subspace.name}, validation loss {fitted.best:.2e} after {training_steps(training, fitted)}, {fitted.seconds:.0f} s")
    if fitted.interrupted:  # the best so far is saved; what would follow is not what was asked for
        raise KeyboardInterrupt
    return model
