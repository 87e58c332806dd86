"""The `hodsim` command: one function a file, and the place where errors become sentences."""

from __future__ import annotations

import sys

import typer
from threadpoolctl import threadpool_limits

from hodsim.apps.beam import beam
from hodsim.apps.bench import bench
from hodsim.apps.console import complain
from hodsim.apps.init import init
from hodsim.apps.report import report
from hodsim.apps.simulate import simulate
from hodsim.apps.snapshots import snapshots
from hodsim.apps.train import train
from hodsim.apps.view import view
from hodsim.solve import ConvergenceError

app = typer.Typer(
    name="hodsim",
    help="Reduced-order elastic simulation with high-order differentiable networks (HoD-Net). Start with `hodsim beam`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (beam, init, snapshots, train, simulate, view, report, bench):
    app.command()(command)


def main() -> None:
    """Run the command line; a user's mistake ends with one sentence and exit status 1, Ctrl-C with 130."""
    # matrices and networks here are small: several threads would only wait for one another, twice as slow alone, 40x on a busy machine
    threadpool_limits(1)
    try:
        app()
    except SystemExit as ending:
        if ending.code == 130:  # which is what typer makes of a KeyboardInterrupt
            complain("stopped. What was finished is kept; the same command continues from there.")
        raise
    except (ValueError, OSError, ConvergenceError, FloatingPointError) as error:
        complain(_sentence(error))
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """The message of an error; an OSError's without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error)
