"""The code blocks of docs/derivatives.md run, in order."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "derivatives.md"


def test_code_blocks_run():
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    for number, block in enumerate(blocks):
        try:
            exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"block {number} of {PAGE.name}: {error!r}\n{block}")
