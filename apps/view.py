"""`hodsim view`: a model live in a window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import say
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.subspace import Model
from hodsim.viewer import Player, has_display
from hodsim.viewer import show as show_player


def view(
    model: Annotated[Path, typer.Argument(help="Model file (.hod), as `hodsim train` writes it.")],
    dt: Annotated[float | None, typer.Option(help="Time step [s]; default: that of the training.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Close by itself after this many frames; works without a display too.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Save the last frame as .png.")] = None,
    body: Annotated[tuple[float, float, float], typer.Option(help="Load on the whole body to start with.")] = (0, 0, -0.4),
) -> None:
    """Show a model live: pause, single step, reset, sliders for the loads, milliseconds per step.

    Example: hodsim view out/beam/model.hod
    """
    show(model, dt=dt, frames=frames, picture=picture, body=body)


def show(
    file: Path,
    *,
    dt: float | None = None,
    frames: int | None = None,
    picture: Path | None = None,
    body: tuple[float, float, float] = (0, 0, -0.4),
) -> None:
    loaded = Model.load(file)
    if frames is None and not has_display():
        raise ValueError(f"no display to open a window on; with --frames N --picture FILE.png, {file} is drawn off screen")
    player = Player(ReducedModel(loaded.full, loaded.subspace), bending_loads(loaded.full), dt=loaded.notes["dt"] if dt is None else dt)
    player.amplitudes["body"][:] = body
    show_player(player, title=f"{loaded.subspace.name}, {file.name}", frames=frames, picture=picture)
    if picture is not None:
        say(f"saved {picture}")
