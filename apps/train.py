"""`hodsim train`: from the snapshots of a study to a model file."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from hodsim.apps.console import progress_bar, say, working
from hodsim.apps.study import Problem
from hodsim.fem import FullModel
from hodsim.reduced import Cubature, ReducedModel, calibrate, choose_cubature, fitting_poses
from hodsim.snapshots import Snapshots, bending_loads
from hodsim.subspace import Model
from hodsim.trainers.autoencoder import Training, identity, train_autoencoder


def train(
    study: Annotated[Path, typer.Argument(help="Folder of a study with snapshots.")],
    latent: Annotated[int, typer.Option(min=1, help="Latent dimension r.")] = Training.dim,
    width: Annotated[int, typer.Option(min=1, help="Width of the two hidden layers of the decoder.")] = Training.hidden[0],
    coordinates: Annotated[int, typer.Option(min=2, help="Principal coordinates of the poses that the network works in.")] = Training.coordinates,
    epochs: Annotated[int, typer.Option(min=1)] = Training.epochs,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of Adam.")] = Training.learning_rate,
    elements: Annotated[
        int | None, typer.Option(min=0, help="Elements that sample the elastic force, 0 for all; default: as many as validation asks for.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of initial weights and order.")] = Training.seed,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    jacobian_weight: Annotated[float, typer.Option(min=0, help="Of the encoder's contractive term |Df|^2, relative to PCA's.")] = 0.0,
    hessian_weight: Annotated[float, typer.Option(min=0, help="Of its squared diagonal second derivatives, likewise.")] = 0.0,
) -> None:
    """Train the autoencoder on a study's snapshots and save model.hod. An interrupted training continues; Ctrl-C keeps the best so far.

    Example: hodsim train out/study --latent 6
    """
    problem = Problem.load(study)
    full = problem.full_model()
    training = Training(
        dim=latent, hidden=(width, width), coordinates=coordinates, epochs=epochs, learning_rate=learning_rate, seed=seed,
        jacobian_weight=jacobian_weight, hessian_weight=hessian_weight,
    )  # fmt: skip
    chosen = None if device == "auto" else torch.device(device)
    make_model(full, Snapshots.load(study / "snapshots", full), training, study, elements=elements, device=chosen)
    say(f"Next: hodsim report {study}   or   hodsim view {study / 'model.hod'}")


def make_model(
    full: FullModel, snapshots: Snapshots, training: Training, folder: Path, *, elements: int | None = None, device: torch.device | None = None
) -> Model:
    """The study's model file: the one that is there if it was made from the same data and settings, else a new one.

    Ctrl-C saves the best so far and ends the command: raises KeyboardInterrupt."""
    file, wanted = folder / "model.hod", f"{identity(full, snapshots, training)} {'chosen' if elements is None else elements} elements, indicator"
    if file.exists() and (stored := Model.load(file, full=full)).notes.get("identity") == wanted:
        say(f"{file} is up to date")
        return stored
    with progress_bar("Metric (poses)") as preparation, progress_bar("Training (epochs)") as update:
        subspace, fitted = train_autoencoder(
            full, snapshots, training, checkpoint=folder / "checkpoint.safetensors", device=device, preparation=preparation,
            progress=lambda done, total, loss: update(done, total, f"validation loss {loss:.2e}"),
        )  # fmt: skip
    cubature, curve = None, ()
    if elements is None:
        with working("Choosing elements"):
            cubature, curve = choose_cubature(full, subspace, snapshots, bending_loads(full))
    elif elements:
        (*_, cubature) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[elements])
    notes = {
        "identity": None if fitted.interrupted else wanted,
        "dt": snapshots.dt,
        "training_s": fitted.seconds,
        "validation_loss": fitted.best,
        "epochs": fitted.epochs,
        "cubature": [asdict(sampling) for sampling in curve],
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    with working("Calibrating the error indicator"):
        indicator = calibrate(ReducedModel(full, subspace, elasticity=cubature), snapshots, bending_loads(full))
    model = Model(full, subspace, notes, cubature and (cubature.chosen, cubature.weights), indicator.arrays())
    model.save(file)
    if cubature:
        say(f"elastic force sampled on {len(cubature.chosen)} of {len(full.mesh.tetrahedra)} elements")
    say(f"{file}: {subspace.name}, validation loss {fitted.best:.2e} after {fitted.epochs} epochs, {fitted.seconds:.0f} s")
    if fitted.interrupted:  # the best so far is saved; what would follow is not what was asked for
        raise KeyboardInterrupt
    return model
