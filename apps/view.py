"""`hodsim view`: a model live in a window, or as a film."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hodsim.apps.arguments import Set, model_file, trained_under
from hodsim.apps.console import progress_bar, say, working
from hodsim.checks import finite, positive
from hodsim.fem import FullModel
from hodsim.reduced import ReducedModel
from hodsim.snapshots import Snapshots
from hodsim.subspace import Model, modal, pca
from hodsim.viewer import FIELDS, Player, Recording, has_display, render
from hodsim.viewer import show as show_player

FRAMES_PER_SECOND = 30
DEFAULT_DT = 0.01
POSES = 1000  # that PCA takes of the snapshots: enough to look at, and the window opens soon
BESIDE = "full, pca, modal or another model file of the same body"
SAGGING = (0.0, 0.0, -0.4)  # what a body is loaded with at first, so that something happens


def view(
    model: Annotated[
        Path | None, typer.Argument(help="Model file (.hod), as `hodsim train` writes it, or a project; default: a beam that comes with hodsim.")
    ] = None,
    beside: Annotated[list[str] | None, typer.Option(help=f"Show beside it: {BESIDE}; may be repeated.")] = None,
    dt: Annotated[float | None, typer.Option(help="Time step in seconds; default: that of the training.")] = None,
    body: Annotated[tuple[float, float, float], typer.Option(help="Load on the whole body to start with.")] = SAGGING,
    replay: Annotated[Path | None, typer.Option(help="Do again what a recording (.json) of the window holds.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Draw off screen, to --output.")] = False,
    output: Annotated[Path | None, typer.Option(help="Film (.mp4, .gif) or last picture (.png), drawn off screen.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames to draw; 30 are one second of a film.")] = None,
    colour: Annotated[str, typer.Option(help=f"Colour by {', '.join(FIELDS)}.")] = "none",
    set: Set = None,
) -> None:
    """Show a model live: pull it with the mouse, load it by sliders, pause, step, reset, record.

    Example: hodsim view --beside full          or          hodsim view out/beam/model.hod --beside full --beside pca
    """
    with as_file(files("hodsim.meshes") / "beam.hod") as shipped:
        file, wanted = model_file(shipped if model is None else model, set)
        show(
            file, beside=beside or (), dt=wanted if dt is None else dt, body=body, replay=replay, headless=headless, output=output,
            frames=frames, colour=colour,
        )  # fmt: skip


def show(
    file: Path,
    *,
    beside: Sequence[str] = (),
    dt: float | None = None,
    body: tuple[float, float, float] = SAGGING,
    replay: Path | None = None,
    headless: bool = False,
    output: Path | None = None,
    frames: int | None = None,
    colour: str = "none",
) -> None:
    """Open the window, or draw off screen when headless or given an output. Everything is read and checked before that."""
    if headless and output is None:
        raise ValueError("--headless draws to a file; name it with --output FILE.mp4, .gif or .png")
    if output is None and not has_display():
        raise ValueError(f"no display to open a window on; --headless --frames 90 --output view.mp4 draws {file} off screen")
    if colour not in ("none", *FIELDS):
        raise ValueError(f"colour is {colour!r}; expected none, {', '.join(FIELDS)}")
    loaded = Model.load(file)
    interval = positive("dt", loaded.notes.get("dt", DEFAULT_DT) if dt is None else dt)
    first_load = finite("--body", np.array(body, float))
    check_pinned(file, loaded)
    title = f"{loaded.subspace.name}, {file.name}"
    live = output is None and replay is None  # a film and a replay are the same whenever they are made: all their steps are compiled ones

    def make() -> Player:
        player = make_player(file, loaded, beside, interval)
        if replay is None:
            player.amplitudes["body"][:] = first_load
        else:
            player.replay(Recording.load(replay, loaded.full, {name: len(values) for name, values in player.amplitudes.items()}))
        if live or player.is_compiled:
            player.warm_up(wait=not live)
        else:
            with working("Compiling the step (one to two minutes, once on a machine)"):
                player.warm_up()
        return player

    if live and not beside:  # nothing is left that could be refused: the window need not wait
        show_player(make, loaded.full.mesh, title=title, frames=frames, field=colour)
        return
    player = make()
    if output is None:
        show_player(lambda: player, loaded.full.mesh, title=title, frames=frames, field=colour)
    else:
        draw(player, output, frames, title=title, colour=colour)


def draw(player: Player, output: Path, frames: int | None, *, title: str, colour: str) -> None:
    """Draw a film or a picture off screen, as long as the replay or three seconds unless frames are given."""
    if frames is None:
        frames = 3 * FRAMES_PER_SECOND if player.replaying is None else round(player.replaying.duration * FRAMES_PER_SECOND)
    with progress_bar("Drawing (frames)") as update:
        render(player, output, frames=frames, fps=FRAMES_PER_SECOND, title=title, field=colour, progress=update)
    if player.trouble is not None:
        say(f"[yellow]the motion stopped at {player.time:.2f} s[/]: {player.trouble}")
    say(f"saved {output}")


def check_pinned(file: Path, loaded: Model) -> None:
    """Raise ValueError unless the body of a model file is held."""
    if not loaded.full.pinned.any():
        raise ValueError(f"{file} holds a body that is pinned nowhere: it would fall out of the window; pin some vertices and train again")


def make_player(file: Path, loaded: Model, beside: Sequence[str], dt: float) -> Player:
    """The model and those beside it. Raises ValueError naming what cannot be shown and why."""
    models: dict[str, FullModel | ReducedModel] = {loaded.subspace.name: ReducedModel.of(loaded)}
    for wanted in beside:
        name, model = another(wanted, file, loaded)
        models[name if name not in models else f"{name} ({wanted})"] = model
    return Player(models, trained_under(loaded), dt=dt)


def another(wanted: str, file: Path, loaded: Model) -> tuple[str, FullModel | ReducedModel]:
    """A model to show beside that of a file, with its name."""
    full, dim = loaded.full, loaded.subspace.dim
    if wanted == "full":
        return "full model", full
    if wanted == "modal":
        subspace = modal(full, dim)
    elif wanted == "pca":
        folder = file.parent / "snapshots"
        if not folder.is_dir():
            raise ValueError(f"PCA needs the snapshots that the model was trained on, in {folder}; compare with modal instead")
        poses = Snapshots.load(folder, full).split("train").poses()
        subspace = pca(poses[:: max(1, len(poses) // POSES)], dim, mass=full.mass)
    elif wanted.endswith(".hod"):
        other = Model.load(wanted, full=full)
        return other.subspace.name, ReducedModel.of(other)
    else:
        raise ValueError(f"beside is {wanted!r}; expected {BESIDE}")
    return subspace.name, ReducedModel(full, subspace)
