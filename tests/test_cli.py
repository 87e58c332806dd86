"""The `hodsim` command as a user runs it: the whole chain on a small body, and mistakes that end in one sentence."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple

import meshio
import numpy as np
import pytest

from hodsim.apps import train
from hodsim.apps.cli import main
from hodsim.mesh import TetMesh
from hodsim.project import Project
from hodsim.snapshots import Record
from hodsim.storage import reserved
from hodsim.subspace import Model
from hodsim.trainers.latent import try_dimensions

PROJECT = """
mesh = "body.msh"
output = "study"
material = {youngs_modulus = 1e5}
simulation = {steps = 20}
sweep = {train = 6, validation = 2, test = 2}
subspace = {latent = 3, hidden = [8, 8], coordinates = 20}
training = {epochs = 5}
cubature = {elements = 10}
"""


class Run(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def hodsim(*arguments: object, folder: Path) -> Run:
    """Run the command line in this process, as the `hodsim` script would in a folder and without a display."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["hodsim", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.delenv("DISPLAY", raising=False)
        patch.delenv("WAYLAND_DISPLAY", raising=False)
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Run(status, out.getvalue(), err.getvalue())


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


def test_a_mesh_is_made_and_described(tmp_path):
    assert hodsim("mesh", "beam", "--size", 1, 0.1, 0.2, "--divisions", 4, 1, 2, "beam.vtu", folder=tmp_path).returncode == 0
    run = hodsim("mesh", "info", "beam.vtu", "--density", 500, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    told = dict(re.findall(r"^(\S[^:]*?) {2,}(.*?)\s*$", run.stdout, re.MULTILINE))
    assert told["vertices"] == "30, 90 coordinates" and told["tetrahedra"].startswith("40, ")
    assert told["volume"] == "0.02 m^3" and told["mass"] == "10 kg at 500 kg/m^3"
    assert told["bounding box"].startswith("1 x 0.1 x 0.2 m, from (0, 0, 0)") and told["connected parts"] == "1"
    assert (tmp_path / "beam.png").read_bytes().startswith(b"\x89PNG")


def test_a_group_is_pinned_by_its_name(tmp_path):
    beam = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    side = beam.surface[(beam.vertices[beam.surface][:, :, 0] == 0.4).all(axis=1)]
    tags = [np.full(len(side), 7), np.full(len(beam.tetrahedra), 1)]
    cells, names = [("triangle", side), ("tetra", beam.tetrahedra)], {"clamp": np.array([7, 2])}
    content = meshio.Mesh(beam.vertices, cells, field_data=names, cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags})
    content.write(tmp_path / "body.msh", file_format="gmsh22")
    (tmp_path / "body.toml").write_text(PROJECT + 'pins.on = ["clamp"]')
    assert "groups: clamp" in hodsim("init", "body.msh", "--output", "new.toml", folder=tmp_path).stdout
    pinned = Project.open(tmp_path / "body.toml").full.pinned
    np.testing.assert_array_equal(np.flatnonzero(pinned), np.flatnonzero(beam.vertices[:, 0] == 0.4))
    run = hodsim("snapshots", "body.toml", "--set", "pins.on=['wall']", folder=tmp_path)
    assert run.returncode == 1 and "pins.on: pin is 'wall'" in run.stderr and "'clamp'" in run.stderr


def test_a_region_has_a_material_of_its_own(tmp_path):
    beam = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    core = (beam.vertices[beam.tetrahedra].mean(axis=1)[:, 0] < 0.2).astype(int) + 1
    meshio.Mesh(beam.vertices, [("tetra", beam.tetrahedra)], cell_data={"region": [core]}).write(tmp_path / "body.vtu")
    region = PROJECT.replace("body.msh", "body.vtu") + '[regions."region 2"]\nyoungs_modulus = 2e5\ndensity = 500.0\n'
    (tmp_path / "body.toml").write_text(region + 'poisson_ratio = 0.3\nkind = "NeoHookean"\n')
    full = Project.open(tmp_path / "body.toml").full
    moduli = [material.youngs_modulus for material in full.material.constituents]
    np.testing.assert_array_equal(np.take(moduli, full.material.kinds), np.where(core == 2, 2e5, 1e5))
    np.testing.assert_array_equal(full.density, np.where(core == 2, 500.0, 1000.0))
    run = hodsim("mesh", "info", "body.toml", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    told = " ".join(run.stdout.split())
    assert f"mass {0.004 * full.density.mean():g} kg at 500 to 1000 kg/m^3" in told and "pinned 4 vertices on x-min; 48 degrees of freedom" in told
    assert "NeoHookean(youngs_modulus=200000.0, poisson_ratio=0.3) in 10 tetrahedra" in told
    (tmp_path / "body.toml").write_text(region + "colour = 0.3")
    with pytest.raises(ValueError, match=r"regions\.region 2\.colour is 0\.3, but there is no such setting"):
        Project.open(tmp_path / "body.toml")


def test_groups_are_loaded_in_the_sweep_and_in_cases_of_ones_own(tmp_path):
    """A traction on the free end and a force on a group; the model that comes of it knows them."""
    beam = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    lid = (np.abs(beam.vertices - [0.2, 0.05, 0.1]) < [0.21, 0.06, 1e-6]).all(axis=1)
    TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1)).save(tmp_path / "body.vtu")
    content = meshio.read(tmp_path / "body.vtu")
    content.cells.append(meshio.CellBlock("triangle", beam.surface[lid[beam.surface].all(axis=1)]))
    content.cell_data = {"part": [np.full(len(block.data), number) for number, block in enumerate(content.cells, 1)]}
    content.write(tmp_path / "body.vtu")
    settings = PROJECT.replace("body.msh", "body.vtu") + 'loads = {tractions = {x-max = 40}, forces = {"part 2" = 0.5}}\n'
    (tmp_path / "body.toml").write_text(settings)
    run = hodsim("snapshots", "body.toml", "--set", 'sweep.shapes=["traction x-max", "force part 2"]', "--workers", 1, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    cases = Project.open(tmp_path / "study").snapshots().cases
    assert {tuple(shape for shape, _ in case.terms) for case in cases} == {
        ("traction x-max",), ("force part 2",), ("traction x-max", "force part 2")
    }  # fmt: skip
    run = hodsim("snapshots", "body.toml", "--set", 'loads.tractions={top = 3}', "--set", "output=other", folder=tmp_path)
    assert run.returncode == 1 and "loads: traction is 'top'; expected one of x-min" in run.stderr and "'part 2'" in run.stderr
    assert not (tmp_path / "other").exists()


def test_tidy_says_what_it_mended_and_quadratic_meshes_are_noticed(tmp_path):
    points = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [5, 5, 5.0]]
    meshio.write(tmp_path / "loose.vtu", meshio.Mesh(points, [("tetra", [[0, 2, 1, 3]])]))
    run = hodsim("mesh", "tidy", "loose.vtu", "mended.msh", "--scale", 0.001, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "1 unused vertices left out" in run.stdout and "1 inverted tetrahedra turned" in run.stdout
    assert TetMesh.load(tmp_path / "mended.msh").volumes == pytest.approx([1e-9 / 6])
    corners = np.array(points[:4])
    middles = [corners[[a, b]].mean(axis=0) for a, b in ((0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3))]
    meshio.write(tmp_path / "curved.vtu", meshio.Mesh(np.vstack([corners, middles]), [("tetra10", [np.arange(10)])]))
    run = hodsim("mesh", "info", "curved.vtu", folder=tmp_path)
    assert run.returncode == 0 and "notice curved.vtu: 1 quadratic tetrahedra are reduced to linear ones" in run.stdout


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


@pytest.mark.parametrize("command", [
    "mesh info", "mesh beam", "mesh fill", "mesh tidy", "beam", "init", "snapshots", "train", "simulate", "view", "report", "export", "bench",
])  # fmt: skip
def test_help_explains_with_an_example(command, tmp_path):
    run = hodsim(*command.split(), "--help", folder=tmp_path)
    assert run.returncode == 0
    assert f"Example: hodsim {command}" in run.stdout


def surface(folder: Path) -> str:
    meshio.write(folder / "surface.obj", meshio.Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]], [("triangle", [[0, 1, 2]])]))
    return "surface.obj"


def inverted(folder: Path) -> str:
    points = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1.0]]
    meshio.write(folder / "inverted.vtu", meshio.Mesh(points, [("tetra", [[0, 1, 2, 3], [0, 1, 2, 4]])]))
    return "inverted.vtu"


def flat(folder: Path) -> str:
    points = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0.0]]
    meshio.write(folder / "flat.vtu", meshio.Mesh(points, [("tetra", [[0, 1, 2, 3], [0, 1, 4, 2]])]))
    return "flat.vtu"


def text(folder: Path) -> str:
    (folder / "text.msh").write_text("this is no mesh")
    return "text.msh"


def box(folder: Path) -> str:
    return str(TetMesh.box((0.2, 0.1, 0.1), (2, 1, 1)).save(folder / "box.msh"))


@pytest.mark.parametrize(
    ("mesh", "changes", "sentence"),
    [
        (surface, [], "has no tetrahedra"),
        (inverted, [], "tetrahedron 1"),
        (flat, [], "tetrahedron 1"),
        (text, [], "text.msh"),
        (lambda folder: "missing.msh", [], "missing.msh"),
        (box, ["material.youngs_modulus=0"], "--set material.youngs_modulus is 0; expected a number greater than 0"),
        (box, ["pins.on=['left']"], "pins.on: pin is 'left'; expected one of x-min, x-max"),
        (box, ["regions.top.density=3"], "regions: the mesh has no group 'top'; it has none"),
    ],
)
def test_a_mistake_ends_with_one_sentence(mesh, changes, sentence, tmp_path):
    (tmp_path / "body.toml").write_text(f'mesh = "{mesh(tmp_path)}"\noutput = "study"\nsimulation.steps = 2\nsweep.train = 1')
    run = hodsim("snapshots", "body.toml", "--workers", 1, *(word for change in changes for word in ("--set", change)), folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("hodsim: ") and run.stderr.count("\n") == 1
    assert sentence in run.stderr
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("arguments", [("beam", "--set", "sweep.train=0"), ("mesh", "info", "body.toml", "--set", "sweep.train=0")])
def test_a_wrong_change_is_named_by_every_command_before_it_begins(folder, arguments):
    run = hodsim(*arguments, folder=folder)
    assert run.returncode == 1 and "--set sweep.train is 0; expected a number greater than 0" in run.stderr
    assert not (folder / "out").exists()


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
