"""The real window on a virtual screen, with a real mouse; and the same drawn off screen."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cases import curved_subspace, small_beam
from hodsim.apps.view import show
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.subspace import Model
from hodsim.viewer import Player

SECONDS = 60  # for one thing to happen: software draws a few frames a second on a busy machine
PROGRAM = [sys.executable, str(Path(__file__).with_name("watched_window.py"))]
KEPT = os.environ.get("HODSIM_SCREENSHOTS")  # a folder: the pictures of the screen are kept there


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    full = small_beam()
    return Model(full, curved_subspace(full), {"dt": 0.01}).save(tmp_path_factory.mktemp("model") / "beam.hod")


@pytest.fixture(scope="module")
def screen():
    """The name of a virtual X display."""
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (Debian: xvfb, xdotool, libgl1-mesa-dri)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1320x840x24"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def environment(display: str | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return kept if display is None else {**kept, "DISPLAY": display}


class Screen:
    """A viewer on a virtual screen: what it tells, and the mouse."""

    def __init__(self, display: str, folder: Path, *arguments: object):
        self._environment, self._display = environment(display), display
        self.process = subprocess.Popen(
            [*PROGRAM, "view", *map(str, arguments)],
            env=self._environment, cwd=folder, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"), text=True,
        )  # fmt: skip
        self.frames: list[dict] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):  # the command speaks, too
                self.frames.append(json.loads(line))

    @property
    def now(self) -> dict:
        return self.frames[-1]

    def until(self, what: str, holds: Callable[[dict], bool], *, seconds: float = SECONDS) -> dict:
        """Wait for a frame that has something; from now on, not in the past."""
        seen, deadline = len(self.frames), time.monotonic() + seconds
        while time.monotonic() < deadline:
            for frame in self.frames[seen:]:
                if holds(frame):
                    return frame
                seen += 1
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"no frame where {what}; exit status {self.process.poll()}, last frame {self.frames[-1:]}")

    def xdotool(self, *words: object) -> str:
        command = ["xdotool", *map(str, words)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=SECONDS).stdout

    def place(self) -> tuple[int, tuple[int, int]]:
        """The X window and its corner on the screen."""
        identity = self.xdotool("search", "--name", "hodsim").split()[0]
        shell = dict(line.split("=") for line in self.xdotool("getwindowgeometry", "--shell", identity).split())
        return int(identity), (int(shell["X"]), int(shell["Y"]))

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window; the window sees it a frame later."""
        _, (left, top) = self.place()
        self.xdotool("mousemove", round(left + x), round(top + y))
        self.next_frames(3)

    def next_frames(self, number: int) -> None:
        goal = len(self.frames) + number
        self.until("time goes on", lambda _: len(self.frames) >= goal)

    def press(self) -> None:
        self.xdotool("mousedown", 1)
        self.next_frames(3)

    def release(self) -> None:
        self.xdotool("mouseup", 1)
        self.next_frames(3)

    def click(self, label: str) -> None:
        left, top, right, bottom = self.now["places"][label]
        self.point((left + right) / 2, (top + bottom) / 2)
        self.press()
        self.release()

    def slide(self, label: str, start: float, end: float) -> None:
        """Drag the last of three sliders, its label right of it, from one fraction of its length to another."""
        left, top, right, bottom = self.now["places"][label]
        right -= 60
        left = right - (right - left) / 3
        self.point(left + start * (right - left), (top + bottom) / 2)
        self.press()
        self.point(left + end * (right - left), (top + bottom) / 2)
        self.release()

    def close(self) -> int:
        """Ask the window to close, as its close button does; the exit status."""
        send_delete(self._display, self.place()[0])
        return self.process.wait(timeout=SECONDS)


def send_delete(display: str, window: int) -> None:
    """Send the message WM_DELETE_WINDOW that a window manager sends when its close button is pressed."""
    x11 = ctypes.CDLL("libX11.so.6")

    class Message(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int), ("display", ctypes.c_void_p),
            ("window", ctypes.c_ulong), ("message", ctypes.c_ulong), ("format", ctypes.c_int), ("data", ctypes.c_long * 5),
            ("room", ctypes.c_long * 24),
        ]  # fmt: skip

    x11.XOpenDisplay.restype, x11.XInternAtom.restype = ctypes.c_void_p, ctypes.c_ulong
    x11.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    x11.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    x11.XFlush.argtypes = x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    connection = x11.XOpenDisplay(display.encode())
    client_message, atom = 33, x11.XInternAtom(connection, b"WM_DELETE_WINDOW", 0)
    message = Message(client_message, 0, 1, connection, window, x11.XInternAtom(connection, b"WM_PROTOCOLS", 0), 32, (atom, 0, 0, 0, 0))
    x11.XSendEvent(connection, window, 0, 0, ctypes.byref(message))
    x11.XFlush(connection)
    x11.XCloseDisplay(connection)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("window")


@pytest.fixture(scope="module")
def live(model, screen, folder):
    """A window with the network and the full model beside it, no load on them."""
    window = Screen(screen, folder, model, "--beside", "full", "--body", 0, 0, 0)
    try:
        window.until("the body is shown", lambda frame: frame["time"] > 0, seconds=240)  # the step may have to be compiled first
        yield window
    finally:
        window.process.kill()
        window.process.wait(timeout=10)


def test_a_slider_bends_the_body(live):
    live.slide("tip xyz", 0.5, 0.1)
    assert live.now["loads"]["tip"][2] < -0.5
    live.until("the tip hangs low", lambda frame: frame["tip"][2] < 0.08)  # it is 0.1 m high, 0.4 m out
    live.click("Let go of everything")
    assert live.now["loads"]["tip"] == [0.0, 0.0, 0.0]


def test_pause_step_reset_and_run(live):
    live.click("Pause")
    assert live.now["paused"]
    before = live.now["time"]
    live.next_frames(5)
    assert live.now["time"] == before
    live.click("Step")
    assert live.now["time"] == pytest.approx(before + 0.01)
    live.click("Reset")
    frame = live.until("it runs again from the start", lambda frame: not frame["paused"])
    assert frame["time"] < before


def test_the_mouse_pulls_the_tip_and_lets_it_swing(live):
    live.click("Reset")
    x, y = live.now["on_screen"]
    live.point(x, y)
    live.press()
    assert live.now["held"] is not None and live.now["pulls"] == 1
    start = live.now["tip"][2]
    live.point(x - 20, y - 150)
    live.until("the tip follows up", lambda frame: frame["tip"][2] > start + 0.01)
    live.xdotool("keydown", "shift")
    live.next_frames(2)
    live.release()
    live.xdotool("keyup", "shift")
    assert live.now["held"] is None and live.now["pulls"] == 1  # pinned there
    live.click("Let go of everything")
    assert live.now["pulls"] == 0
    live.until("it swings back", lambda frame: frame["tip"][2] < start + 0.01)


def test_a_picture_and_a_recording_are_saved(live, folder):
    live.click("Save picture")
    live.click("Save recording")
    image = np.asarray(Image.open(folder / "picture-1.png").convert("RGB")).astype(int)
    assert 0.005 < blue(image).mean() < 0.5
    recording = json.loads((folder / "recording-1.json").read_text())
    assert recording["steps"] > 0
    if KEPT and shutil.which("import"):
        Path(KEPT).mkdir(parents=True, exist_ok=True)
        subprocess.run(["import", "-window", "root", str(Path(KEPT) / "window.png")], env=live._environment, timeout=SECONDS)


def test_a_film_is_recorded_while_it_moves(live, folder):
    live.click("Record film")
    live.slide("tip xyz", 0.5, 0.8)
    live.click("End film")
    deadline = time.monotonic() + SECONDS
    while not (folder / "film-1.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (folder / "film-1.mp4").stat().st_size > 1000


def test_closing_the_window_ends_the_process_cleanly(live, folder):
    assert live.close() == 0
    assert (folder / "stderr").read_text() == ""


def blue(image: np.ndarray) -> np.ndarray:
    """Mask of the pixels of the first body, and of nothing else that is seen."""
    return image[..., 2] - image[..., 0] > 40


def draw(model: Path, folder: Path, *arguments: object) -> None:
    """`hodsim view` without a display."""
    command = [sys.executable, "-c", "from hodsim.apps.cli import main; main()", "view", str(model), *map(str, arguments)]
    run = subprocess.run(command, env=environment(None), cwd=folder, capture_output=True, text=True, timeout=2 * SECONDS)
    if "it needs EGL" in run.stderr:
        pytest.skip("needs EGL (Debian: libegl1, libgl1-mesa-dri)")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_a_recording_becomes_a_film_without_a_display(model, tmp_path):
    full = small_beam()
    player = Player({"curved": ReducedModel(full, curved_subspace(full))}, bending_loads(full), dt=0.01)
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    player.advance(0.2, patient=True)
    player.recording.save(tmp_path / "session.json")
    draw(model, tmp_path, "--replay", "session.json", "--headless", "--output", "film.gif")
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(Image.open(tmp_path / "film.gif"))]
    assert len(frames) == 6  # 0.2 s at 30 frames a second
    heights = [np.nonzero(blue(frame))[0].max() for frame in frames]
    assert heights[-1] > heights[0] + 5  # rows count downwards: it sinks


def test_a_load_shows_in_the_picture_drawn_without_a_display(model, tmp_path):
    draw(
        model, tmp_path, "--headless", "--output", "down.png", "--frames", 10, "--body", 0, 0, -0.3, "--beside", "modal", "--colour", "none"
    )
    image = np.asarray(Image.open(tmp_path / "down.png").convert("RGB")).astype(int)
    assert 0.005 < blue(image).mean() < 0.5


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
