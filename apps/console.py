"""What a person sees while a command works: progress bars with the time left, and where things were saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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


def say(text: str) -> None:
    console.print(text, soft_wrap=True)


def complain(text: str) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]hodsim:[/] {escape(text)}", soft_wrap=True)
