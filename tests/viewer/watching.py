"""What the tests of the window and those of pictures share: a window on a virtual screen with a real mouse, and what is seen."""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageGrab

from cases import curved_subspace, small_beam
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.viewer import Player

SECONDS = 60  # for one thing to happen: software draws a few frames a second on a busy machine
PROGRAM = [sys.executable, str(Path(__file__).with_name("watched_window.py"))]
KEPT = os.environ.get("HODSIM_SCREENSHOTS")  # a folder: pictures of the screen and what is drawn off screen are kept there


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

    def choose(self, label: str, entry: int) -> None:
        """Open a list and take the entry of this number, counted from zero."""
        self.click(label)
        left, top, _, bottom = self.now["places"][label]
        self.point(left + 40, bottom + (entry + 0.5) * (bottom - top))
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


def blue(image: np.ndarray) -> np.ndarray:
    """Mask of the pixels of the first body, and of nothing else that is seen."""
    return image[..., 2] - image[..., 0] > 40
