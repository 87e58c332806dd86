"""A benchmark's figure as the content of a PNG file. matplotlib is imported by who draws: processes that measure go without."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: Figure, dpi: float) -> bytes:
    """The figure at `dpi` dots an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
