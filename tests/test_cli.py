"""The `hodsim` command as a user runs it: the whole chain on a small body, and mistakes that end in one sentence."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from commands import PROJECT, hodsim
from hodsim.apps import cli, train
from hodsim.mesh import TetMesh
from hodsim.project import Project
from hodsim.snapshots import Record
from hodsim.storage import reserved
from hodsim.subspace import Model
from hodsim.trainers.latent import try_dimensions


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with body.msh, body.toml and what is made of it by the commands in turn."""
    folder = tmp_path_factory.mktemp("chain")
    TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1)).save(folder / "body.msh")
    (folder / "body.toml").write_text(PROJECT)
    for arguments in (["snapshots", "body.toml", "--workers", 1], ["train", "body.toml"], ["report", "study"]):
        run = hodsim(*arguments, folder=folder)
        assert run.returncode == 0, run.stderr
    return folder


def test_the_chain_leaves_everything_in_the_study(folder):
    made = {path.name for path in (folder / "study").iterdir()}
    assert made >= {"project.toml", "snapshots", "model.hod", "report.html", "report.json", "picture.png", "animation.mp4", "curves"}
    assert len(list((folder / "study" / "snapshots").glob("*.h5"))) == 10


def test_the_report_has_the_promised_keys(folder):
    report = json.loads((folder / "study" / "report.json").read_text())
    assert report.keys() >= {"dofs", "latent", "full", "models", "offline", "break_even_steps", "environment"}
    assert report["dofs"] == 48 and report["latent"] == 3
    networks = [("HoD-Net 3", 3), ("HoD-Net 3, all elements", 3), ("HoD-Net 3, Euler-Lagrange", 3)]
    linear = [("PCA 6", 6), ("PCA 6, cubature", 6), ("PCA 12", 12), ("PCA 12, cubature", 12), ("PCA 20", 20), ("PCA 20, cubature", 20)]
    others = [("quadratic 3", 3), ("modal derivatives 3", 3)]
    named = [(model["name"], model["r"]) for model in report["models"]]
    assert [each for each in named if "equal cost" not in each[0]] == networks + linear + others  # that PCA's dimension is a matter of timing
    for model in report["models"]:
        assert model.keys() >= {
            "name", "r", "elasticity", "tip_error", "position_error", "velocity_error", "energy_error", "ms_per_step",
            "newton_iterations", "failed_steps", "speedup",
        }  # fmt: skip
    # more principal directions of the same poses reconstruct better, and the errors of the simulation follow
    errors = [model["position_error"] for model in report["models"] if model["elasticity"] == "cubic"]
    assert errors[2] < errors[1] < errors[0]


def test_what_is_done_is_used_again(folder):
    model, case = folder / "study" / "model.hod", next((folder / "study" / "snapshots").glob("*.h5"))
    before = model.stat().st_mtime_ns, case.stat().st_mtime_ns
    assert hodsim("snapshots", "body.toml", folder=folder).returncode == 0
    run = hodsim("train", "study", folder=folder)
    assert "up to date" in run.stdout
    assert (model.stat().st_mtime_ns, case.stat().st_mtime_ns) == before


@pytest.mark.parametrize("suffix", ["csv", "png", "gif", "mp4"])
def test_simulate_saves_a_motion(folder, suffix):
    run = hodsim("simulate", "study/model.hod", "--steps", 10, "--output", f"motion.{suffix}", folder=folder)
    assert run.returncode == 0, run.stderr
    assert (folder / f"motion.{suffix}").stat().st_size > 0


def test_simulate_writes_for_other_programs(folder):
    run = hodsim("simulate", "study/model.hod", "--steps", 3, "--compare", "--output", "series.pvd", folder=folder)
    assert run.returncode == 0, run.stderr
    assert {file.name for file in folder.glob("series*.pvd")} == {"series-full-model.pvd", "series-HoD-Net-3.pvd"}
    assert len(list(folder.glob("series-HoD-Net-3/*.vtu"))) == 3


def test_simulate_pulls_at_a_side_by_its_name(folder):
    pulls = []
    for pressure in (0, 40):
        run = hodsim("simulate", "study/model.hod", "--steps", 10, "--body", 0, 0, 0, "--traction", "x-max", 0, 0, pressure,
                     "--output", "pulled.csv", folder=folder)  # fmt: skip
        assert run.returncode == 0, run.stderr
        pulls.append(np.genfromtxt(folder / "pulled.csv", delimiter=",", names=True)["HoDNet_3_z"][-1])
    assert pulls[0] == 0 and pulls[1] > 1e-4
    run = hodsim("simulate", "study", "--steps", 10, "--body", 0, 0, 0, "--force", "x-max", 0, 0, 0.4, "--output", "pushed.csv", folder=folder)
    assert run.returncode == 0, run.stderr
    pushed = np.genfromtxt(folder / "pushed.csv", delimiter=",", names=True)["HoDNet_3_z"][-1]
    assert pushed == pytest.approx(pulls[1], rel=1e-6)  # 40 Pa on 0.01 m^2
    run = hodsim("simulate", "study/model.hod", "--traction", "lid", 0, 0, 1, "--output", "pulled.csv", folder=folder)
    assert run.returncode == 1 and "traction is 'lid'; expected one of x-min" in run.stderr


@pytest.mark.parametrize("model", ["study/model.hod", "body.toml", "study"])
def test_export_writes_the_decoder(folder, model):
    (folder / "decoder.pt2").unlink(missing_ok=True)
    run = hodsim("export", model, "decoder.pt2", folder=folder)
    assert run.returncode == 0 and "saved decoder.pt2: q (B, 3) -> displacement (B, 20, 3) in metres, float32" in run.stdout
    assert (folder / "decoder.pt2").stat().st_size > 0


def test_simulate_estimates_its_error_and_falls_back(folder):
    run = hodsim("simulate", "study/model.hod", "--steps", 10, "--tip", 0, 0, -40, "--output", "far.csv", folder=folder)
    assert run.returncode == 0 and "estimated error up to" in run.stdout and "leaves the training range" in run.stdout
    run = hodsim("simulate", "study/model.hod", "--steps", 10, "--tip", 0, 0, -4, "--fallback", "--output", "guarded.csv", folder=folder)
    assert run.returncode == 0, run.stderr
    assert re.search(r"the full model took \d+ of 10 steps", run.stdout)
    assert len((folder / "guarded.csv").read_text().splitlines()) == 11


def test_simulate_compares_with_the_full_model(folder):
    run = hodsim("simulate", "study/model.hod", "--steps", 10, "--compare", "--output", "both.csv", folder=folder)
    assert run.returncode == 0, run.stderr
    rows = np.genfromtxt(folder / "both.csv", delimiter=",", names=True)
    assert len(rows) == 10
    np.testing.assert_allclose(rows["time"], 0.01 * np.arange(1, 11))
    assert np.abs(rows["full_model_z"]).max() > 0


def test_the_installed_script_runs():
    run = subprocess.run([Path(sys.executable).with_name("hodsim"), "--help"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0
    assert "Start with `hodsim beam`" in run.stdout


def test_a_help_text_does_not_wait_for_the_libraries():
    code = "import sys; from hodsim.apps import cli; cli.program(); sys.exit(bool({'torch', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_is_said_with_those_of_the_libraries(tmp_path):
    run = hodsim("--version", folder=tmp_path)
    assert run.returncode == 0 and run.stdout.strip().splitlines() == [
        ", ".join(f"{name} {version}" for name, version in {"hodsim": metadata.version("hodsim"), "python": platform.python_version(),
                  **{name: metadata.version(name) for name in ("torch", "numpy", "scipy", "numba")}}.items())
    ]  # fmt: skip


@pytest.mark.parametrize("command", [
    "mesh info", "mesh beam", "mesh fill", "mesh tidy", "beam", "init", "snapshots", "train", "simulate", "view", "report", "export", "bench",
])  # fmt: skip
def test_help_explains_with_an_example(command, tmp_path):
    run = hodsim(*command.split(), "--help", folder=tmp_path)
    assert run.returncode == 0
    assert f"Example: hodsim {command}" in run.stdout


@pytest.mark.parametrize("arguments", [("beam", "--set", "sweep.train=0"), ("mesh", "info", "body.toml", "--set", "sweep.train=0")])
def test_a_wrong_change_is_named_by_every_command_before_it_begins(folder, arguments):
    run = hodsim(*arguments, folder=folder)
    assert run.returncode == 1 and "--set sweep.train is 0; expected a number greater than 0" in run.stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("mesh", "info", "body.msh", "--picture", "none.png", "--density", "nan"), "--density is nan; expected a finite number greater than 0"),
        (("simulate", "study/model.hod", "--output", "none.csv", "--tip", 0, "nan", 0), "--tip holds 1 value(s) that are not finite"),
        (("simulate", "study/model.hod", "--output", "none.csv", "--twist", "inf"), "--twist holds 1 value(s) that are not finite"),
        (("view", "study/model.hod", "--headless", "--output", "none.png", "--body", "nan", 0, 0), "--body holds 1 value(s) that are not finite"),
    ],
)
def test_an_option_that_is_no_number_is_named(folder, arguments, sentence):
    run = hodsim(*arguments, folder=folder)
    assert run.returncode == 1 and run.stderr.startswith(f"hodsim: {sentence}") and run.stderr.count("\n") == 1
    assert not list(folder.glob("none.*"))


def test_a_library_without_room_at_the_start_ends_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "program", Mock(side_effect=ImportError("libtorch.so: failed to map segment from shared object")))
    run = hodsim("mesh", folder=tmp_path)
    assert run.returncode == 1 and run.stderr == "hodsim: there is not enough memory to start.\n"
    monkeypatch.setattr(cli, "program", Mock(side_effect=ImportError("no such library")))
    with pytest.raises(ImportError, match="no such library"):
        hodsim("mesh", folder=tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_want_of_memory_ends_with_one_sentence(error, tmp_path, monkeypatch):
    monkeypatch.setattr(TetMesh, "box", Mock(side_effect=error))
    run = hodsim("mesh", "beam", "--size", 1, 1, 1, "--divisions", 1, 1, 1, "made.msh", folder=tmp_path)
    assert run.returncode == 1 and run.stderr.startswith("hodsim: there is not enough memory.") and run.stderr.count("\n") == 1


def test_results_of_other_settings_are_not_mixed_in(folder):
    run = hodsim("snapshots", "body.toml", "--set", "material.density=500", folder=folder)
    assert run.returncode == 1
    assert "study holds results of other settings (material.density 1000.0 -> 500.0); choose another output" in run.stderr


def test_init_writes_a_project_that_the_commands_take(folder, tmp_path):
    shutil.copy(folder / "body.msh", tmp_path / "a body.msh")
    run = hodsim("init", "a body.msh", folder=tmp_path)
    assert run.returncode == 0 and "20 vertices, 20 tetrahedra, 0.4 x 0.1 x 0.1 m" in run.stdout
    run = hodsim("init", "a body.msh", "--output", "other.toml", "--set", "material.density=500", folder=tmp_path)
    assert run.returncode == 0 and Project.open(tmp_path / "other.toml").settings.material.density == 500
    run = hodsim("init", "a body.msh", "--output", "wrong.toml", "--set", "material.density=-5", folder=tmp_path)
    assert run.returncode == 1 and "--set material.density is -5; expected a number greater than 0" in run.stderr
    small = [word for change in ("simulation.steps=2", "sweep.train=1", "sweep.validation=1", "sweep.test=1") for word in ("--set", change)]
    assert hodsim("snapshots", "a body.toml", *small, "--workers", 1, folder=tmp_path).returncode == 0
    assert len(list(tmp_path.glob("out/a body/snapshots/*.h5"))) == 3
    run = hodsim("init", "a body.msh", folder=tmp_path)
    assert run.returncode == 1 and "a body.toml exists; delete it, or choose another --output" in run.stderr


def test_everything_made_says_what_made_it(folder):
    project = Project.open(folder / "body.toml")
    report = json.loads((folder / "study" / "report.json").read_text())["provenance"]
    notes = Model.load(folder / "study" / "model.hod").notes
    record = Record.read(folder / "study" / "snapshots" / "train-0000.h5", project.full.fingerprint).provenance
    for said in (report, notes, record):
        assert said["mesh_fingerprint"] == project.mesh.fingerprint
        assert said["settings"]["material"]["youngs_modulus"] == 1e5 and said["settings"]["seed"] == 0
        assert said["versions"]["numpy"] == np.__version__


def test_a_folder_of_results_may_be_moved_with_its_mesh(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere")
    project = Project.open(tmp_path / "elsewhere" / "study")
    assert not Path(project.settings.mesh).is_absolute()
    assert project.mesh.fingerprint == Project.open(folder / "body.toml").mesh.fingerprint
    run = hodsim("snapshots", tmp_path / "elsewhere" / "study", folder=tmp_path)
    assert run.returncode == 0, run.stderr


def test_a_project_stands_for_its_model(folder, tmp_path):
    run = hodsim("simulate", "body.toml", "--set", "simulation.dt=0.005", "--steps", 3, "--output", "some.csv", folder=folder)
    assert run.returncode == 0, run.stderr
    assert "3 steps of 0.005 s" in run.stdout
    run = hodsim("simulate", "study/model.hod", "--set", "seed=1", "--output", "some.csv", folder=folder)
    assert run.returncode == 1 and "study/model.hod is a model file; name the project" in run.stderr


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """The folder with its snapshots, to be trained in otherwise."""
    (tmp_path / "study").mkdir()
    for name in ("body.msh", "body.toml", "study/snapshots"):
        source, target = folder / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return tmp_path


def test_the_latent_dimension_is_chosen_from_the_error_of_simulations(copied, monkeypatch):
    monkeypatch.setattr(try_dimensions, "__kwdefaults__", {**try_dimensions.__kwdefaults__, "dimensions": (2, 4)})
    run = hodsim("train", "body.toml", "--latent", "auto", folder=copied)
    assert run.returncode == 0, run.stderr
    found = json.loads((copied / "study" / "latent.json").read_text())
    assert [trial["dim"] for trial in found["trials"]] == [2, 4] and run.stdout.count("us a step") == 2
    model = Model.load(copied / "study" / "model.hod")
    assert model.subspace.dim == found["chosen"] == Project.open(copied / "study").settings.subspace.latent
    assert (copied / "study" / "latent.png").read_bytes().startswith(b"\x89PNG")
    run = hodsim("snapshots", "body.toml", "--set", "subspace.latent=none", folder=copied)
    assert run.returncode == 1 and "subspace.latent" in run.stderr and "auto" in run.stderr


def test_load_cases_are_added_until_the_target_is_met_or_the_budget_is_spent(copied, monkeypatch):
    monkeypatch.setattr("hodsim.apps.train.BATCH", 2)
    run = hodsim("train", "body.toml", "--target-error", 1e-9, "--budget", 3, folder=copied)
    assert run.returncode == 0, run.stderr
    assert [f"load cases added: {n}" in run.stdout for n in (0, 2, 3)] == [True] * 3 and "the target is not met by 3" in run.stdout
    stored = Project.open(copied / "study")
    added = stored.settings.sweep.added
    assert len(added) == 3 and min(added) >= 6
    names = {f"train-{number:04d}" for number in added}
    assert names <= {case.name for case in stored.cases} == {path.stem for path in (copied / "study" / "snapshots").glob("*.h5")}
    run = hodsim("train", "body.toml", "--target-error", 0.999, folder=copied)  # goes on from there
    assert run.returncode == 0 and "is up to date" in run.stdout and "load cases added: 3" in run.stdout
    run = hodsim("train", "body.toml", "--target-error", 2, folder=copied)
    assert run.returncode == 1 and "--target-error is 2.0; expected a number strictly between 0.0 and 1.0" in run.stderr


def test_two_commands_are_not_at_work_in_one_folder(folder):
    with reserved(folder / "study"):
        for command in ("snapshots", "train", "report"):
            run = hodsim(command, "body.toml", folder=folder)
            assert run.returncode == 1
            assert run.stderr == "hodsim: another hodsim is at work in study; wait until it is done, or choose another output folder\n"


def test_commands_say_what_comes_first(tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["train", "empty"], ["report", "empty"]):
        run = hodsim(*command, folder=tmp_path)
        assert run.returncode == 1
        assert "empty holds no project.toml; start with a project file, which `hodsim init MESH` writes" in run.stderr
    (tmp_path / "body.toml").write_text(PROJECT)
    TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1)).save(tmp_path / "body.msh")
    run = hodsim("train", "body.toml", folder=tmp_path)
    assert run.returncode == 1 and "run `hodsim snapshots` first" in run.stderr
    run = hodsim("view", "body.toml", folder=tmp_path)
    assert run.returncode == 1 and "model.hod does not exist; make it with `hodsim train body.toml`" in run.stderr
    run = hodsim("snapshots", "body.msh", folder=tmp_path)
    assert run.returncode == 1 and "body.msh is no project file; expected one that ends in .toml, as `hodsim init body.msh` writes it" in run.stderr


def test_a_model_of_another_mesh_is_refused(folder, tmp_path):
    TetMesh.box((0.5, 0.1, 0.1), (5, 1, 1)).save(tmp_path / "body.msh")
    (tmp_path / "body.toml").write_text(PROJECT)
    assert hodsim("snapshots", "body.toml", "--workers", 1, folder=tmp_path).returncode == 0
    (tmp_path / "study" / "model.hod").write_bytes((folder / "study" / "model.hod").read_bytes())
    run = hodsim("report", "study", folder=tmp_path)
    assert run.returncode == 1
    assert "model.hod was made for another mesh, material or set of pins" in run.stderr


@pytest.mark.skipif(os.name == "nt", reason="sends a signal to a process group, as a terminal does")
def test_ctrl_c_during_a_sweep_ends_in_one_sentence_and_loses_no_finished_case(tmp_path):
    TetMesh.box((0.4, 0.1, 0.1), (12, 3, 3)).save(tmp_path / "body.msh")
    command = [Path(sys.executable).with_name("hodsim"), "snapshots", "body.toml", "--workers", "2"]
    (tmp_path / "body.toml").write_text('mesh = "body.msh"\noutput = "study"\nsweep.train = 200')
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell that runs these tests in the background has them ignore Ctrl-C
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=listening
    )
    try:
        while not list(tmp_path.glob("study/snapshots/*.h5")):
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate()
    finally:
        run.kill()
    assert run.returncode == 130
    assert errors == "hodsim: stopped. What was finished is kept; the same command continues from there.\n"
    assert 0 < len(Project.open(tmp_path / "study").snapshots().cases) < 200


def test_ctrl_c_during_training_keeps_the_best_so_far_and_stops(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "study", tmp_path / "study", ignore=shutil.ignore_patterns("model.hod", "checkpoint*"))

    @contextmanager
    def interrupting_bar(label):
        def update(done, total, note=""):
            if label.startswith("Training") and done == 3:
                raise KeyboardInterrupt

        yield update

    monkeypatch.setattr(train, "progress_bar", interrupting_bar)
    shutil.copy(folder / "body.msh", tmp_path)
    run = hodsim("train", "study", folder=tmp_path)
    assert run.returncode == 130
    assert "stopped. What was finished is kept" in run.stderr
    assert Model.load(tmp_path / "study" / "model.hod").notes["epochs"] == 3
