"""`hodsim beam`: the main job on the beam that ships with hodsim, from mesh to report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.arguments import Set
from hodsim.apps.console import say
from hodsim.apps.report import make_report
from hodsim.apps.snapshots import make_snapshots
from hodsim.apps.train import make_model
from hodsim.apps.view import show
from hodsim.project import SHIPPED, Project, Settings, toml
from hodsim.project.settings import Simulation, Sweep, Training
from hodsim.reduced import compile_ahead
from hodsim.viewer import has_display

SETTINGS = Settings(mesh=f"{SHIPPED}beam.msh", output="out/beam")
QUICK = SETTINGS.model_copy(update={
    "output": "out/beam-quick",
    "simulation": Simulation(steps=100),
    "sweep": Sweep(train=30, validation=4, test=4),
    "training": Training(epochs=200, stride=2, rounds=2, chosen_by="loss"),  # simulations would have to wait until the step is compiled
})


def beam(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller sweep and a short training: rough figures in under a minute.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for everything; default out/beam, or out/beam-quick.")] = None,
    view: Annotated[bool, typer.Option(help="Open the viewer at the end, where there is a display.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes for the snapshots; 0 takes one a core.")] = 0,
    set: Set = None,
) -> None:
    """From mesh to report: simulate snapshots of the beam, train the network, compare it with PCA and the full model, show it.

    What is there already is used again; Ctrl-C at any time, the same command continues.

    Example: hodsim beam --quick
    """
    started = time.monotonic()
    settings = toml.changed(QUICK if quick else SETTINGS, set or (), "the beam's settings")
    compile_ahead()
    project = Project(settings if output is None else settings.model_copy(update={"output": str(output)}), Path())
    full, folder = project.full, project.output
    say(f"[bold]The beam[/]: {len(full.mesh.tetrahedra)} tetrahedra, {full.n_dofs} degrees of freedom, everything in {folder}")
    page = folder / "report.html"
    with project.at_work():
        snapshots = make_snapshots(project, workers=workers)
        model = make_model(project, snapshots)
        if page.exists() and page.stat().st_mtime > project.model_file.stat().st_mtime:
            say(f"{page} is up to date")
        else:
            make_report(project, model, snapshots, command="hodsim beam --quick" if quick else "hodsim beam", rough=quick)
    if quick:
        say("[yellow]These figures are rough[/]: a smaller sweep and a short training. `hodsim beam` gives the real ones.")
    say(f"Done in {time.monotonic() - started:.0f} s. Open {page} in a browser.")
    if not view:
        return
    if has_display():
        show(project.model_file)
    else:
        say(f"No display here: `hodsim view {project.model_file}` opens the viewer where there is one.")
