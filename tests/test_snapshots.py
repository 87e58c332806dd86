"""Snapshots: the sweep is a function of its seed, the files survive interruptions, bad ones are refused."""

import os
import signal
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from cases import small_beam
from hodsim import storage
from hodsim.dynamics import simulate
from hodsim.fem import FullModel, NeoHookean
from hodsim.snapshots import BENDING, LoadCase, Periodic, Piecewise, Record, Snapshots, bending_loads, generate_snapshots, sweep
from hodsim.snapshots.design import FAMILIES, KINDS, families
from hodsim.snapshots.generate import _ctrl_c_remembered
from hodsim.snapshots.trajectories import Source
from hodsim.storage import reserved

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


def test_further_shapes_act_alone_and_at_once_and_leave_the_sweep_without_them_as_it_was():
    standard = families(BENDING)
    assert standard == FAMILIES
    assert families((*BENDING, "traction lid", "force top")) == (*standard, ("traction lid",), ("force top",), ("traction lid", "force top"))
    assert families(("twist", "traction lid")) == (("twist",), ("traction lid",), ("twist", "traction lid"))
    assert families(("body",)) == (("body",), ("gravity",))
    drawn = sweep(train=4, shapes=("twist", "traction lid"))
    assert [[shape for shape, _ in case.terms] for case in drawn] == [["twist"], ["traction lid"], ["twist", "traction lid"], ["twist"]]
    assert all(len(signal.values[0]) == (1 if shape == "twist" else 3)
               for case in drawn for shape, signal in case.terms if isinstance(signal, Piecewise))  # fmt: skip


def test_every_kind_of_signal_does_what_its_name_says():
    def signals(kind, **options):
        cases = sweep(train=12, shapes=("tip",), signals=(kind,), duration=2.0, **options)
        return [signal for case in cases for _, signal in case.terms]

    times = np.arange(0.005, 2.0, 0.005)
    for drawn in signals("static"):
        size = np.linalg.norm([drawn(t) for t in times], axis=1)
        assert (np.diff(size) > 0).all() and size[0] < 0.01  # it only grows, from nothing
    for drawn in signals("impulse"):
        size = np.linalg.norm([drawn(t) for t in times], axis=1)
        assert 0.03 < (size > 0).mean() < 0.45 and size.max() > 0.2
    for drawn in signals("resonance", frequencies=(1.5, 9.0)):
        assert min(abs(drawn.frequency / f - 1) for f in (1.5, 9.0)) <= 0.05
        assert np.linalg.norm(drawn.amplitude) <= 0.3


def test_only_training_cases_go_beyond_the_nominal_range():
    def largest(split, **options):
        cases = sweep(train=40, test=40, shapes=("tip",), signals=("periodic",), **options)
        return max(np.linalg.norm(signal.amplitude) for case in cases if case.split == split for _, signal in case.terms)

    assert largest("train", strength=1.5) == pytest.approx(1.5 * largest("train")) and largest("train") <= 1
    assert largest("test", strength=1.5) == largest("test")


def test_unknown_signals_and_resonance_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"signals are \['knock'\]; expected some of piecewise"):
        sweep(train=1, signals=("knock",))
    with pytest.raises(ValueError, match="there are no frequencies"):
        sweep(train=1, signals=("resonance",))
    with pytest.raises(ValueError, match=r"signals are \[\]"):
        sweep(train=1, signals=())


def test_load_cases_survive_json():
    for case in sweep(train=12, test=12, signals=KINDS, frequencies=(2.0,)):
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
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cut").glob("*.h5")}
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


WILD = LoadCase("train-0009", "train", (("tip", Piecewise((1.0,), ((0.0, 1e9, 0.0),))),))


def test_a_case_that_diverges_is_recorded_and_the_others_go_on(make, tmp_path):
    good = sweep(train=2)
    full = small_beam(material=NeoHookean(youngs_modulus=1e5, poisson_ratio=0.3))
    made = make([good[0], WILD, good[1]], full=full)
    assert [case.name for case in made.cases] == ["train-0000", "train-0001"]
    assert len(made.failures) == 1
    assert made.failures[0].startswith("train-0009: step 1 at time 0.01 s with dt = 0.01 s did not converge")


def test_a_case_that_diverged_is_not_tried_again_unless_it_is_another(make, tmp_path):
    full = small_beam(material=NeoHookean(youngs_modulus=1e5, poisson_ratio=0.3))
    cases = [*sweep(train=1), WILD]
    make(cases, full=full)
    progress = []
    make(cases, full=full, progress=lambda *counts: progress.append(counts))
    assert progress == [(2, 2)]
    tame = replace(WILD, terms=(("tip", Piecewise((1.0,), ((0.0, 0.1, 0.0),))),))
    assert not make([cases[0], tame], full=full).failures
    assert not list(tmp_path.glob("*.failed"))


def test_where_every_case_diverged_the_reason_is_told(make):
    full = small_beam(material=NeoHookean(youngs_modulus=1e5, poisson_ratio=0.3))
    with pytest.raises(ValueError, match="every load case in .* diverged, first train-0009: step 1"):
        make([WILD], full=full)


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
    file = tmp_path / "train-0000.h5"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"train-0000\.h5 is corrupt"):
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
        with pytest.raises(OSError, match=r"train-0001\.h5 could not be saved: No space left on device"):
            make([first, second])
    assert sorted(file.name for file in tmp_path.iterdir() if file.name != ".lock") == ["train-0000.h5"]
    assert len(make([first, second]).cases) == 2


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("memory", [0, 2**31])
def test_arrays_in_files_are_indexed_as_in_memory(make, tmp_path, precision, memory):
    made = Snapshots.load(tmp_path, small_beam(), memory=memory) if make(sweep(train=3), precision=precision) else None
    lazy, whole = made.displacements, np.asarray(made.displacements)
    assert whole.shape == lazy.shape == (3, STEPS, 48) and whole.dtype == lazy.dtype == precision
    for key in (
        np.s_[1], np.s_[1, 2], np.s_[-1, 1:4, 7], np.s_[:, ::2], np.s_[1:, 3], np.s_[[2, 0], :, 5:9], np.s_[:0, 1:],
        np.array([True, False, True]), np.s_[::-1],
    ):  # fmt: skip
        np.testing.assert_array_equal(lazy[key], whole[key])
    rows = whole.reshape(-1, 48)
    for key in (np.s_[7], np.s_[::4], np.s_[5:9], [14, 3, 4], np.s_[:0]):
        np.testing.assert_array_equal(made.poses()[key], rows[key])
    np.testing.assert_array_equal(np.concatenate(list(made.poses())), rows)


def test_a_part_of_a_large_array_is_read_without_the_rest(tmp_path):
    """400 steps of 20 000 degrees of freedom are 64 MB; a few steps of them are to take little more than their own chunks."""
    case, array = sweep(train=1)[0], np.random.default_rng(0).standard_normal((400, 20_000))
    file = tmp_path / "case.h5"
    file.write_bytes(Record(case, array, array, DT, 0.0).to_bytes("body"))
    source = Source(file, "body", "displacements", keep=False)
    tracemalloc.start()
    part = source.read(slice(100, 103), slice(0, 50))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(part, array[100:103, :50])
    assert peak < array.nbytes / 20


def test_one_flipped_byte_anywhere_is_noticed(make, tmp_path):
    full = small_beam()
    make(sweep(train=1))
    file = tmp_path / "train-0000.h5"
    whole, expected = file.read_bytes(), Record.read(file, full.fingerprint)
    rng = np.random.default_rng(0)
    for place in [*rng.integers(len(whole), size=60), *rng.integers(300, size=20)]:
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.integers(8)
        file.write_bytes(broken)
        try:
            record = Record.read(file, full.fingerprint)
        except ValueError:
            continue
        # a byte that nothing is read from
        np.testing.assert_array_equal(record.displacements, expected.displacements)
        assert record.case == expected.case and record.dt == expected.dt


def test_a_damaged_case_is_done_again(make, tmp_path):
    cases = sweep(train=2)
    digest = make(cases).digest
    file = tmp_path / "train-0001.h5"
    file.write_bytes(file.read_bytes()[:1000])
    assert make(cases).digest == digest


def test_two_processes_are_not_at_work_in_one_folder(make, tmp_path):
    with reserved(tmp_path), pytest.raises(BlockingIOError, match="another hodsim is at work in .*; wait until it is done, or choose another"):
        make(sweep(train=1))
    assert len(make(sweep(train=1)).cases) == 1


def test_a_longer_sweep_is_not_mixed_into_a_shorter_one(make):
    make(sweep(train=3))
    assert len(make(sweep(train=2)).cases) == 2


def test_ctrl_c_after_the_last_case_is_not_lost():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
    try:
        with pytest.raises(KeyboardInterrupt), _ctrl_c_remembered(at_once=False):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
