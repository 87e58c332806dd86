"""`hodsim train`: from the snapshots of a project to a model file."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import Annotated

import torch
import typer

from hodsim.apps.arguments import ProjectPath, Set
from hodsim.apps.console import progress_bar, say, working
from hodsim.apps.snapshots import make_snapshots
from hodsim.checks import inside
from hodsim.project import Project
from hodsim.reduced import Cubature, ReducedModel, calibrate, choose_cubature, fitting_poses, hardest, rollout_error, subspace_error
from hodsim.report import latent_figure
from hodsim.snapshots import Snapshots
from hodsim.storage import write_atomically
from hodsim.subspace import Model
from hodsim.trainers.autoencoder import Training, checkpoint_file, identity, train_autoencoder
from hodsim.trainers.latent import choose, try_dimensions

BATCH, POOL = 20, 4  # load cases that are added at once, and from how many times as many they are chosen


def train(
    project: ProjectPath,
    set: Set = None,
    latent: Annotated[str | None, typer.Option(help="Latent dimension r, or auto: train at several and choose; in place of the project's.")] = None,
    target_error: Annotated[
        float | None, typer.Option(help="Add load cases in which the model errs most until validation rollouts err no more than this, e.g. 0.01.")
    ] = None,
    budget: Annotated[int, typer.Option(min=0, help="Load cases that may be added for --target-error.")] = 100,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Train the autoencoder on a project's snapshots and save model.hod. An interrupted training continues; Ctrl-C keeps the best so far.

    Example: hodsim train beam.toml --latent auto          or          hodsim train beam.toml --target-error 0.01
    """
    opened = Project.open(project, [*(set or ()), *([f"subspace.latent={latent}"] if latent else ())])
    target = None if target_error is None else inside("--target-error", target_error, 0.0, 1.0)
    chosen = None if device == "auto" else torch.device(device)
    opened.snapshots()  # says so if there are none
    if target is not None:  # go on from what an interrupted run, or one of a lower aim, has added
        opened = _with_added(opened, opened.stored_additions())
    with opened.at_work():
        if opened.settings.subspace.latent == "auto":
            opened = choose_latent(opened, target, device=chosen)
        if target is None:
            make_model(opened, opened.snapshots(), device=chosen)
        else:
            meet_target(opened, target, budget, device=chosen)
    say(f"Next: hodsim report {project}   or   hodsim view {opened.model_file}")


def make_model(project: Project, snapshots: Snapshots, *, device: torch.device | None = None) -> Model:
    """The project's model file: the one that is there if it was made from the same data and settings, else a new one.

    Ctrl-C saves the best so far and ends the command: raises KeyboardInterrupt."""
    full, training, elements = project.full, Training.of(project), project.settings.cubature.elements
    chosen_by = project.settings.training.chosen_by
    file, wanted = project.model_file, f"{identity(full, snapshots, training)} by {chosen_by}, {elements} elements, indicator"
    if file.exists() and (stored := Model.load(file, full=full)).notes.get("identity") == wanted:
        say(f"{file} is up to date")
        return stored
    shapes, simulated = project.load_shapes, chosen_by == "simulations"

    def told(value: float) -> str:
        return f"simulated validation error {100 * value:.2f} %" if simulated else f"validation loss {value:.2e}"

    with progress_bar("Metric (poses)") as preparation, progress_bar("Training (epochs)") as update, progress_bar("Refining (rounds)") as refining:
        subspace, fitted, refined = train_autoencoder(
            full, snapshots, training, checkpoint=checkpoint_file(project, training.dim), device=device, preparation=preparation,
            judge=partial(subspace_error, full, snapshots.split("validation"), shapes) if simulated else None,
            progress=lambda done, total, loss: update(done, total, f"validation loss {loss:.2e}"),
            refining=lambda done, total, loss: refining(done, total, told(loss)),
        )  # fmt: skip
    interrupted = fitted.interrupted or refined.interrupted
    cubature, curve = None, ()
    if elements == "auto":
        with working("Choosing elements"):
            cubature, curve = choose_cubature(full, subspace, snapshots, shapes, refine=simulated)
    elif elements:
        (*_, cubature) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[elements])
    notes = {
        "identity": None if interrupted else wanted,
        "dt": snapshots.dt,
        "training_s": fitted.seconds + refined.seconds,
        "validation_loss": fitted.best,
        "epochs": fitted.epochs,
        "rounds": refined.epochs,
        "validation_error": refined.best if refined.epochs and simulated else None,
        "cubature": [asdict(sampling) for sampling in curve],
        **project.provenance,
    }
    with working("Calibrating the error indicator"):
        indicator = calibrate(ReducedModel(full, subspace, elasticity=cubature), snapshots, shapes)
    model = Model(full, subspace, notes, cubature and (cubature.chosen, cubature.weights), indicator.arrays())
    model.save(file)
    if cubature:
        say(f"elastic force sampled on {len(cubature.chosen)} of {len(full.mesh.tetrahedra)} elements")
    gained = f"; {told(refined.best)} after {refined.epochs} rounds of Newton-Krylov" if refined.epochs else ""
    seconds = fitted.seconds + refined.seconds
    say(f"{file}: {subspace.name}, validation loss {fitted.best:.2e} after {fitted.epochs} epochs{gained}; {seconds:.0f} s")
    if interrupted:  # the best so far is saved; what would follow is not what was asked for
        raise KeyboardInterrupt
    return model


def choose_latent(project: Project, target: float | None, *, device: torch.device | None) -> Project:
    """The project with the latent dimension that `trainers.latent.choose` takes; writes latent.json and latent.png."""
    base = project.changed(subspace=project.settings.subspace.model_copy(update={"latent": 1}))
    snapshots = project.snapshots()
    judge = partial(subspace_error, project.full, snapshots.split("validation"), project.load_shapes)
    with progress_bar("Latent dimensions") as update:
        trials = try_dimensions(
            project.full, snapshots, project.load_shapes, Training.of(base), judge,
            checkpoint=partial(checkpoint_file, project), target=target, device=device,
            progress=lambda done, total, trial: update(done, total, f"r = {trial.dim}: error {100 * trial.error:.2f} %"),
        )  # fmt: skip
    chosen = choose(trials, target)
    write_atomically(project.output / "latent.json", json.dumps({"chosen": chosen.dim, "trials": [asdict(trial) for trial in trials]}, indent=1))
    curve = [(trial.dim, trial.error, trial.microseconds) for trial in trials]
    write_atomically(project.output / "latent.png", latent_figure(curve, chosen.dim))
    for trial in trials:
        mark = "  [bold]chosen[/]" if trial is chosen else ""
        say(f"  r = {trial.dim:2d}: validation error {100 * trial.error:.2f} %, {trial.microseconds:.0f} us a step{mark}")
    say(f"  {project.output / 'latent.png'}")
    found = project.changed(subspace=project.settings.subspace.model_copy(update={"latent": chosen.dim}))
    found.store()
    return found


def meet_target(project: Project, target: float, budget: int, *, device: torch.device | None) -> Model:
    """Train, and add the load cases whose estimated error is largest, until the target is met or the budget is spent."""
    while True:
        project.store()
        snapshots = make_snapshots(project)
        model = make_model(project, snapshots, device=device)
        reduced, added = ReducedModel.of(model), project.settings.sweep.added
        error = rollout_error(reduced, snapshots.split("validation"), project.load_shapes)
        say(f"validation error {100 * error:.2f} %, to be at most {100 * target:g} %; load cases added: {len(added)}")
        number = min(BATCH, budget - len(added))
        if error <= target:
            return model
        if number <= 0:
            say(f"[yellow]the target is not met[/] by {len(added)} load cases more; a larger --budget or --latent may meet it")
            return model
        with working(f"Choosing {number} load cases"):
            project = _with_added(project, (*added, *_hardest_numbers(project, reduced, number)))


def _with_added(project: Project, numbers: tuple[int, ...]) -> Project:
    return project.changed(sweep=project.settings.sweep.model_copy(update={"added": tuple(sorted(numbers))}))


def _hardest_numbers(project: Project, reduced: ReducedModel, number: int) -> list[int]:
    """The numbers of the further training cases, of POOL times as many, whose estimated error is largest."""
    sweep, simulation = project.settings.sweep, project.settings.simulation
    further = enumerate(project.further_cases(POOL * number + len(sweep.added)), sweep.train)
    numbers, cases = zip(*((i, case) for i, case in further if i not in sweep.added), strict=True)
    chosen = hardest(reduced, cases, project.load_shapes, dt=simulation.dt, steps=simulation.steps, number=number)
    return [numbers[i] for i in chosen]
