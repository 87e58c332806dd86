"""Project files: every field wrong in turn is named with file, key, value and what was expected; the same file gives the same snapshots."""

from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
from pydantic import BaseModel

from hodsim.dynamics import simulate
from hodsim.fem import NeoHookean, StVK, traction
from hodsim.mesh import TetMesh
from hodsim.project import Project, Settings, toml
from hodsim.snapshots import LoadCase, sweep
from hodsim.subspace.modal import vibrations
from hodsim.trainers.autoencoder import Training

CASES = """
[[cases]]
name = "pull"
split = "train"
terms = [{shape = "tip", signal = "piecewise", ends = [0.1, 0.2], values = [[0, 0, 1], [0, 0, 0]]}]
[[cases]]
name = "shake"
split = "validation"
terms = [{shape = "body", signal = "periodic", amplitude = [0, 0, 1], frequency = 2, phase = 1}]
[[cases]]
name = "turn"
split = "test"
terms = [{shape = "twist", signal = "piecewise", ends = [1], values = [[0.5]]}]
"""
SMALL = 'mesh = "body.msh"\nsimulation.steps = 3\nsweep = {train = 2, validation = 1, test = 1}\nmaterial.youngs_modulus = 1e5\n'


@pytest.fixture
def project(tmp_path):
    """Write a project file and open it."""
    TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1)).save(tmp_path / "body.msh")

    def project(content: str = SMALL, *changes: str) -> Project:
        (tmp_path / "body.toml").write_text(content)
        return Project.open(tmp_path / "body.toml", changes)

    return project


def keys(model: type[BaseModel], before: str = "") -> list[str]:
    """Every setting, by its key."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            found += keys(type(field.default), f"{before}{name}.")
        else:
            found.append(f"{before}{name}")
    return found


# what each setting must not be, and what is said of it
POSITIVE = [("-1", "a number greater than 0"), ("0", "a number greater than 0"), ('"much"', "number"), ("nan", "number"), ("[1]", "number")]
WHOLE = [("0", "a number greater than 0"), ("2.5", "a whole number"), ('"many"', "a whole number"), ("true", "a whole number")]
NUMBER = [("-1", "at least 0"), ("inf", "a finite number"), ('"some"', "a number")]
TEXT = [("3", "text in quotes"), ('""', "some text")]
CHOICE = [('"rubber"', "'"), ("1", "'")]
WRONG: dict[str, list[tuple[str, str]]] = {
    "mesh": TEXT,
    "output": TEXT,
    "seed": [("-1", "at least 0"), ("1.5", "a whole number"), ("1970-01-01", "a whole number")],
    "material.kind": CHOICE,
    "material.youngs_modulus": POSITIVE,
    "material.poisson_ratio": [("0.5", "less than 0.5"), ("-1", "greater than -1"), ('"soft"', "a number")],
    "material.density": POSITIVE,
    "regions": [
        ("3", "a section"), ("{top = 3}", "a section"), ("{top = {density = 0}}", "greater than 0"), ("{top = {colour = 1}}", "one of"),
        ("{top = {poisson_ratio = 0.5}}", "less than 0.5"), ("{interior = {youngs_modulus = -1}}", "greater than 0"),
        ('{top = {kind = "wood"}}', "'StVK'"),
    ],
    "pins.on": [("[]", "at least 1"), ('"x-min"', "a list"), ("[1]", "text in quotes")],
    "damping.mass": NUMBER,
    "damping.stiffness": NUMBER,
    "simulation.dt": POSITIVE,
    "simulation.steps": WHOLE,
    "simulation.scheme": CHOICE,
    "loads.reach": POSITIVE,
    "loads.twist": POSITIVE,
    "loads.tractions": [("{lid = 0}", "greater than 0"), ("3", "a section"), ('{lid = "much"}', "a number")],
    "loads.forces": [("{lid = -1}", "greater than 0"), ("[1]", "a section"), ("{lid = [1, 2, 3]}", "a number")],
    "sweep.shapes": [("3", "a list"), ("[1]", "text in quotes"), ('["lid"]', "one of tip, body, twist")],
    "sweep.signals": [("[]", "at least 1"), ('["knock"]', "'piecewise'"), ('"impulse"', "a list")],
    "sweep.strength": POSITIVE,
    "sweep.train": WHOLE,
    "sweep.validation": WHOLE,
    "sweep.test": WHOLE,
    "sweep.added": [("[-1]", "at least 0"), ("7", "a list"), ("[0.5]", "a whole number")],
    "sweep.precision": CHOICE,
    "cases": [("3", "a list"), ("[3]", "a section"), ('[{name = "a"}]', "a value")],
    "subspace.latent": [*WHOLE, ("24", "fewer than the 24 coordinates")],
    "subspace.hidden": [("[]", "at least 1"), ("[0]", "greater than 0"), ("64", "a list")],
    "subspace.coordinates": [("1", "at least 2"), ("6.0", "a whole number"), ("5", "fewer than the 5 coordinates")],
    "training.epochs": WHOLE,
    "training.batch": WHOLE,
    "training.learning_rate": POSITIVE,
    "training.stride": WHOLE,
    "training.rounds": [("-1", "at least 0"), ("1.5", "a whole number")],
    "training.chosen_by": CHOICE,
    "training.precision": CHOICE,
    **{f"training.terms.{term}": NUMBER for term in ("elastic", "velocity", "force", "tangent", "contractive")},
    "cubature.elements": [("-1", "at least 0 or 'auto'"), ('"few"', "a whole number or 'auto'"), ("1.5", "a whole number or 'auto'")],
    "report.pca": [("[0]", "greater than 0"), ("6", "a list"), ('["six"]', "a whole number")],
}


def test_every_setting_is_tried():
    assert sorted(WRONG) == sorted(keys(Settings))


@pytest.mark.parametrize(("key", "value", "expected"), [(key, *wrong) for key, several in WRONG.items() for wrong in several])
def test_a_wrong_value_is_named_with_file_key_and_what_was_expected(project, key, value, expected):
    content = "" if key == "mesh" else 'mesh = "body.msh"\n'
    for source, changes in ((f"{content}{key} = {value}\n", ()), (SMALL, (f"{key}={value}",))):
        with pytest.raises(ValueError, match="expected") as caught:
            project(source, *changes)
        said = str(caught.value)
        assert ("--set " if changes else "body.toml: ") in said or key.startswith(("subspace", "sweep.shapes"))
        assert key.rpartition(".")[2] in said
        assert expected in said.partition("expected")[2], said
        assert "\n" not in said and "pydantic" not in said


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "body.toml: mesh is missing; expected tetrahedral mesh"),
        ('mesh = "body.msh', "body.toml could not be read as TOML ("),
        ("mesh = 'b'\nmaterail.density = 3", 'body.toml: materail is {"density": 3}, but there is no such setting; expected material, perhaps'),
        ("mesh = 'b'\nmaterial.densty = 3", "body.toml: material.densty is 3, but there is no such setting; expected density, perhaps"),
        ("mesh = 'b'\nmaterial = 3", "body.toml: material is 3; expected a section"),
        ("mesh = 'b'\nseed = -1\nsweep.train = 0", "body.toml: seed is -1; expected at least 0 (and 1 more to mend)"),
        ("mesh = 'b'\nregions.interior.density = -1", "body.toml: regions.interior.density is -1; expected a number greater than 0"),
        ("mesh = 'b'\n" + CASES.replace('"turn"', '"pull"'), "cases are called pull, shake, pull; expected a name of its own for each"),
        ("mesh = 'b'\n" + CASES.replace('"test"', '"train"'), "cases are for train, validation; expected some for each"),
        ("mesh = 'b'\n" + CASES.replace("[[0.5]]", "[[0.5, 1]]"), "cases[2].terms[0]: a value of twist is [0.5, 1.0]; expected 1 numbers"),
        ("mesh = 'b'\n" + CASES.replace("[0.1, 0.2]", "[0.2, 0.1]"), "cases[0].terms[0]: 2 values until [0.2, 0.1] s; expected one value"),
        ("mesh = 'b'\n" + CASES.replace('"tip"', '"top"'), "cases[0].terms[0].shape is \"top\"; expected one of tip, body, twist"),
        ("mesh = 'b'\n" + CASES.replace('"pull"', '"../pull"'), 'cases[0].name is "../pull"; expected letters'),
        ("mesh = 'b'\n" + CASES.replace("frequency = 2", "frequency = -2"), "cases[1].terms[0].frequency is -2; expected at least 0"),
    ],
)
def test_a_mistake_of_another_kind_is_named(project, content, sentence):
    with pytest.raises(ValueError) as caught:
        project(content)
    assert sentence in str(caught.value)


def test_a_change_that_is_none_is_named(project):
    with pytest.raises(ValueError, match="--set is 'seed'; expected KEY=VALUE"):
        project(SMALL, "seed")
    with pytest.raises(ValueError, match="--set seed.x=1: seed is no section; expected one of material"):
        project("seed = 1\n" + SMALL, "seed.x=1")


def test_a_change_needs_no_quotes(project):
    assert project(SMALL, "material.kind=NeoHookean", "seed = 7").settings.material.kind == "NeoHookean"


def test_what_is_written_reads_as_it_was(project, tmp_path):
    named = 'loads.tractions = {"surface 7" = 3, x-max = 2}\nregions."a b" = {density = 3, kind = "NeoHookean"}\n'
    settings = project(SMALL.replace("{train", "{shapes = ['tip', 'traction surface 7'], train") + named + CASES).settings
    (tmp_path / "again.toml").write_text(toml.write(settings))
    assert toml.read(tmp_path / "again.toml") == settings


def test_every_setting_is_written_with_what_it_means():
    text = toml.write(Settings(mesh="body.msh"))
    for key in set(keys(Settings)) - {"regions", "cases"}:
        (line,) = [line for line in text.splitlines() if line.startswith(f"{key.rpartition('.')[2]} =")][:1]
        assert "# " in line and not line.endswith("# None")


def test_the_project_of_the_second_body_reads():
    settings = toml.read(Path(__file__).parents[1] / "docs" / "bear.toml")
    assert settings.subspace.latent == 6 and settings.sweep.test == 20


def test_defaults_of_training_are_those_of_the_trainer(project):
    assert Training.of(project('mesh = "body.msh"')) == Training()


def test_a_sweep_knows_the_frequencies_of_the_body_that_it_is_to_shake(project):
    resonant = project(SMALL, 'sweep.signals=["resonance"]', "sweep.shapes=['tip']")
    lowest = vibrations(resonant.full, 3)[1] / (2 * np.pi)
    for case in resonant.cases:
        for _, signal in case.terms:
            assert min(abs(signal.frequency / lowest - 1)) <= 0.05


def test_cases_of_ones_own_take_the_place_of_the_sweep(project):
    cases = project(SMALL + CASES).cases
    assert [case.name for case in cases] == ["pull", "shake", "turn"]
    assert all(isinstance(case, LoadCase) for case in cases)
    np.testing.assert_array_equal(cases[0].terms[0][1](0.05), [0, 0, 1])
    assert project().cases == sweep(train=2, validation=1, test=1, duration=0.03)


def test_the_same_file_and_seed_give_the_same_snapshots_bit_for_bit(project):
    digests = [project(SMALL, f"output={name}", f"seed={seed}").generate(workers=1).digest for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "setting", ["material.density=2e3", "material.kind=NeoHookean", "damping.mass=1", "simulation.scheme=bdf2", "loads.reach=0.1"]
)
def test_physics_that_is_asked_for_is_what_is_simulated(project, setting):
    """Each of them changes the motion, and a folder of another one is refused."""
    first = project(SMALL)
    with first.at_work():
        made = first.generate(workers=1)
    changed: Any = project(SMALL, setting)
    with pytest.raises(ValueError, match=f"holds results of other settings .*{setting.partition('=')[0]}"), changed.at_work():
        pass
    other = project(SMALL, setting, "output=other").generate(workers=1)
    assert other.digests[0] != made.digests[0]


def test_a_sweep_may_grow_and_training_may_change_in_one_folder(project):
    with project(SMALL).at_work():
        first = project(SMALL).generate(workers=1)
    larger = project(SMALL, "sweep.train=4", "training.epochs=3", "subspace.latent=2")
    with larger.at_work():
        second = larger.generate(workers=1)
    assert len(second.cases) == len(first.cases) + 2
    assert Project.open(larger.output).settings.training.epochs == 3


def test_a_mesh_that_comes_with_hodsim_has_a_name_that_holds_anywhere(tmp_path):
    (tmp_path / "beam.toml").write_text('mesh = "hodsim:beam.msh"')
    project = Project.open(tmp_path / "beam.toml")
    with project.at_work():
        pass
    assert Project.open(project.output).settings.mesh == "hodsim:beam.msh"
    assert project.full.n_dofs == 1542


def test_a_case_that_changed_under_its_name_is_not_taken_for_the_new_one(project):
    made = project(SMALL + CASES).generate(workers=1)
    changed = project(SMALL + CASES.replace("[0, 0, 1], [0, 0, 0]", "[0, 0, 2], [0, 0, 0]"))
    with pytest.raises(ValueError, match=r"pull\.h5 holds another load case of that name .* run `hodsim snapshots` again"):
        changed.snapshots()
    assert changed.generate(workers=1).digests[0] != made.digests[0]
    assert [case.name for case in changed.snapshots().cases] == ["pull", "shake", "turn"]


@pytest.fixture
def halves(tmp_path):
    """A project of a body of two regions, of which the one where x > 0.2 is called soft; with the tags of its elements."""
    beam = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    tags = np.where(beam.vertices[beam.tetrahedra].mean(axis=1)[:, 0] > 0.2, 2, 1)
    content = meshio.Mesh(beam.vertices, [("tetra", beam.tetrahedra)], field_data={"soft": np.array([2, 3])})
    content.cell_data = {"gmsh:physical": [tags], "gmsh:geometrical": [tags]}
    content.write(tmp_path / "body.msh", file_format="gmsh22")

    def halves(said: str, *changes: str) -> Project:
        (tmp_path / "body.toml").write_text(SMALL + said)
        return Project.open(tmp_path / "body.toml", changes)

    return halves, tags


def test_a_region_of_the_mesh_has_a_density_of_its_own(halves):
    open_, tags = halves
    full = open_("regions.soft = {density = 500}\n").full
    assert full.material == StVK(1e5, 0.4)
    np.testing.assert_allclose(full.density, np.where(tags == 2, 500.0, 1000.0))
    assert full.vertex_mass.sum() == pytest.approx(0.75 * 0.4 * 0.01 * 1000)


def test_a_region_of_the_mesh_has_a_law_and_constants_of_its_own(halves):
    open_, tags = halves
    full = open_("regions.soft = {youngs_modulus = 2e4, poisson_ratio = 0.3}\n", "regions.soft.kind=NeoHookean").full
    for tag, law in ((1, StVK(1e5, 0.4)), (2, NeoHookean(2e4, 0.3))):
        ((material, _),) = full.material.shares(np.flatnonzero(tags == tag))
        assert material == law
    made = open_("").generate(workers=1)
    assert made.fingerprint != full.fingerprint
    assert open_("regions.soft = {poisson_ratio = 0.4}\n").full.fingerprint == made.fingerprint  # as everywhere


def test_a_traction_on_a_side_is_what_moves_the_body(halves):
    """The case's motion is that of the full model under the nodal forces of the traction."""
    open_, _ = halves
    term = '{shape = "traction x-max", signal = "piecewise", ends = [1], values = [[0, 0, -2]]}'
    cases = "".join(f'[[cases]]\nname = "{split}"\nsplit = "{split}"\nterms = [{term}]\n' for split in ("train", "validation", "test"))
    project = open_("loads.tractions = {x-max = 50}\n" + cases)
    force = traction(project.full, project.mesh.select("x-max"), (0, 0, -100))
    states = simulate(project.full, project.full.state(), 0.01, force=force, steps=3)
    expected = np.array([state.q for state in states])
    found = np.asarray(project.generate(workers=1).displacements)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())  # stored in single precision


def test_paths_are_relative_to_the_file(project, tmp_path, monkeypatch):
    opened = project()
    monkeypatch.chdir(Path("/"))
    assert opened.output == tmp_path / "out" and len(opened.mesh.vertices) == 20
