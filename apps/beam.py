"""`hodsim beam`: the main job on the beam that ships with hodsim, from mesh to report."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import say
from hodsim.apps.report import make_report
from hodsim.apps.snapshots import make_snapshots
from hodsim.apps.study import Problem
from hodsim.apps.train import make_model
from hodsim.apps.view import show
from hodsim.reduced import compile_ahead
from hodsim.trainers.autoencoder import Training
from hodsim.viewer import has_display

QUICK_PROBLEM = {"steps": 100, "train": 30, "validation": 4, "test": 4}
QUICK_TRAINING = {"epochs": 200, "stride": 2, "rounds": 2}


def beam(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller sweep and a short training: rough figures in under a minute.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for everything; default out/beam, or out/beam-quick.")] = None,
    view: Annotated[bool, typer.Option(help="Open the viewer at the end, where there is a display.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes for the snapshots; 0 takes one a core.")] = 0,
) -> None:
    """From mesh to report: simulate snapshots of the beam, train the network, compare it with PCA and the full model, show it.

    What is there already is used again; Ctrl-C at any time, the same command continues.

    Example: hodsim beam --quick
    """
    started = time.monotonic()
    compile_ahead()
    folder = output or Path("out/beam-quick" if quick else "out/beam")
    with as_file(files("hodsim.meshes") / "beam.msh") as mesh:
        problem = replace(Problem(str(mesh)), **(QUICK_PROBLEM if quick else {}))
        full = problem.full_model()
    say(f"[bold]The beam[/]: {len(full.mesh.tetrahedra)} tetrahedra, {full.n_dofs} degrees of freedom, everything in {folder}")
    problem.save(folder)
    snapshots = make_snapshots(problem, full, folder, workers=workers)
    training = replace(Training(), **(QUICK_TRAINING if quick else {}))
    model = make_model(full, snapshots, training, folder)
    page = folder / "report.html"
    if page.exists() and page.stat().st_mtime > (folder / "model.hod").stat().st_mtime:
        say(f"{page} is up to date")
    else:
        make_report(problem, model, snapshots, folder, command="hodsim beam --quick" if quick else "hodsim beam", rough=quick)
    if quick:
        say("[yellow]These figures are rough[/]: a smaller sweep and a short training. `hodsim beam` gives the real ones.")
    say(f"Done in {time.monotonic() - started:.0f} s. Open {page} in a browser.")
    if not view:
        return
    if has_display():
        show(folder / "model.hod")
    else:
        say(f"No display here: `hodsim view {folder / 'model.hod'}` opens the viewer where there is one.")
