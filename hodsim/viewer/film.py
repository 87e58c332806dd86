"""Films and pictures of a player: drawn off screen, where simulated time goes by frame by frame, or taken live from the window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from threading import Thread

import numpy as np

from hodsim.report import film
from hodsim.viewer.player import Player
from hodsim.viewer.scene import Scene
from hodsim.viewer.screen import set_up, tear_down

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

    field: a key of `FIELDS` to colour the bodies by. However long a frame takes to draw, it shows 1 / fps of simulated time.
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


class LiveFilm:
    """A film of what a window shows, encoded on the side while it goes on. path is there when `done`, or `error` says why not."""

    def __init__(self, path: Path, *, fps: float = 30.0):
        self.path, self._fps = path, fps
        self.error: str | None = None
        self._start, self._taken, self._size = 0.0, 0, None
        self.ended = False  # no more images are taken
        self._frames: Queue[np.ndarray | None] = Queue(maxsize=90)  # a slow encoder slows the drawing, never the motion
        self._thread = Thread(target=self._encode, daemon=True)
        self._thread.start()

    def take(self, time: float, image: Callable[[], np.ndarray]) -> None:
        """Show an image at a simulated time [s], for as many frames as have gone by since the last one."""
        if self.ended:
            return
        if self._taken == 0 or time < self._start:  # a reset starts the clock anew
            self._start, self._taken = time, 0
        due = int((time - self._start) * self._fps + 1e-9) + 1 - self._taken
        if due <= 0:
            return
        shot = image()
        if self._size is not None and shot.shape != self._size:  # the window was resized, a film cannot be
            self.finish()
            return
        self._size = shot.shape
        for _ in range(due):
            self._put(shot)
        self._taken += due

    def finish(self) -> None:
        """No more images; the file is written meanwhile."""
        if not self.ended:
            self.ended = True
            self._put(None)

    @property
    def waiting(self) -> int:
        """Frames that are still to be encoded."""
        return self._frames.qsize()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        self._thread.join()

    def _put(self, shot: np.ndarray | None) -> None:
        while not self.done:
            try:
                return self._frames.put(shot, timeout=0.1)
            except Full:  # look whether the encoder is still there
                continue

    def _encode(self) -> None:
        first = self._frames.get()
        if first is None:
            self.error = f"{self.path} would have no frames and is not written"
            return
        try:
            film(self.path, chain([first], self._others()), fps=self._fps)
        except (OSError, RuntimeError, ValueError) as error:
            self.error = f"{self.path} could not be written: {error}"

    def _others(self) -> Iterator[np.ndarray]:
        while (shot := self._frames.get()) is not None:
            yield shot
