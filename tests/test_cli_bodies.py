"""The `hodsim` command on meshes and bodies of many kinds: groups, regions, loads, and what is wrong with a mesh in one sentence."""

import re
from pathlib import Path

import meshio
import numpy as np
import pytest

from commands import PROJECT, hodsim
from hodsim.mesh import TetMesh
from hodsim.project import Project


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
