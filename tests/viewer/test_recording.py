"""Recordings: a session replayed is the session; files that do not fit are refused in words."""

import json

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.fem import Rayleigh, StVK
from hodsim.reduced import ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.viewer import Player, Recording

LOADS = {"tip": 3, "body": 3, "twist": 1}


def make() -> Player:
    full = small_beam()
    return Player({"curved": ReducedModel(full, curved_subspace(full))}, bending_loads(full, reach=0.2, twist=0.2), dt=0.01)


def session() -> Player:
    """Somebody plays: loads, pulls, another scheme and time step, frames of any length."""
    player, generator = make(), np.random.default_rng(3)
    for frame in range(12):
        player.amplitudes["tip"][:] = generator.uniform(-0.3, 0.3, 3)
        if frame == 3:
            player.pulls[player.tip] = player.full.mesh.vertices[player.tip] + generator.uniform(-0.05, 0.05, 3)
        if frame == 5:
            player.scheme, player.dt, player.damping = "BDF2", 0.008, Rayleigh(mass=0.5, stiffness=0.002)
        if frame == 7:
            player.pulls.clear()
            player.pose = np.array([0.1, 0.2, 0.0])
        if frame == 9:
            player.pose = None
        player.advance(generator.uniform(0.0, 0.05), patient=True)
    return player


def test_a_replay_repeats_the_session_exactly(tmp_path):
    player = session()
    file = player.recording.save(tmp_path / "session.json")
    other = make()
    other.replay(Recording.load(file, other.full, LOADS))
    while not other.paused:
        other.advance(0.02)  # another frame rate
    assert other.replaying is None
    assert other.recording == player.recording
    np.testing.assert_array_equal(other.bodies[0].state.q, player.bodies[0].state.q)
    assert other.time == player.time


def test_duration_is_the_time_that_the_session_took():
    player = session()
    assert player.recording.duration == pytest.approx(player.time)


def test_only_changes_are_written():
    player = make()
    player.advance(0.1)
    player.amplitudes["body"][2] = -0.1
    player.advance(0.1)
    assert [step for step, _ in player.recording.changes] == [0, 10]
    assert player.recording.steps == 20


def test_a_reset_starts_a_new_recording():
    player = session()
    player.reset()
    assert player.recording.steps == 0 and not player.recording.changes


@pytest.fixture
def data(tmp_path) -> dict:
    return json.loads(session().recording.save(tmp_path / "good.json").read_text())


def corrupted(data: dict, tmp_path, change) -> Recording:
    change(data)
    (tmp_path / "bad.json").write_text(json.dumps(data))
    return Recording.load(tmp_path / "bad.json", small_beam(), LOADS)


REFUSALS = {
    "format": (lambda data: data.update(format="something"), "format is 'something'"),
    "steps missing": (lambda data: data.pop("steps"), "corrupt or not a recording"),
    "no changes": (lambda data: data.update(changes=[]), "no steps or steps out of order"),
    "order": (lambda data: data["changes"].reverse(), "no steps or steps out of order"),
    "length": (lambda data: data.update(steps=10**400), "expected at most 1000000000"),
    "scheme": (lambda data: data["changes"][0][1].update(scheme="leapfrog"), "scheme is 'leapfrog'"),
    "dt": (lambda data: data["changes"][0][1].update(dt=-1.0), "dt is -1.0"),
    "load": (lambda data: data["changes"][0][1]["loads"].update(tip=[0.0]), "expected {'tip': 3"),
    "NaN": (lambda data: data["changes"][0][1]["loads"].update(tip=[0.0, float("nan"), 0.0]), "not finite"),
    "damping": (lambda data: data["changes"][0][1].update(damping={"mass": -1.0, "stiffness": 0.0}), "coefficient is -1.0"),
    "no damping": (lambda data: data["changes"][0][1].pop("damping"), "corrupt or not a recording"),
    "vertex": (lambda data: data["changes"][0][1].update(pulls={"99999": [0, 0, 0]}), "pulls vertex 99999"),
    "pose": (lambda data: data["changes"][0][1].update(pose="no"), "could not convert"),
}


@pytest.mark.parametrize("change, message", REFUSALS.values(), ids=REFUSALS)
def test_refuses_a_recording_that_does_not_fit(data, tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        corrupted(data, tmp_path, change)
    assert "bad.json" in str(error.value)


def test_a_recording_from_before_damping_was_set_has_that_of_the_body(data, tmp_path):
    data["format"] = "hodsim recording 1"
    for _, inputs in data["changes"]:
        del inputs["damping"]
    damped = small_beam(damping=Rayleigh(mass=0.5))
    data["fingerprint"] = damped.fingerprint
    (tmp_path / "old.json").write_text(json.dumps(data))
    recording = Recording.load(tmp_path / "old.json", damped, LOADS)
    assert {inputs.damping for _, inputs in recording.changes} == {Rayleigh(mass=0.5)}


def test_refuses_the_recording_of_another_body(tmp_path):
    file = session().recording.save(tmp_path / "session.json")
    other = small_beam(material=StVK(youngs_modulus=2e5, poisson_ratio=0.3))
    with pytest.raises(ValueError, match="made with another body"):
        Recording.load(file, other, LOADS)


def test_refuses_what_is_no_recording(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Recording.load(tmp_path / "none.json", small_beam(), LOADS)
    (tmp_path / "text.json").write_bytes(b"\xff\xfe nothing")
    with pytest.raises(ValueError, match="corrupt or not a recording"):
        Recording.load(tmp_path / "text.json", small_beam(), LOADS)


def test_refuses_poses_of_another_latent_dimension():
    player = session()
    full = small_beam()
    other = Player({"two": ReducedModel(full, curved_subspace(full, 2))}, bending_loads(full), dt=0.01)
    with pytest.raises(ValueError, match="holds 3 latent coordinates still; expected 2"):
        other.replay(player.recording)
