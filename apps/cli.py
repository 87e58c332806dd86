"""The `hodsim` command: one function a file, and the place where errors become sentences."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape
from threadpoolctl import threadpool_limits

from hodsim.apps.beam import beam
from hodsim.apps.bench import bench
from hodsim.apps.console import complain, say
from hodsim.apps.export import export
from hodsim.apps.init import init
from hodsim.apps.mesh import mesh
from hodsim.apps.report import report
from hodsim.apps.simulate import simulate
from hodsim.apps.snapshots import snapshots
from hodsim.apps.train import train
from hodsim.apps.view import view
from hodsim.mesh import MeshNotice
from hodsim.report.machine import environment
from hodsim.solve import ConvergenceError


def _say_version(asked: bool) -> None:
    if asked:
        made = environment()
        print(*(f"{name} {made[name]}" for name in ("hodsim", "python", "torch", "numpy", "scipy", "numba")), sep=", ")
        raise typer.Exit


app = typer.Typer(
    name="hodsim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (beam, init, snapshots, train, simulate, view, report, export, bench):
    app.command()(command)
app.add_typer(mesh)


@app.callback()
def hodsim(version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")] = False):
    """Reduced-order elastic simulation with high-order differentiable networks (HoD-Net). Start with `hodsim beam`."""


OUT_OF_MEMORY = ("allocate", "can't start new thread")  # in RuntimeErrors, PyTorch's and Python's
NO_MEMORY = "hodsim: there is not enough memory. What was finished is kept; a smaller mesh, fewer workers or fewer load cases take less.\n"
LEAST_ROOM = 256 << 20  # [B] of address space, below which compiled libraries may end the process before anything can be said


def main() -> None:
    """Run the command line; a user's mistake ends with one sentence and exit status 1, Ctrl-C with 130."""
    # matrices and networks here are small: several threads would only wait for one another, twice as slow alone, 40x on a busy machine
    threadpool_limits(1)
    warnings.showwarning = _notice
    try:
        np.empty(LEAST_ROOM, np.uint8)  # nothing touches it
        app()
    except SystemExit as ending:
        if ending.code == 130:  # which is what typer makes of a KeyboardInterrupt
            complain("stopped. What was finished is kept; the same command continues from there.")
        raise
    except (ValueError, OSError, ModuleNotFoundError, ConvergenceError, FloatingPointError) as error:
        complain(_sentence(error))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        sys.stderr.write(NO_MEMORY)  # plainly: colours are imported when first used, which takes memory
        sys.exit(1)


def _notice(message: Warning | str, category: type[Warning], *where: object) -> None:
    """What a mesh file made us leave out, in one line; other warnings are for programmers and go where they do in Python."""
    if issubclass(category, MeshNotice):
        say(f"[yellow]notice[/] {escape(str(message))}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, str(where[0]), int(str(where[1]))))


def _sentence(error: Exception) -> str:
    """The message of an error; an OSError's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)
