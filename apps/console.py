"""What a person sees while a command works: progress bars with the time left, and where things were saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[..., None]]:
    """A bar; yields update(done, total, note=...)."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("spent"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(label, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def working(label: str) -> Iterator[None]:
    """Something that moves while a step of unknown length goes on."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as bars:
        bars.add_task(label, total=None)
        yield


def say(text: str) -> None:
    console.print(text, soft_wrap=True)


def complain(text: str) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]hodsim:[/] {escape(text)}", soft_wrap=True)


def facts(lines: Mapping[str, str]) -> None:
    """Names and what there is to say of them, a line each."""
    width = max(map(len, lines))
    for name, text in lines.items():
        say(f"[bold]{escape(name):<{width}}[/]  {escape(text)}")


def comparison(summary: Mapping[str, Any]) -> None:
    """The table of a report: one row a model."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "tip error", "median", "worst", "ms/step", "speed-up", "failed"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    full = summary["full"]
    table.add_row("full model", "", "", "", f"{full['ms_per_step']['p50']:.2f}", "", "")
    for model in summary["models"]:
        tip = model["tip_error"]
        errors = [tip["mean"], tip["median"], tip["max"]]
        table.add_row(
            model["name"],
            *("-" if error is None else f"{100 * error:.1f} %" for error in errors),
            f"{model['ms_per_step']['p50']:.2f}",
            f"{model['speedup']:.1f}x",
            str(model["failed_steps"]),
        )
    console.print(table)
