"""The code block of docs/contractive.md runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "contractive.md"


def test_the_code_block_runs():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, PAGE.name, "exec"), {})
