"""What a reviewer would search the tree for: nothing that runs, unpickles or unpacks what it reads; dependencies with a range each."""

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "install.py", *(file for folder in ("hodsim", "apps", "benchmarks", "trainers", "meshes") for file in (ROOT / folder).rglob("*.py"))]
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "pickle.load", "pickle.loads", "marshal.loads",
        "yaml.load", "runpy.run_path", "tempfile.mktemp"}  # fmt: skip
UNPACKS = {"extractall", "extract", "unpack_archive"}  # a member of an archive may be called ../elsewhere


def calls(file: Path):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), file)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_nothing_is_run_unpickled_or_unpacked(file):
    bad = [
        f"{name} in line {call.lineno}"
        for call, name in calls(file)
        if name in RUNS or name.rpartition(".")[2] in UNPACKS
        or any(k.arg == "shell" or (k.arg == "allow_pickle" and ast.unparse(k.value) != "False") for k in call.keywords)
        or (name == "torch.load" and not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords))
    ]  # fmt: skip
    assert not bad


def test_the_search_finds_what_it_is_for(tmp_path):
    """The same search over a file that has one of each."""
    file = tmp_path / "bad.py"
    lines = ["eval('1')", "z.extractall()", "subprocess.run('x', shell=True)", "np.load(f, allow_pickle=True)", "torch.load(f)"]
    file.write_text("\n".join(lines))
    found = 0
    for line in lines:
        file.write_text(line)
        try:
            test_nothing_is_run_unpickled_or_unpacked(file)
        except AssertionError:
            found += 1
    assert found == len(lines)


def test_every_dependency_has_a_lowest_and_a_highest_version():
    """A release that nobody has tried is not installed unasked; llvmlite is numba's own, of the one version that it asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    open_ended = [r for r in project["dependencies"] if not re.match(r"[\w-]+>=[\d.]+,<[\d.]+(;|$)", r) and r != "llvmlite"]
    assert not open_ended
