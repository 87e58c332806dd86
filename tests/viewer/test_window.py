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
from PIL import Image, ImageGrab, ImageSequence

from cases import curved_subspace, small_beam
from hodsim.apps.view import show
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.subspace import Model
from hodsim.viewer import Player
from hodsim.viewer.theme import LIGHTS

SECONDS = 60  # for one thing to happen: software draws a few frames a second on a busy machine
PROGRAM = [sys.executable, str(Path(__file__).with_name("watched_window.py"))]
KEPT = os.environ.get("HODSIM_SCREENSHOTS")  # a folder: pictures of the screen and what is drawn off screen are kept there


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

    def __init__(self, display: str, folder: Path, *arguments: object, **variables: str):
        self._environment, self._display = {**environment(display), **variables}, display
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
        """Move the mouse to a place in the window, until the window has seen it there."""
        _, (left, top) = self.place()
        x, y = round(x), round(y)
        self.xdotool("mousemove", left + x, top + y)
        self.until(f"the mouse is at {x}, {y}", lambda frame: np.allclose(frame["mouse"], [x, y], atol=1.5))

    def press(self) -> None:
        self.xdotool("mousedown", 1)
        self.until("the mouse is pressed", lambda frame: frame["down"])

    def release(self) -> None:
        self.xdotool("mouseup", 1)
        self.until("the mouse is released", lambda frame: not frame["down"])

    def hold(self, key: str, seen: str) -> None:
        self.xdotool("keydown", key)
        self.until(f"{key} is down", lambda frame: frame[seen])

    def let_go(self, key: str, seen: str) -> None:
        self.xdotool("keyup", key)
        self.until(f"{key} is up", lambda frame: not frame[seen])

    def click(self, label: str) -> None:
        left, top, right, bottom = self.now["places"][label]
        self.point((left + right) / 2, (top + bottom) / 2)
        self.press()
        self.release()

    def slide(self, label: str, start: float, end: float, *, sliders: int = 3) -> None:
        """Drag the last of a row of sliders, its label right of it, from one fraction of its length to another."""
        left, top, right, bottom = self.now["places"][label]
        right = left + 248
        left = right - (right - left) / sliders
        self.point(left + start * (right - left), (top + bottom) / 2)
        self.press()
        self.point(left + end * (right - left), (top + bottom) / 2)
        self.release()

    def picture(self, name: str) -> np.ndarray:
        """What is on the screen, RGB (height, width, 3); kept where pictures are."""
        image = ImageGrab.grab(xdisplay=self._display).convert("RGB")
        keep(image, name)
        return np.asarray(image).astype(int)

    def close(self) -> int:
        """Ask the window to close, as its close button does; the exit status."""
        send_delete(self._display, self.place()[0])
        return self.process.wait(timeout=SECONDS)


def keep(image: Image.Image, name: str) -> None:
    if KEPT:
        Path(KEPT).mkdir(parents=True, exist_ok=True)
        image.save(Path(KEPT) / f"{name}.png")


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
    start = live.now["tip"][2]
    live.slide("tip xyz", 0.5, 0.1)
    assert live.now["loads"]["tip"][2] < -0.5
    live.until("the tip hangs low", lambda frame: frame["tip"][2] < start - 0.005)  # 0.4 m out; this subspace is stiff
    live.picture("load")
    live.click("Let go of everything")
    assert live.now["loads"]["tip"] == [0.0, 0.0, 0.0]


def test_the_light_shows_how_far_the_model_is_trusted(live):
    def lit(level: int) -> int:
        colour = np.round(255 * np.array(LIGHTS[level][:3]))
        return int((np.abs(live.picture(f"light-{level}") - colour).max(axis=2) <= 2).sum())

    live.slide("tip xyz", 0.5, 0.02)
    live.until("it is not trusted", lambda frame: frame["trust"][0] == 2)
    live.click("Pause")
    level = live.now["trust"][0]
    assert lit(level) > 50 and not any(lit(other) > 50 for other in range(3) if other != level)
    live.click("Reset")
    live.click("Let go of everything")
    live.until("it is trusted again", lambda frame: frame["trust"][0] == 0)


def test_pause_step_reset_and_run(live):
    live.click("Pause")
    assert live.now["paused"]
    before = live.now["time"]
    live.point(700, 600)  # some frames go by
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
    held = live.until("a vertex is held", lambda frame: frame["held"] is not None)
    assert held["pulls"] == [held["held"]]
    start = held["tip"][2]
    live.point(x - 20, y - 150)
    live.until("the tip follows up", lambda frame: frame["tip"][2] > start + 0.01)
    live.picture("pull")
    live.release()
    live.until("it swings back", lambda frame: frame["held"] is None and not frame["pulls"] and frame["tip"][2] < start + 0.01)


def test_several_vertices_are_pinned_where_they_are_let_go_of_with_shift(live):
    live.click("Reset")
    start = live.now["tip"][2]
    for number, where in ((1, "on_screen"), (2, "middle")):
        x, y = live.now[where]
        live.point(x, y)
        live.press()
        live.until("a vertex is held", lambda frame: frame["held"] is not None)
        live.point(x, y - 60)
        live.hold("shift", "shift")
        live.release()
        live.let_go("shift", "shift")
        live.until(f"{number} pins are left", lambda frame, number=number: frame["held"] is None and len(frame["pulls"]) == number)
    live.picture("pins")
    later = live.now["time"] + 0.3
    held = live.until("they hold", lambda frame: frame["time"] > later)
    assert len(set(held["pulls"])) == 2 and held["tip"][2] > start + 0.005
    live.click("Let go of everything")
    assert not live.now["pulls"]


def test_a_key_pushes_the_body_away_from_the_viewer(live):
    live.click("Reset")
    x, y = live.now["on_screen"]
    live.point(x, y)
    start, ahead = np.array(live.now["tip"]), np.array(live.now["ahead"])
    live.hold("f", "F")
    live.until("it gives way", lambda frame: frame["held"] is not None and (frame["tip"] - start) @ ahead > 0.003)
    live.picture("push")
    live.let_go("f", "F")
    live.until("it swings back", lambda frame: not frame["pulls"] and (frame["tip"] - start) @ ahead < 0.002)


def test_gravity_turns_with_the_knob_of_its_dial(live):
    left, top, right, bottom = live.now["places"]["gravity"]
    x, y = (left + right) / 2, (top + bottom) / 2
    live.point(x, y)
    live.press()
    live.point(x, top + 1)
    live.release()
    pull = np.array(live.now["loads"]["body"])
    assert np.linalg.norm(pull) > 0.9 and pull[2] > 0.8  # up, seen from a little above
    live.click("Let go of everything")
    assert live.now["loads"]["body"] == [0.0, 0.0, 0.0]


def test_damping_and_scheme_are_set_while_it_moves(live):
    live.click("Time stepping")
    live.until("the section is open", lambda frame: "drag" in frame["places"])
    live.slide("drag", 0.0, 0.5, sliders=1)
    assert 3 < live.now["damping"] < 7  # of at most 10 per second
    live.click("scheme")
    left, top, _, bottom = live.now["places"]["scheme"]
    live.point(left + 40, bottom + 1.5 * (bottom - top))  # the second in the list that has opened
    live.press()
    live.release()
    live.until("it is another scheme", lambda frame: frame["scheme"] != "variational")
    before = live.now["time"]
    live.picture("time-stepping")
    live.until("it goes on", lambda frame: frame["time"] > before + 0.05 and frame["trouble"] is None)
    live.click("Time stepping")


def test_a_step_that_fails_pauses_with_its_reason_and_a_way_on(live, folder):
    (folder / "broken").touch()
    frame = live.until("it stops", lambda frame: frame["trouble"] is not None)
    assert frame["paused"] and "not finite" in frame["trouble"]
    live.picture("trouble")
    (folder / "broken").unlink()
    live.click("Let go of everything")
    live.click("Reset")
    live.until("it runs again", lambda frame: not frame["paused"] and frame["trouble"] is None and frame["time"] > 0)


def test_a_picture_and_a_recording_are_saved(live, folder):
    live.click("Picture")
    live.click("Recording")
    image = np.asarray(Image.open(folder / "picture-1.png").convert("RGB")).astype(int)
    assert 0.005 < blue(image).mean() < 0.5
    recording = json.loads((folder / "recording-1.json").read_text())
    assert recording["steps"] > 0
    live.picture("window")


def test_a_film_is_recorded_while_it_moves(live, folder):
    live.click("Film")
    live.slide("tip xyz", 0.5, 0.8)
    live.click("End film")
    deadline = time.monotonic() + SECONDS
    while not (folder / "film-1.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (folder / "film-1.mp4").stat().st_size > 1000


def test_closing_the_window_ends_the_process_cleanly(live, folder):
    assert live.close() == 0
    assert (folder / "stderr").read_text() == ""


def session(*, time: float, pull: tuple[float, float, float] | None = None) -> Player:
    """A body that is loaded for some seconds, half of them pulled, too."""
    full = small_beam()
    player = Player({"curved": ReducedModel(full, curved_subspace(full))}, bending_loads(full), dt=0.01)
    player.amplitudes["tip"][:] = (0, 0, -0.5)
    player.advance(time / 2, patient=True)
    if pull is not None:
        player.pulls[player.tip] = player.full.mesh.vertices[player.tip] + pull
    player.advance(time / 2, patient=True)
    return player


def test_a_replay_does_in_a_window_what_was_recorded_without_one(model, screen, tmp_path):
    player = session(time=0.4, pull=(0.0, 0.05, 0.05))
    player.recording.save(tmp_path / "session.json")
    window = Screen(screen, tmp_path, model, "--replay", "session.json")
    try:
        end = window.until("it is over", lambda frame: frame["paused"], seconds=240)  # the step may have to be compiled first
        assert not end["replaying"] and end["time"] == pytest.approx(0.4)
        np.testing.assert_array_equal(end["tip"], player.bodies[0].place(player.tip))
        assert window.close() == 0
    finally:
        window.process.kill()
        window.process.wait(timeout=10)


def test_the_body_moves_while_the_step_is_being_compiled(screen, model, tmp_path):
    window = Screen(screen, tmp_path, model, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    try:
        window.until("it moves", lambda frame: frame["compiling"] and frame["time"] > 0.3, seconds=240)
        window.picture("compiling")
        assert window.close() == 0
        assert (tmp_path / "stderr").read_text() == ""
    finally:
        window.process.kill()
        window.process.wait(timeout=10)


def blue(image: np.ndarray) -> np.ndarray:
    """Mask of the pixels of the first body, and of nothing else that is seen."""
    return image[..., 2] - image[..., 0] > 40


def draw(model: Path | None, folder: Path, *arguments: object) -> None:
    """`hodsim view` without a display; of the model that comes with hodsim, if none is given."""
    named = [] if model is None else [str(model)]
    command = [sys.executable, "-c", "from hodsim.apps.cli import main; main()", "view", *named, *map(str, arguments)]
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
