"""Snapshots: the sweep is a function of its seed, the files survive interruptions, bad ones are refused."""

import os
from dataclasses import replace

import numpy as np
import pytest

from cases import small_beam
from hodsim import storage
from hodsim.dynamics import simulate
from hodsim.fem import FullModel, NeoHookean
from hodsim.snapshots import LoadCase, Periodic, Piecewise, Snapshots, bending_loads, generate_snapshots, sweep

DT, STEPS = 0.01, 5


@pytest.fixture
def make(tmp_path):
    def make(cases, directory=tmp_path, full=None, **options):
        full = full or small_beam()
        return generate_snapshots(full, bending_loads(full), cases, dt=DT, steps=STEPS, directory=directory, **options)

    return make


def test_a_longer_sweep_contains_the_shorter_one():
    short, long = sweep(train=7, test=3, seed=5), sweep(train=12, validation=2, test=4, seed=5)
    assert {case.name: case for case in long}.items() >= {case.name: case for case in short}.items()
    assert sweep(train=7, test=3, seed=6) != short


def test_a_sweep_has_every_family_in_both_kinds_of_signal():
    cases = sweep(train=12)
    seen = {(shape, type(signal)) for case in cases for shape, signal in case.terms}
    assert seen >= {(shape, kind) for shape in ("tip", "body", "twist") for kind in (Piecewise, Periodic)}
    assert any(len(signal.values) == 1 for case in cases for _, signal in case.terms if isinstance(signal, Piecewise))  # gravity


def test_load_cases_survive_json():
    for case in sweep(train=12, test=12):
        assert LoadCase.from_json(case.to_json()) == case


def test_signals_have_their_closed_forms():
    steps = Piecewise((0.5, 1.0), ((1.0,), (2.0,)))
    assert [steps(t)[0] for t in (0.1, 0.5, 0.51, 1.0, 7.0)] == [1, 1, 2, 2, 2]
    np.testing.assert_allclose(Periodic((2.0, 0.0), 0.25, np.pi / 2)(1.0), [0, 0], atol=1e-15)
    np.testing.assert_allclose(Periodic((2.0, 1.0), 0.25, 0.0)(1.0), [2, 1])


def test_bending_loads_deflect_the_linear_model_as_asked():
    full = small_beam()
    shapes = bending_loads(full, reach=0.5, twist=0.3)
    solve = full.solver.factor(full.rest_stiffness.data).solve
    tip = full.mesh.vertices[:, 0] > 0.4 - 1e-9
    deflection = full.full_displacement(solve(shapes["tip"][:, 1]))[tip].mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(deflection), 0.5 * 0.4, rtol=1e-9)
    turned = full.full_displacement(solve(shapes["twist"][:, 0]))[tip]
    arm = full.mesh.vertices[tip] - [0.4, 0.05, 0.05]
    angle = np.sum(np.cross([1, 0, 0], arm) * turned) / np.sum(np.cross([1, 0, 0], arm) ** 2)
    np.testing.assert_allclose(angle, 0.3, rtol=1e-9)


def test_body_load_is_a_uniform_acceleration():
    full = small_beam()
    body = bending_loads(full)["body"]
    total = body.sum(axis=0)  # every column acts along its own axis with the same magnitude
    per_axis = np.array([body[full.free % 3 == i].sum(axis=0) for i in range(3)])
    np.testing.assert_allclose(per_axis, np.diag(total), atol=1e-12 * np.abs(total).max())


def test_a_case_is_the_full_models_own_motion(make):
    full, (case,) = small_beam(), sweep(train=1)
    made = make([case])
    states = list(simulate(full, full.state(), DT, force=case.load(bending_loads(full)), steps=STEPS))
    np.testing.assert_array_equal(made.displacements[0], np.float32([state.q for state in states]))
    np.testing.assert_array_equal(made.velocities[0], np.float32([state.v for state in states]))


def test_splits_are_by_load_case(make):
    made = make(sweep(train=3, validation=1, test=2))
    assert [len(made.split(name).cases) for name in ("train", "validation", "test")] == [3, 1, 2]
    np.testing.assert_array_equal(made.split("test").displacements, made.displacements[[case.split == "test" for case in made.cases]])
    with pytest.raises(ValueError, match="split is 'tset'"):
        made.split("tset")


def test_an_interrupted_sweep_continues_and_ends_the_same(make, tmp_path):
    cases = sweep(train=4)
    whole = make(cases, tmp_path / "whole")

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(cases, tmp_path / "cut", progress=interrupt)
    kept = {file: os.stat(tmp_path / "cut" / file).st_mtime_ns for file in os.listdir(tmp_path / "cut")}
    assert len(kept) == 2
    progress = []
    resumed = make(cases, tmp_path / "cut", progress=lambda done, total: progress.append((done, total)))
    assert progress == [(2, 4), (3, 4), (4, 4)]
    assert all(os.stat(tmp_path / "cut" / file).st_mtime_ns == time for file, time in kept.items())
    np.testing.assert_array_equal(resumed.displacements, whole.displacements)


def test_two_processes_give_the_same_as_one(make, tmp_path):
    cases = sweep(train=3)
    alone, together = make(cases, tmp_path / "1"), make(cases, tmp_path / "2", workers=2)
    np.testing.assert_array_equal(alone.displacements, together.displacements)


def test_a_case_that_diverges_is_recorded_and_the_others_go_on(make, tmp_path):
    good = sweep(train=2)
    wild = LoadCase("train-0009", "train", (("tip", Piecewise((1.0,), ((0.0, 1e9, 0.0),))),))
    full = small_beam(material=NeoHookean(youngs_modulus=1e5, poisson_ratio=0.3))
    made = make([good[0], wild, good[1]], full=full)
    assert [case.name for case in made.cases] == ["train-0000", "train-0001"]
    assert len(made.failures) == 1
    assert made.failures[0].startswith("train-0009: step 1 at time 0.01 s with dt = 0.01 s did not converge")


def test_cases_may_have_any_name_and_come_in_the_order_of_their_splits(make):
    trained, tested = sweep(train=1, test=1)
    made = make([replace(tested, name="a pull"), replace(trained, name="zigzag")])
    assert [case.name for case in made.cases] == ["zigzag", "a pull"]


def test_snapshots_of_another_model_are_refused(make, tmp_path):
    make(sweep(train=1))
    beam = small_beam()
    other = FullModel(beam.mesh, beam.material, density=2e3, pinned=beam.pinned)
    with pytest.raises(ValueError, match="belongs to another model"):
        Snapshots.load(tmp_path, other)


def test_a_corrupt_file_is_named(make, tmp_path):
    make(sweep(train=1))
    file = tmp_path / "train-0000.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"train-0000\.safetensors is corrupt"):
        Snapshots.load(tmp_path, small_beam())


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `hodsim snapshots` first"):
        Snapshots.load(tmp_path, small_beam())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_a_disk_that_fills_up_loses_no_finished_case(make, tmp_path, monkeypatch):
    first, second = sweep(train=2)
    make([first])
    real_open = open
    with monkeypatch.context() as patch:
        patch.setattr(storage, "open", lambda path, mode: real_open("/dev/full", mode), raising=False)
        with pytest.raises(OSError, match=r"train-0001\.safetensors could not be saved: No space left on device"):
            make([first, second])
    assert sorted(os.listdir(tmp_path)) == ["train-0000.safetensors"]
    assert len(make([first, second]).cases) == 2
