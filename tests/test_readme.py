"""What the README says is true: its examples run, its links lead somewhere, its names exist, its commands are those of the program."""

import ast
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINKS = sorted({target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target})


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run(example: str) -> dict:
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    return names


def test_the_example_simulates_a_sagging_beam(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(EXAMPLES[0])
    tip = result["displacement"][result["mesh"].vertices[:, 0] == 1.0]
    assert np.isfinite(result["displacement"]).all()
    assert (tip[:, 2] < -0.01).all()  # gravity points down z; the linear beam would come to rest at -0.37 m, w L^4 / (8 E I)
    assert (tmp_path / "sagging.vtu").stat().st_size > 0


def test_the_compiled_example_does_as_the_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference, compiled = run(EXAMPLES[0])["displacement"], run(EXAMPLES[0] + EXAMPLES[1])
    # sixty elements of a body of few: close to all of them, and the load of the second trajectory is the one simulated
    np.testing.assert_allclose(compiled["displacement"], reference, atol=0.02 * np.abs(reference).max())
    np.testing.assert_allclose(compiled["trajectories"][1].q[-1], compiled["state"].q, rtol=1e-9)


def test_the_example_of_the_engine_contracts_one_tensor_in_two_ways():
    result = run(EXAMPLES[2])
    left, right = (value.detach().numpy() for value in (result["gradient"] @ result["v"], result["w"] @ result["third"]))
    assert left == pytest.approx(right, rel=1e-10)  # w . D^3 f[v, v, v]; 400 terms of rounding


def test_there_are_no_other_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("target", LINKS)
def test_every_link_leads_to_a_file(target):
    assert (ROOT / target).is_file()


def formulas() -> list[tuple[str, str]]:
    """(file, name) of every place in the table of formulas: a link, then the names in that file."""
    places = []
    for row in section("Formula of the paper, place in the code").splitlines():
        for link in row.rpartition(" | ")[2].split(" · "):
            if match := re.match(r"\[`([^`]+)`\]\(([^)]+)\)(.*)", link):
                assert match[1] == match[2], f"the link's text {match[1]} and target {match[2]} differ"
                names = re.findall(r"`([^`]+)`", match[3])
                assert names, f"no name follows the link to {match[1]}"
                places += [(match[2], name) for name in names]
    return places


def test_every_equation_that_is_built_has_a_place():
    table = section("Formula of the paper, place in the code")
    assert len(formulas()) >= 12
    assert not [number for number in range(2, 14) if not re.search(rf"eqs?\. (\d+(,| and) )?{number}\b|eqs\. {number},", table)]


@pytest.mark.parametrize(("file", "name"), formulas(), ids=lambda value: value)
def test_every_name_of_the_table_is_defined_where_it_says(file, name):
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        assert found, f"{file} defines no {name}"
        body = found[0].body


def test_the_commands_are_those_of_the_program():
    from hodsim.apps.cli import COMMANDS

    told = re.findall(r"^\| `hodsim (\w+)`", section("The command"), re.MULTILINE)
    assert told == list(COMMANDS)


def test_the_version_of_torch_is_the_one_that_the_set_up_installs():
    spec = importlib.util.spec_from_file_location("install", ROOT / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    assert f"pip install {install.cpu_requirement('linux')[0]} --extra-index-url {install.CPU_INDEX} " in README
