"""A small project, and the `hodsim` command run on it within the tests' own process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from hodsim.apps import main

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
