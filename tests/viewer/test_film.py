"""Live films: as many frames as simulated time has gone by, encoded on the side."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from hodsim.viewer.film import LiveFilm

BLACK, WHITE = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)


def shown(path) -> list[int]:
    """Brightness of each frame."""
    return [int(np.asarray(frame.convert("L")).mean()) for frame in ImageSequence.Iterator(Image.open(path))]


def test_a_film_runs_at_the_speed_of_simulated_time(tmp_path):
    film = LiveFilm(tmp_path / "film.gif", fps=10)
    asked = []
    for time, image in ((0.0, BLACK), (0.04, WHITE), (0.1, BLACK), (0.3, WHITE)):
        film.take(time, lambda image=image: asked.append(image) or image)
    film.finish()
    film.wait()
    assert film.error is None
    assert len(asked) == 3  # nothing is drawn between frames
    seconds = [frame.info["duration"] / 1e3 for frame in ImageSequence.Iterator(Image.open(film.path))]
    assert sum(seconds) == pytest.approx(0.4)
    assert shown(film.path)[0] == 0 and shown(film.path)[-1] == 255


def test_a_window_that_is_resized_ends_the_film(tmp_path):
    film = LiveFilm(tmp_path / "film.gif", fps=10)
    film.take(0.0, lambda: BLACK)
    film.take(0.1, lambda: WHITE[:20])
    film.wait()
    assert film.done and film.error is None
    assert shown(film.path) == [0]


def test_a_film_without_frames_is_not_written(tmp_path):
    film = LiveFilm(tmp_path / "film.gif")
    film.finish()
    film.wait()
    assert "no frames" in film.error
    assert not film.path.exists()


def test_an_encoder_that_fails_says_why_and_does_not_block_the_window(tmp_path):
    film = LiveFilm(tmp_path / "film.avi")
    for frame in range(200):  # more than the queue holds
        film.take(frame / 30, lambda: BLACK)
    film.wait()
    assert "film.avi could not be written" in film.error
