"""The code blocks of the pages under docs/ run, in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


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
