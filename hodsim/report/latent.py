"""The picture behind a choice of the latent dimension."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure


def latent_figure(curve: Sequence[tuple[int, float, float]], chosen: int) -> bytes:
    """Validation error [fraction] against microseconds a step, a point (r, error, microseconds) for each latent dimension r; as PNG."""
    drawing = Figure((6.4, 4), layout="constrained")
    axes = drawing.subplots()
    axes.set(xscale="log", yscale="log")
    for number, (dim, error, microseconds) in enumerate(curve):
        taken = dim == chosen
        axes.plot(microseconds, 100 * error, "o", color="#d55e00" if taken else "#0072b2", markersize=9 if taken else 6)
        label = f"r = {dim}, chosen" if taken else f"r = {dim}"
        axes.annotate(label, (microseconds, 100 * error), (7, -12 if number % 2 else 4), textcoords="offset points", fontsize=9)
    axes.set(xlabel="a step [us]", ylabel="error of simulations, validation [%]")
    axes.margins(0.2)
    image = io.BytesIO()
    drawing.savefig(image, dpi=130)
    return image.getvalue()
