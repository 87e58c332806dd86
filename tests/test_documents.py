"""The code blocks of the pages under docs/ run, in order; the gallery shows what is there, by commands that the program takes."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from hodsim.apps.cli import program

DOCS = Path(__file__).parents[1] / "docs"
GALLERY = (DOCS / "gallery.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "least"), [("derivatives.md", 8), ("pinn.md", 3), ("tour.md", 2), ("extend.md", 6)])
def test_code_blocks_run(page, least):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= least
    for number, block in enumerate(blocks):
        try:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"block {number} of {page}: {error!r}\n{block}")


def test_the_gallery_shows_every_picture_and_film():
    shown = re.findall(r"images/([\w.]+)[)\"]", GALLERY)
    assert sorted(shown) == sorted(path.name for path in (DOCS / "images").iterdir())


@pytest.mark.parametrize("line", re.findall(r"^    hodsim (.*)", GALLERY, re.MULTILINE))
def test_the_program_takes_the_commands_of_the_gallery(line, monkeypatch):
    monkeypatch.chdir(DOCS.parent)
    command, words = get_command(program(line.split()[0])), shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("hodsim", words)  # raises for words that it does not take
