"""What the window shows, drawn without a display; and what is refused before anything is drawn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from hodsim.apps.view import show
from watching import SECONDS, blue, environment, keep, session


def draw(model: Path | None, folder: Path, *arguments: object) -> None:
    """`hodsim view` without a display; of the model that comes with hodsim, if none is given."""
    named = [] if model is None else [str(model)]
    command = [sys.executable, "-c", "from hodsim.apps import main; main()", "view", *named, *map(str, arguments)]
    run = subprocess.run(command, env=environment(None), cwd=folder, capture_output=True, text=True, timeout=2 * SECONDS)
    if "it needs EGL" in run.stderr:
        pytest.skip("needs EGL (Debian: libegl1, libgl1-mesa-dri)")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_a_recording_becomes_a_film_without_a_display(model, tmp_path):
    session(time=0.2).recording.save(tmp_path / "session.json")
    draw(model, tmp_path, "--replay", "session.json", "--headless", "--output", "film.gif")
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(Image.open(tmp_path / "film.gif"))]
    assert len(frames) == 6  # 0.2 s at 30 frames a second
    heights = [np.nonzero(blue(frame))[0].max() for frame in frames]
    assert heights[-1] > heights[0] + 5  # rows count downwards: it sinks


def test_a_load_shows_in_the_picture_drawn_without_a_display(model, tmp_path):
    draw(
        model, tmp_path, "--headless", "--output", "down.png", "--frames", 10, "--body", 0, 0, -0.3, "--beside", "modal", "--colour", "none"
    )
    keep(Image.open(tmp_path / "down.png"), "headless")
    image = np.asarray(Image.open(tmp_path / "down.png").convert("RGB")).astype(int)
    assert 0.005 < blue(image).mean() < 0.5


def test_the_beam_that_comes_with_hodsim_is_shown_where_no_model_is_named(tmp_path):
    draw(None, tmp_path, "--headless", "--output", "beam.png", "--frames", 20, "--beside", "full", "--beside", "modal")
    image = Image.open(tmp_path / "beam.png")
    keep(image, "beam")
    assert 0.005 < blue(np.asarray(image.convert("RGB")).astype(int)).mean() < 0.5


def refuse(monkeypatch, error: type[Exception], message: str, file: Path, **options) -> None:
    """Nothing may be drawn before the refusal."""
    monkeypatch.setattr("polyscope.init", lambda *_: pytest.fail("a window was opened"))
    with pytest.raises(error, match=message):
        show(file, **options)


def test_without_a_display_a_window_is_refused_in_words(model, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    refuse(monkeypatch, ValueError, "no display to open a window on; --headless", model)


def test_what_does_not_fit_is_refused_before_a_window_opens(model, monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":99999")
    foreign = tmp_path / "foreign.hod"
    foreign.write_bytes(b"nothing of ours")
    refuse(monkeypatch, FileNotFoundError, "none.hod", tmp_path / "none.hod")
    refuse(monkeypatch, ValueError, "foreign.hod is corrupt or not a hodsim model file", foreign)
    refuse(monkeypatch, ValueError, "foreign.hod is corrupt", model, beside=[str(foreign)])
    refuse(monkeypatch, ValueError, "PCA needs the snapshots", model, beside=["pca"])
    refuse(monkeypatch, ValueError, "beside is 'something'", model, beside=["something"])
    refuse(monkeypatch, ValueError, "foreign.hod is corrupt or not a recording", model, replay=foreign)
    refuse(monkeypatch, ValueError, "expected a name that ends in", model, output=Path("film.avi"))
    refuse(monkeypatch, ValueError, "draws to a file", model, headless=True)
    refuse(monkeypatch, ValueError, "colour is 'pink'", model, colour="pink")
    refuse(monkeypatch, ValueError, "dt is -1", model, dt=-1.0)
