"""The order of the layers and the rules that the source tree can show, read from the syntax of every module."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
# folder of the source tree -> package installed
PLACES = {"hodsim": "hodsim", "apps": "hodsim.apps", "benchmarks": "hodsim.benchmarks", "trainers": "hodsim.trainers"}

# A module imports from its own layer and from those before it.
LAYERS = (
    "checks", "storage", "multicomplex", "contractive", "solve", "optim", "pinn", "dynamics", "mesh", "fem", "snapshots", "subspace", "reduced",
    "project", "report", "viewer", "trainers", "benchmarks", "apps",
)  # fmt: skip

# Packages that only some layers may import. numpy and scipy are everywhere.
CONFINED = {
    "polyscope": {"viewer"},
    "matplotlib": {"report", "benchmarks"},
    "jinja2": {"report"},
    "PIL": {"report", "viewer"},
    "imageio_ffmpeg": {"report"},
    "meshio": {"mesh"},
    "h5py": {"snapshots"},
    "distributed": {"snapshots"},
    "filelock": {"storage"},
    "pydantic": {"project"},
    "typer": {"apps"},
    "rich": {"apps"},
    "torch": {"checks", "multicomplex", "contractive", "optim", "pinn", "fem", "subspace", "reduced", "report", "trainers", "benchmarks", "apps"},
}
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 60  # of a function without its docstring
LONG_FOR_A_REASON = {"newton"}  # of the kernel: one place where the residual is evaluated, because it is compiled into each that there is
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "base", "helpers", "misc", "tools"}


@dataclass(frozen=True)
class Module:
    name: str  # as it is imported
    file: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.file.read_text(encoding="utf-8"), self.file)

    @property
    def layer(self) -> str:
        """'hodsim.fem.model' -> 'fem'; empty for hodsim itself and its `public`, which gathers the public names of all layers."""
        return layer(self.name)

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, module) of every import, those within functions included."""
        package = self.name if self.file.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                source = ".".join(filter(None, (above, node.module)))
                if source in PACKAGES:  # `from hodsim import fem` names a module, `from hodsim.fem import FullModel` a name in it
                    yield from ((node.lineno, _module_or_parent(source, alias.name)) for alias in node.names)
                else:
                    yield node.lineno, source

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the dotted name of what is called, as far as it is a dotted name."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, ast.unparse(node.func)

    def where(self, line: int) -> str:
        return f"{self.file.relative_to(ROOT)}:{line}"


def layer(name: str) -> str:
    return "" if name in ("hodsim", "hodsim.public") else name.split(".")[1]


def _module_or_parent(package: str, name: str) -> str:
    return f"{package}.{name}" if f"{package}.{name}" in NAMES else package


def _module(folder: str, package: str, file: Path) -> Module:
    parts = file.relative_to(ROOT / folder).with_suffix("").parts
    return Module(".".join((package, *(p for p in parts if p != "__init__"))), file)


MODULES = [_module(folder, package, file) for folder, package in PLACES.items() for file in sorted((ROOT / folder).rglob("*.py"))]
NAMES = {module.name for module in MODULES}
PACKAGES = {module.name for module in MODULES if module.file.name == "__init__.py"}
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def test_every_module_has_a_layer():
    unknown = [module.name for module in MODULES if module.layer not in ("", *LAYERS)]
    assert not unknown, f"give {unknown} a place in LAYERS"


@every_module
def test_a_module_imports_only_from_layers_before_it(module):
    allowed = ("", *LAYERS) if not module.layer else LAYERS[: LAYERS.index(module.layer) + 1]
    upward = [
        f"{module.where(line)} imports {name}"
        for line, name in module.imports()
        if name.split(".")[0] == "hodsim" and layer(name) not in allowed
    ]
    assert not upward, f"{module.layer or 'hodsim'} may import from {allowed} only, each name by its own module: {upward}"


@every_module
def test_packages_stay_in_the_layers_that_need_them(module):
    strays = [
        f"{module.where(line)} imports {name}; only {sorted(CONFINED[name.split('.')[0]])} may"
        for line, name in module.imports()
        if module.layer not in CONFINED.get(name.split(".")[0], {module.layer})
    ]
    assert not strays, strays


def test_the_derivative_engine_knows_torch_and_checks_only():
    known = {"torch", "hodsim", *sys.stdlib_module_names}
    strangers = [
        module.where(line) for module in MODULES if module.layer == "multicomplex"
        for line, name in module.imports() if name.split(".")[0] not in known
    ]  # fmt: skip
    assert not strangers, strangers


@every_module
def test_nothing_runs_what_it_reads(module):
    imported = [module.where(line) for line, name in module.imports() if name.split(".")[0] in RUNS_WHAT_IT_READS]
    called = [module.where(call.lineno) for call, name in module.calls() if name in ("eval", "exec", "compile", "__import__")]
    loaded = [module.where(call.lineno) for call, name in module.calls() if name == "torch.load" and not _says(call, "weights_only", True)]
    unpickled = [module.where(call.lineno) for call, name in module.calls() if _says(call, "allow_pickle", True)]
    assert not imported + called + loaded + unpickled


@every_module
def test_files_are_written_whole_or_not_at_all(module):
    """Through storage.write_atomically; what writes a file by itself can leave half of one behind."""
    if module.layer == "storage":
        return
    direct = [
        module.where(call.lineno)
        for call, name in module.calls()
        if name.rpartition(".")[2] in ("write_text", "write_bytes", "save_file")
        or name in ("np.save", "np.savez", "np.savez_compressed", "np.savetxt", "torch.save", "json.dump")
        or (name.rpartition(".")[2] == "open" and any(_is_writing_mode(argument) for argument in _arguments(call)))
    ]
    assert not direct, direct


@every_module
def test_nothing_global_is_set(module):
    """No default dtype, device, seed or thread count: they follow the inputs, and randomness takes a generator."""
    setters = ("set_default_dtype", "set_default_device", "set_num_threads", "use_deterministic_algorithms")
    generators = ("default_rng", "Generator", "SeedSequence")
    global_randomness = [
        module.where(call.lineno)
        for call, name in module.calls()
        if name == "torch.seed" or (name.startswith("np.random.") and name.rpartition(".")[2] not in generators)
    ]
    assert not [module.where(call.lineno) for call, name in module.calls() if name.rpartition(".")[2] in setters]
    assert not global_randomness
    assert not list(_lines_that_seed_torch(module.tree)), "torch.manual_seed belongs in `with torch.random.fork_rng():`"


@every_module
def test_a_module_says_what_it_is_in_its_first_line(module):
    assert ast.get_docstring(module.tree) or not module.tree.body, f"{module.where(1)} has no docstring"


@pytest.mark.parametrize("folder", [*PLACES, "tests"])
def test_files_and_functions_are_short(folder):
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= LINES_OF_A_FILE, f"{file} has {text.count(chr(10))} lines; split it by what it does"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name not in LONG_FOR_A_REASON:
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= LINES_OF_A_FUNCTION, f"{file}:{node.lineno} {node.name} has {lines} lines; name its parts"


def test_names_of_files_say_what_is_in_them():
    nothing_said = [module.name for module in MODULES if NAMES_THAT_SAY_NOTHING & set(module.name.split("."))]
    assert not nothing_said


def test_every_import_is_a_dependency_that_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [requirement for group in ("peers", "more-peers", "dask", "meshes", "exports") for requirement in extras[group]]
    declared = {re.split(r"[<>=\[;]", requirement)[0] for requirement in project["dependencies"] + requirements}
    distribution = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg", "markupsafe": "jinja2", "pxr": "usd-core",
                    "curvlinops": "curvlinops-for-pytorch"}
    imported = {name.split(".")[0] for module in MODULES for _, name in module.imports()} - sys.stdlib_module_names - {"hodsim", "tomllib"}
    assert {distribution.get(name, name) for name in imported} == declared


def test_every_package_is_installed():
    assert set(installed()["packages"]) == PACKAGES | {"hodsim.meshes"}


def test_every_data_file_is_installed():
    patterns = installed()["package-data"]
    for folder, package in {**PLACES, "meshes": "hodsim.meshes"}.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc", ".nbi", ".nbc"):  # the last two are numba's cache
                owner = ".".join((package, *file.relative_to(ROOT / folder).parts[:-1]))
                assert any(fnmatch(file.name, pattern) for pattern in patterns.get(owner, ())), f"no package-data of {owner} fits {file}"


def test_importing_hodsim_opens_no_screen_and_draws_nothing():
    script = "import sys, hodsim.apps; print(*sorted({'polyscope', 'matplotlib', 'PIL', 'typer'} & set(sys.modules)))"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not imported


def installed() -> dict:
    """What pyproject.toml tells setuptools."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _says(call: ast.Call, keyword: str, value: object) -> bool:
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords)


def _is_writing_mode(argument: ast.expr) -> bool:
    value = argument.value if isinstance(argument, ast.Constant) else None
    return isinstance(value, str) and value != "" and set(value) <= set("rwaxbt+") and bool(set(value) & set("wax+"))


def _lines_that_seed_torch(node: ast.AST, *, forked: bool = False) -> Iterator[int]:
    """Lines of torch.manual_seed(..) outside of `with torch.random.fork_rng(..)`, which puts the global generator back."""
    if isinstance(node, ast.With):
        forked = forked or any("fork_rng" in ast.unparse(item.context_expr) for item in node.items)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.manual_seed" and not forked:
        yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from _lines_that_seed_torch(child, forked=forked)


def test_a_worker_of_a_sweep_starts_without_torch():
    """It imports this module, with what that needs, before it can compute: PyTorch alone would take as long as all the rest."""
    code = "import sys; import hodsim.snapshots.processes; print([name for name in ('torch', 'hodsim.reduced', 'matplotlib') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
