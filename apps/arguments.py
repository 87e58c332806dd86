"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.project import Project
from hodsim.snapshots import LoadShapes, load_shapes
from hodsim.subspace import Model

ProjectPath = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project file (.toml), or the folder of results of one.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.hod), as `hodsim train` writes it, or a project that has one.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value of a setting; repeatable.")]


def time_step(*wanted: float | None) -> float:
    """The first that is given."""
    return next(dt for dt in wanted if dt is not None)


def trained_under(model: Model) -> LoadShapes:
    """The load shapes that a model was trained under."""
    return load_shapes(model.full, **model.notes.get("settings", {}).get("loads", {}))


def model_file(path: Path, changes: list[str] | None) -> tuple[Path, float | None]:
    """A model file and the time step [s] that its project asks for; None where the model was named itself.

    Raises ValueError for changes of the settings of no project."""
    if path.suffix == ".hod":
        if changes:
            raise ValueError(f"--set {changes[0]} changes a setting of a project, and {path} is a model file; name the project")
        return path, None
    project = Project.open(path, changes or ())
    if not project.model_file.exists():
        raise FileNotFoundError(f"{project.model_file} does not exist; make it with `hodsim train {path}`")
    return project.model_file, project.settings.simulation.dt
