"""`hodsim init`: a project file for a mesh, with every setting and what it means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.arguments import Set
from hodsim.apps.console import say
from hodsim.mesh import TetMesh
from hodsim.project import Settings, toml
from hodsim.storage import write_atomically


def init(
    mesh: Annotated[Path, typer.Argument(help="Tetrahedral mesh in metres (.msh, .vtu, .vtk, .mesh, ...).")],
    output: Annotated[Path | None, typer.Option(help="The project file; default: NAME.toml here.")] = None,
    set: Set = None,
) -> None:
    """Write a project file for a mesh: every setting with its default, or another value, and what it means, to be edited.

    Example: hodsim init beam.msh --set material.density=1200
    """
    file = output or Path(mesh.with_suffix(".toml").name)
    if file.suffix != ".toml":
        raise ValueError(f"output is {file}; expected a name that ends in .toml")
    if file.exists():
        raise FileExistsError(f"{file} exists; delete it, or choose another --output")
    body = TetMesh.load(mesh)
    low, high = body.bounding_box
    say(f"{mesh}: {len(body.vertices)} vertices, {len(body.tetrahedra)} tetrahedra, " + " x ".join(f"{s:.4g}" for s in high - low) + " m")
    if body.groups:
        say(f"groups: {', '.join(sorted(body.groups))}")
    try:
        path = Path(os.path.relpath(mesh.resolve(), file.resolve().parent)).as_posix()
    except ValueError:  # on another drive
        path = mesh.resolve().as_posix()
    write_atomically(file, toml.write(toml.changed(Settings(mesh=path, output=f"out/{mesh.stem}"), set or (), str(file))))
    say(f"saved {file}")
    say(f"Next: look it through, then hodsim snapshots {file}")
