"""The `hodsim` command: one function a file, and the place where errors become sentences.

Only the command that is asked for is imported: PyTorch and numba take seconds, which a help text or a misspelt word need not.
"""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, NoReturn

import numpy as np
import typer
from rich.markup import escape
from threadpoolctl import threadpool_limits

from hodsim.apps.console import complain, say

COMMANDS = {
    "mesh": "Look at a mesh file, make a beam, fill a closed surface, tidy a mesh.",
    "beam": "Everything below for the beam that comes with hodsim: from mesh to report.",
    "init": "Write the project file of a mesh, with every setting.",
    "snapshots": "Simulate a sweep of load cases with the full model.",
    "train": "Train the network on the snapshots.",
    "simulate": "Run a model under a load, to a film, a table or files for other programs.",
    "view": "Pull on a reduced body in a window.",
    "report": "Compare the network with PCA and the full model on held-out loads.",
    "export": "Write the decoder for other programs, by torch.export or as ONNX.",
    "bench": "Measure hodsim side by side with installed peers.",
}


def _say_version(asked: bool) -> None:
    if asked:
        of_libraries = [f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "numba")]
        print(f"hodsim {version('hodsim')}", f"python {platform.python_version()}", *of_libraries, sep=", ")
        raise typer.Exit


def program(*names: str) -> typer.Typer:
    """The command line with the named commands; the others are in its list only."""
    app = typer.Typer(
        name="hodsim",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(hodsim)
    for name, summary in COMMANDS.items():
        command = getattr(import_module(f"hodsim.apps.{name}"), name) if name in names else _not_loaded
        if isinstance(command, typer.Typer):
            app.add_typer(command, short_help=summary)
        else:
            app.command(name, short_help=summary)(command)
    return app


def _not_loaded() -> None:
    raise AssertionError("a command is run that was not named")


def hodsim(version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")] = False):
    """Reduced-order elastic simulation with high-order differentiable networks (HoD-Net). Start with `hodsim beam`."""


OUT_OF_MEMORY = ("allocate", "can't start new thread")  # in RuntimeErrors, PyTorch's and Python's
NO_MEMORY = "hodsim: there is not enough memory. What was finished is kept; a smaller mesh, fewer workers or fewer load cases take less.\n"
LEAST_ROOM = 256 << 20  # [B] of address space, below which compiled libraries may end the process before anything can be said


def run(app: Callable[[], None]) -> None:
    """Run a command line; a user's mistake ends with one sentence and exit status 1, Ctrl-C with 130."""
    # matrices and networks here are small: several threads would only wait for one another, twice as slow alone, 40x on a busy machine
    # (this is about the libraries that have been loaded)
    threadpool_limits(1)
    warnings.showwarning = _notice
    try:
        np.empty(LEAST_ROOM, np.uint8)  # nothing touches it
        app()
    except SystemExit as ending:
        if ending.code == 130:  # which is what typer makes of a KeyboardInterrupt
            complain("stopped. What was finished is kept; the same command continues from there.")
        raise
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        complain(_sentence(error))
        sys.exit(1)
    except MemoryError:
        _say_no_memory()
    except RuntimeError as error:
        if any(words in str(error) for words in OUT_OF_MEMORY):
            _say_no_memory()
        from hodsim.solve import ConvergenceError

        if not isinstance(error, ConvergenceError):
            raise
        complain(_sentence(error))
        sys.exit(1)


def _say_no_memory() -> NoReturn:
    sys.stderr.write(NO_MEMORY)  # plainly: colours are imported when first used, which takes memory
    sys.exit(1)


def _notice(message: Warning | str, category: type[Warning], *where: object) -> None:
    """What a mesh file made us leave out, in one line; other warnings are for programmers and go where they do in Python."""
    from hodsim.mesh import MeshNotice

    if issubclass(category, MeshNotice):
        say(f"[yellow]notice[/] {escape(str(message))}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, str(where[0]), int(str(where[1]))))


def _sentence(error: Exception) -> str:
    """The message of an error; an OSError's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)
