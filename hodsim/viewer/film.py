"""Pictures and films of a player, drawn off screen: simulated time goes by frame by frame, however long a frame takes to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hodsim.report import film
from hodsim.viewer.player import Player
from hodsim.viewer.scene import Scene
from hodsim.viewer.window import set_up, tear_down

FILMS, PICTURES = (".mp4", ".gif"), (".png",)


def render(
    player: Player,
    path: Path,
    *,
    frames: int,
    fps: float = 30.0,
    title: str = "hodsim",
    field: str = "none",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a number of frames [1/s] of a player's motion and write them as a film (.mp4, .gif), or the last one as a picture (.png).

    Raises ValueError for another suffix, OSError where nothing can be drawn."""
    if path.suffix not in FILMS + PICTURES:
        raise ValueError(f"output is {path}; expected a name that ends in one of {', '.join(FILMS + PICTURES)}")
    set_up(title, off_screen=True)
    scene = Scene(player, panel=False)
    scene.field = field

    def advance() -> Iterator[int]:
        for number in range(1, frames + 1):
            player.advance(1 / fps, patient=True)
            yield number
            if progress is not None:
                progress(number, frames)

    def images() -> Iterator[np.ndarray]:
        for _ in advance():
            scene.update()
            yield scene.image()

    try:
        if path.suffix in FILMS:
            return film(path, images(), fps=fps)
        for _ in advance():
            pass
        scene.update()
        return scene.save_picture(path)
    finally:
        tear_down()
