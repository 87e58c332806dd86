"""The code blocks of the pages under docs/ run, in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["derivatives.md", "pinn.md"])
def test_code_blocks_run(page):
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for number, block in enumerate(blocks):
        try:
            exec(compile(block, f"{page}, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"block {number} of {page}: {error!r}\n{block}")
