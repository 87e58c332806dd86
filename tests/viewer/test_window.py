"""The real window, drawn by Mesa on a virtual screen, and the same off screen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cases import small_beam
from hodsim.subspace import Model, modal

SECONDS = 120  # for one window: Mesa compiles its shaders on a busy machine


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    full = small_beam()
    return Model(full, modal(full, 6), {"dt": 0.01}).save(tmp_path_factory.mktemp("model") / "beam.hod")


@pytest.fixture(scope="module")
def screen():
    """The name of a virtual X display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb (Debian: xvfb, libgl1-mesa-dri)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


def view(*arguments: object, display: str | None, folder: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if display is not None:
        environment["DISPLAY"] = display
    command = [sys.executable, "-c", "from hodsim.apps.cli import main; main()", "view", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS)


def body(picture: Path) -> np.ndarray:
    """Mask of the pixels of the body: clearly blue."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return pixels[..., 2] - pixels[..., 0] > 40


def test_the_window_shows_the_body_bending_with_the_load(model, screen, tmp_path):
    centres = []
    for load in (-0.3, 0.3):
        picture = tmp_path / f"{load}.png"
        run = view(model, "--frames", 60, "--picture", picture, "--body", 0, 0, load, display=screen, folder=tmp_path)
        assert run.returncode == 0, run.stderr
        assert "Traceback" not in run.stderr
        mask = body(picture)
        assert 0.01 < mask.mean() < 0.5
        rows, columns = np.nonzero(mask)
        end = columns > columns.max() - 0.15 * np.ptp(columns)  # the free end is on the right
        centres.append(rows[end].mean())
    assert centres[0] - centres[1] > 20  # loaded downwards it is lower on the screen, by pixels


def test_without_a_display_frames_are_drawn_off_screen(model, tmp_path):
    run = view(model, "--frames", 3, "--picture", tmp_path / "egl.png", display=None, folder=tmp_path)
    if run.returncode != 0 and "EGL" in run.stderr + run.stdout:
        pytest.skip("needs EGL (Debian: libegl1)")
    assert run.returncode == 0, run.stderr
    assert body(tmp_path / "egl.png").any()


def test_without_a_display_a_window_is_refused_in_words(model, tmp_path):
    run = view(model, display=None, folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("hodsim: no display to open a window on")
    assert "Traceback" not in run.stderr


def test_a_file_that_is_no_model_is_refused_before_a_window_opens(tmp_path):
    (tmp_path / "foreign.hod").write_bytes(b"nothing of ours")
    run = view(tmp_path / "foreign.hod", display=":99999", folder=tmp_path)
    assert run.returncode == 1
    assert "foreign.hod is corrupt or not a hodsim model file" in run.stderr
    assert "Traceback" not in run.stderr
