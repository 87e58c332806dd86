"""A random sample of the mutants of a folder, each through tests in a copy of the tree: the survivors are printed."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .mutants import mutants

ROOT = Path(__file__).parents[2]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
PARTS = ("hodsim", "apps", "trainers", "benchmarks", "meshes", "tests", "docs")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", help="a folder or file of the tree, e.g. hodsim/fem")
parser.add_argument("tests", nargs="+", help="tests to run, for pytest")
parser.add_argument("--number", type=int, default=24)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--without", default="", help="leave out files whose path holds this, e.g. compiled kernels that take minutes each")
options = parser.parse_args()
place = ROOT / options.folder
files = [f for f in ([place] if place.is_file() else sorted(place.rglob("*.py"))) if not options.without or options.without not in str(f)]
every = [(file.relative_to(ROOT), mutant) for file in files for mutant in mutants(file.read_text(encoding="utf-8"))]
sample = random.Random(options.seed).sample(every, min(options.number, len(every)))
with tempfile.TemporaryDirectory() as name:
    copy = Path(name)
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part)
    for file in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / file, copy / file)
    for part in ("apps", "trainers", "benchmarks", "meshes"):  # hodsim.apps and the like lie beside hodsim
        os.symlink(copy / part, copy / "hodsim" / part)
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *options.tests]
    assert subprocess.run(command, cwd=copy, env=environment, **QUIET).returncode == 0, "the tests fail without a mutant"
    survived = 0
    for number, (file, mutant) in enumerate(sample, 1):
        whole = (copy / file).read_text(encoding="utf-8")
        (copy / file).write_text(mutant.text, encoding="utf-8")
        started = time.monotonic()
        try:
            lives = subprocess.run(command, cwd=copy, env=environment, timeout=900, **QUIET).returncode == 0
        except subprocess.TimeoutExpired:
            lives = False
        (copy / file).write_text(whole, encoding="utf-8")
        survived += lives
        mark = "SURVIVED" if lives else "killed  "
        change = f"{file}:{mutant.line}: {mutant.before!r} -> {mutant.after!r}"
        print(f"{number:3d}/{len(sample)} {mark} {change} ({time.monotonic() - started:.0f} s)", flush=True)
print(f"{survived} of {len(sample)} survived, of {len(every)} mutants of {options.folder}")
