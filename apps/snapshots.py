"""`hodsim snapshots`: simulate the load cases of a project with the full model."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hodsim.apps.arguments import ProjectPath, Set
from hodsim.apps.console import progress_bar, say
from hodsim.project import Project
from hodsim.snapshots import Snapshots


def snapshots(
    project: ProjectPath,
    set: Set = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one a core.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Address of the scheduler of a Dask cluster to compute on instead.")] = None,
) -> None:
    """Simulate a project's sweep of load cases with the full model; cases that are already there are kept, also after Ctrl-C or worse.

    Example: hodsim snapshots beam.toml --set material.density=1200
    """
    opened = Project.open(project, set or ())
    opened.load_shapes  # what is wrong is said before anything is written  # noqa: B018
    with opened.at_work():
        make_snapshots(opened, workers=workers, scheduler=scheduler)
    say(f"Next: hodsim train {opened.output}")


def make_snapshots(project: Project, *, workers: int = 0, scheduler: str | None = None) -> Snapshots:
    """The project's snapshots, simulating those that are not there yet."""
    with progress_bar("Snapshots (load cases)") as update:
        made = project.generate(workers=workers or cores(), scheduler=scheduler, progress=update)
    for failure in made.failures:
        say(f"[yellow]left out[/] {failure}")
    steps = project.settings.simulation.steps
    say(f"{len(made.cases)} load cases of {steps} steps in {project.snapshots_folder}, {made.seconds.sum():.0f} s of one core, digest {made.digest}")
    return made


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
