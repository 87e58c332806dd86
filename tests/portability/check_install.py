"""Build wheel and sdist, install one of them into an empty environment, and run the main job there. By hand, it takes minutes:

    python tests/portability/check_install.py                                   # this Python, the newest of everything
    python tests/portability/check_install.py --python python3.10 --pin "numpy==1.26.*" --pin "torch==2.4.*"
    python tests/portability/check_install.py --python python3.13 --only-compile       # where no PyTorch can be had

The environment knows nothing of this tree: what is missing from the wheel is missing there. Standard library only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ("hodsim/meshes/beam.msh", "hodsim/meshes/beam.hod", "hodsim/report/report.html")  # what is not code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python to try")
    parser.add_argument("--pin", action="append", default=[], help="a requirement to hold to; repeatable")
    parser.add_argument("--sdist", action="store_true", help="install from the source archive in place of the wheel")
    parser.add_argument("--only-compile", action="store_true", help="byte-compile what the wheel holds, and install nothing")
    parser.add_argument("--folder", type=Path, help="where the environment is made and kept; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        wheel, sdist = built(folder / "dist")
        for name in DATA:
            assert name in zipfile.ZipFile(wheel).namelist(), f"{wheel.name} lacks {name}"
        if options.only_compile:
            compiled(options.python, wheel, folder / "tree")
        else:
            ran(options.python, sdist if options.sdist else wheel, options.pin, folder)


def built(folder: Path) -> tuple[Path, Path]:
    """Wheel and source archive, made by pip and setuptools from this tree."""
    source = "import os, sys; os.chdir(sys.argv[1]); from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[2]))"
    folder.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    run(sys.executable, "-c", source, ROOT, folder)
    return next(folder.glob("hodsim-*.whl")), next(folder.glob("hodsim-*.tar.gz"))


def compiled(python: str, wheel: Path, tree: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tree)
    run(python, "-W", "error", "-m", "compileall", "-q", "-f", tree)
    say(f"every module of {wheel.name} compiles by {version(python)}, without a warning")


def ran(python: str, archive: Path, pins: list[str], folder: Path) -> None:
    """The main job, in an environment that holds the archive and what it asks for, away from this tree."""
    venv, away = folder / "venv", folder / "away"
    run(python, "-m", "venv", "--clear", venv)
    inside = venv / ("Scripts" if os.name == "nt" else "bin")
    run(inside / "python", "-m", "pip", "install", "--quiet", archive, *pins)
    away.mkdir(exist_ok=True)
    run(inside / "python", "-m", "pip", "check")
    run(inside / "python", "-c", "import hodsim, numpy, torch; print(hodsim.__file__, numpy.__version__, torch.__version__)", cwd=away)
    run(inside / "hodsim", "beam", "--quick", "--no-view", "--output", away / "beam", cwd=away)
    for made in ("model.hod", "report.html", "report.json", "picture.png"):
        assert (away / "beam" / made).stat().st_size > 0, made
    say(f"{archive.name} runs `hodsim beam --quick` by {version(python)} with {', '.join(pins) or 'the newest of everything'}")


def version(python: str) -> str:
    return subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def run(*command: object, cwd: Path | None = None) -> None:
    words = [str(word) for word in command]
    say("$ " + " ".join(words))
    subprocess.run(words, check=True, cwd=cwd, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
