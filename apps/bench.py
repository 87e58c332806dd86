"""`hodsim bench`: the benchmarks that the figures in the documentation come from."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from threadpoolctl import threadpool_limits

from hodsim.apps.console import progress_bar, say

BENCHMARKS = ("derivatives", "simulation", "training", "scale", "finetune", "pinn", "contractive")


def bench(
    name: Annotated[str, typer.Argument(help=", ".join(BENCHMARKS))],
    output: Annotated[Path, typer.Option(help="Folder for NAME.json, NAME.md and NAME.png.")] = Path("out/bench"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cases and repeats: rough figures.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder with mnist*.npz, cifar10*.npz or SVHN's .mat files (finetune, contractive).")] = None,
    full: Annotated[bool, typer.Option("--full", help="The paper's net on all images, for GPUs (contractive).")] = False,
) -> None:
    """Measure hodsim side by side with installed peers, on problems of its own, and write NAME.json, NAME.md and a figure NAME.png.

    Example: hodsim bench derivatives --quick
    """
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}; expected one of {', '.join(BENCHMARKS)}")
    if data is not None and name not in ("finetune", "contractive"):
        raise ValueError(f"--data is for finetune and contractive; the benchmark {name} makes its own")
    if full and (name != "contractive" or quick):
        raise ValueError("--full is for contractive, without --quick")
    options: dict[str, Any] = {"data": data} if data else {}
    options |= {"full": True} if full else {}
    run = import_module(f"hodsim.benchmarks.{name}").run
    threadpool_limits(1)  # of what has been loaded since the command line set out
    if "progress" in signature(run).parameters:
        with progress_bar(name) as options["progress"]:
            run(output, quick, **options)
    else:
        run(output, quick, **options)
    for suffix in ("json", "md", "png"):
        say(f"  {output / name}.{suffix}")
