"""`hodsim snapshots`: simulate the load cases of a study with the full model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import progress_bar, say
from hodsim.apps.study import Problem, cores
from hodsim.fem import FullModel
from hodsim.snapshots import Snapshots, bending_loads, generate_snapshots


def snapshots(
    mesh: Annotated[Path, typer.Argument(help="Tetrahedral mesh in metres (.msh, .vtu, .vtk, .mesh, ...).")],
    output: Annotated[Path, typer.Option(help="Folder of the study; made if it is not there.")],
    pin: Annotated[str, typer.Option(help="What is held: a side of the bounding box (x-min, x-max, ...) or a group of the mesh.")] = Problem.pin,
    material: Annotated[str, typer.Option(help="StVK, NeoHookean or StableNeoHookean.")] = Problem.material,
    youngs_modulus: Annotated[float, typer.Option(help="In pascals.")] = Problem.youngs_modulus,
    poisson_ratio: Annotated[float, typer.Option()] = Problem.poisson_ratio,
    density: Annotated[float, typer.Option(help="In kilograms per cubic metre.")] = Problem.density,
    dt: Annotated[float, typer.Option(help="Time step in seconds.")] = Problem.dt,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each load case.")] = Problem.steps,
    train: Annotated[int, typer.Option(min=1, help="Load cases to train on.")] = Problem.train,
    validation: Annotated[int, typer.Option(min=1, help="Load cases to choose by.")] = Problem.validation,
    test: Annotated[int, typer.Option(min=1, help="Load cases held out for the report.")] = Problem.test,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sweep.")] = Problem.seed,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
) -> None:
    """Simulate a sweep of load cases with the full model; cases that are already there are kept.

    Example: hodsim snapshots beam.msh --output out/study --pin x-min --train 60
    """
    problem = Problem(
        mesh=str(mesh.resolve()), pin=pin, material=material, youngs_modulus=youngs_modulus, poisson_ratio=poisson_ratio,
        density=density, dt=dt, steps=steps, train=train, validation=validation, test=test, seed=seed,
    )  # fmt: skip
    full = problem.full_model()
    problem.save(output)
    make_snapshots(problem, full, output, workers=workers)
    say(f"Next: hodsim train {output}")


def make_snapshots(problem: Problem, full: FullModel, folder: Path, *, workers: int = 0) -> Snapshots:
    """The study's snapshots, simulating those that are not there yet."""
    with progress_bar("Snapshots (load cases)") as update:
        made = generate_snapshots(
            full, bending_loads(full), problem.cases(), dt=problem.dt, steps=problem.steps, directory=folder / "snapshots",
            workers=workers or cores(), progress=update,
        )  # fmt: skip
    for failure in made.failures:
        say(f"[yellow]left out[/] {failure}")
    say(f"{len(made.cases)} load cases of {problem.steps} steps in {folder / 'snapshots'}, {made.seconds.sum():.0f} s of one core")
    return made
