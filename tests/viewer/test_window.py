"""The real window on a virtual screen, with a real mouse."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hodsim.viewer.theme import LIGHTS
from watching import SECONDS, Screen, blue, session


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
    live.choose("scheme", 1)
    live.until("it is another scheme", lambda frame: frame["scheme"] != "variational")
    before = live.now["time"]
    live.picture("time-stepping")
    live.until("it goes on", lambda frame: frame["time"] > before + 0.05 and frame["trouble"] is None)
    live.click("Time stepping")


def test_a_colour_is_chosen(live):
    live.click("Look")
    live.until("the section is open", lambda frame: "colour" in frame["places"])
    plain = blue(live.picture("plain")).mean()
    live.choose("colour", 1)
    live.until("it is coloured", lambda frame: frame["field"] == "displacement")
    assert blue(live.picture("coloured")).mean() < plain / 2
    live.choose("colour", 0)
    live.until("it is plain again", lambda frame: frame["field"] == "none")
    live.click("Look")


def test_the_subspace_is_walked_through_with_the_dynamics_off(live):
    live.click("Latent coordinates")
    live.until("the section is open", lambda frame: "q0" in frame["places"])
    live.click("hold still and walk through the subspace")
    still = live.until("it is held", lambda frame: frame["pose"] is not None)
    live.slide("q0", 0.5, 0.9, sliders=1)
    moved = live.until("it is put elsewhere", lambda frame: frame["pose"][0] > still["pose"][0] + 0.5)
    assert moved["pose"][1:] == still["pose"][1:]
    live.until("the body follows", lambda frame: not np.allclose(frame["tip"], still["tip"], atol=1e-3))
    live.picture("latent")
    live.click("hold still and walk through the subspace")
    live.until("it moves again", lambda frame: frame["pose"] is None and frame["time"] > moved["time"])
    live.click("Latent coordinates")
    live.click("Reset")                                              # let go so far out, it may come where no step succeeds
    live.until("it begins anew", lambda frame: not frame["paused"] and frame["trouble"] is None and frame["time"] < moved["time"])


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


def test_a_replay_does_in_a_window_what_was_recorded_without_one(model, screen, tmp_path):
    player = session(time=0.4, pull=(0.0, 0.05, 0.05))
    player.recording.save(tmp_path / "session.json")
    window = Screen(screen, tmp_path, model, "--replay", "session.json")
    try:
        end = window.until("it is over", lambda frame: frame["paused"], seconds=240)  # the step may have to be compiled first
        assert not end["replaying"] and end["time"] == pytest.approx(0.4)
        np.testing.assert_allclose(end["tip"], player.bodies[0].place(player.tip), rtol=1e-12)    # in another process: to rounding
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
