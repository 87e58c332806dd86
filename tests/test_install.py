"""install.py: which PyTorch it asks for on which machine. Nothing is installed here."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "install.py"


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a stand-in for NVIDIA's tool on an otherwise empty PATH."""

    def write(script):
        file = tmp_path / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    return write


def test_it_parses_on_python_3_6_so_that_it_can_refuse_it(install):
    ast.parse(FILE.read_text(), feature_version=(3, 6))
    with pytest.raises(install.Refusal, match=r"Python 3\.9; hodsim needs 3\.10 or newer.*make beam PYTHON="):
        install.refuse_old_python((3, 9, 1), "/usr/bin/python3")
    install.refuse_old_python((3, 10), "/usr/bin/python3")


@pytest.mark.parametrize(
    ("script", "build"),
    [
        ("echo 'GPU 0: NVIDIA (UUID: ...)'", "cuda"),
        ("echo 'No devices were found'", "cpu"),
        ("echo 'couldn't communicate with the NVIDIA driver'; exit 9", "cpu"),
    ],
    ids=["a GPU", "a driver without a GPU", "no driver"],
)
def test_the_build_follows_what_nvidia_smi_lists(install, nvidia_smi, script, build):
    nvidia_smi(script)
    assert install.torch_build("auto") == build


def test_without_nvidia_smi_it_is_the_cpu_build(install, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.torch_build("auto") == "cpu"


@pytest.mark.parametrize(("choice", "build"), [("cpu", "cpu"), ("cuda", "cuda"), ("skip", None)])
def test_the_user_has_the_last_word(install, nvidia_smi, choice, build):
    nvidia_smi("exit 9" if choice == "cuda" else "echo 'GPU 0: ...'")
    assert install.torch_build(choice) == build


def test_an_unknown_choice_is_refused_by_name(install):
    with pytest.raises(install.Refusal, match="TORCH is 'rocm'; expected cpu, cuda or skip"):
        install.torch_build("rocm")


def test_on_linux_only_a_cpu_build_can_satisfy_the_request(install):
    requirement, *options = install.cpu_requirement("linux")
    assert requirement.endswith("+cpu")  # PyPI refuses versions with a local part, so what it holds cannot match
    assert "--index-url" not in options  # the user's own index and wheels stay in force


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_it_is_the_wheel_of_pypi(install, system):
    assert install.cpu_requirement(system) == [f"torch=={install.TORCH_VERSION}"]
