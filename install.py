"""Make .venv and install hodsim into it, with the build of PyTorch that this machine needs.

    python install.py                 what `make beam` needs
    python install.py --extra test    and what `make test` needs

PyPI's PyTorch for Linux brings several gigabytes of CUDA. Where no NVIDIA GPU answers, the CPU build, marked +cpu, is asked for by its
name, so that no other build can come in its place. TORCH decides otherwise:

    TORCH=cpu     the CPU build, even where there is a GPU
    TORCH=cuda    PyPI's build, even where no GPU is seen
    TORCH=skip    none: the PyTorch in .venv is yours and stays

Standard library only; parses on old Pythons, so that they can be refused by name.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

TORCH_VERSION = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST_PYTHON = (3, 10)
HERE = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=HERE / ".venv", help="folder of the environment (default: .venv)")
    parser.add_argument("--extra", choices=["test", "dev"], help="install the packages of this extra too")
    options = parser.parse_args()
    try:
        python = environment(options.venv)
        install_torch(python, os.environ.get("TORCH") or "auto")
        install_hodsim(python, options.extra)
    except Refusal as refusal:
        sys.exit("install.py: " + str(refusal))
    except subprocess.CalledProcessError as error:
        sys.exit("install.py: failed at: " + " ".join(map(str, error.cmd)))


class Refusal(Exception):
    """The set-up cannot go on: the reason, and the way out."""


def environment(venv):
    """The path of the Python of the virtual environment. One that works stays, unless it is of another Python and holds no PyTorch yet."""
    refuse_old_python(sys.version_info, sys.executable)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    same = f"import pip, sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    if not succeeds(python, "-c", same) and not (succeeds(python, "-c", "import pip") and installed_torch(python)):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    return python


def refuse_old_python(version, executable):
    if tuple(version[:2]) < OLDEST_PYTHON:
        raise Refusal(
            f"{executable} is Python {version[0]}.{version[1]}; hodsim needs 3.10 or newer. "
            "Name one: `make beam PYTHON=python3.12`, or run this file with it"
        )


def install_torch(python, choice):
    """Install PyTorch on its own, so that an index out of reach costs nothing else its retries. One that is there already stays."""
    build = torch_build(choice)
    installed = installed_torch(python)
    if build is None or (installed and (choice == "auto" or build == installed[1])):
        return
    if installed:
        pip(python, "uninstall", "--yes", "torch")
    if build == "cuda":
        pip(python, "install", "torch==" + TORCH_VERSION)
        return
    try:
        pip(python, "install", "--no-deps", *cpu_requirement(sys.platform))
    except subprocess.CalledProcessError:
        raise Refusal(
            f"PyTorch {TORCH_VERSION}+cpu for Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()} was not found "
            f"(pip says why above); is {CPU_INDEX} within reach? Ways out: another Python from 3.10 to 3.13, "
            "`make beam PYTHON=python3.12`; PyPI's build, several gigabytes, `TORCH=cuda`; or install a PyTorch of your own into "
            f"{python.parent.parent}, then `TORCH=skip`"
        ) from None


def install_hodsim(python, extra):
    """Install this folder, editable, and what it needs; PyTorch stays as it is, whatever newer release an index has."""
    installed = installed_torch(python)
    if not installed:
        raise Refusal(f"{python.parent.parent} holds no PyTorch; install one, or leave TORCH unset")
    target = str(HERE) + ("[" + extra + "]" if extra else "")
    pip(python, "install", "--editable", target, "torch==" + installed[0])


def torch_build(choice):
    """The build to install: 'cpu', 'cuda', or None for none at all."""
    if choice not in ("auto", "cpu", "cuda", "skip"):
        raise Refusal(f"TORCH is {choice!r}; expected cpu, cuda or skip, or leave it unset to decide by nvidia-smi")
    if choice == "cuda" and not sys.platform.startswith("linux"):
        raise Refusal("PyPI has builds with CUDA for Linux only; install one by the selector on pytorch.org into .venv, then TORCH=skip")
    if choice == "auto":
        choice = "cuda" if sys.platform.startswith("linux") and has_nvidia_gpu() else "cpu"
    return None if choice == "skip" else choice


def cpu_requirement(system):
    """What to ask pip for. On Linux +cpu names the build; for macOS and Windows PyPI's wheels are CPU builds under the plain version."""
    if not system.startswith("linux"):
        return ["torch==" + TORCH_VERSION]
    return ["torch==" + TORCH_VERSION + "+cpu", "--extra-index-url", CPU_INDEX, "--retries", "1", "--timeout", "15"]


def has_nvidia_gpu():
    """Whether a driver is loaded and lists a GPU; nvidia-smi without a GPU exits with an error or lists none."""
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return False
    try:
        listed = subprocess.run([nvidia_smi, "--list-gpus"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


def installed_torch(python):
    """(version, build) of the PyTorch that is installed, read without importing it; None where there is none."""
    asked = (  # builds with CUDA require packages of NVIDIA's
        "from importlib.metadata import version, requires; "
        "print(version('torch'), 'cuda' if any(r.startswith(('nvidia', 'cuda')) for r in requires('torch') or ()) else 'cpu')"
    )
    found = subprocess.run([str(python), "-c", asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return tuple(found.stdout.decode().split()) if found.returncode == 0 else None


def succeeds(*command):
    try:
        return subprocess.run([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def pip(python, *arguments):
    subprocess.run([str(python), "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


if __name__ == "__main__":
    main()
