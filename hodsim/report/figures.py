"""The report's figures, each a function of an Evaluation that returns SVG text to be inlined in a page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from hodsim.reduced import Sampling
from hodsim.reduced.indicator import LIMITS
from hodsim.report.records import LIGHTS, Evaluation, Record

FULL = "#5c626b"
NETWORKS = ("#0072b2", "#56b4e9", "#004c78")
LINEAR = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#882255", "#999933", "#6b4c1e", "#117733")  # Okabe & Ito, Tol: safe for the colour-blind
DASHES = ("-", (0, (5, 1.6)), (0, (2, 1.4)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "D", "^", "v", "P")
LIGHT_COLOURS = ("#009e73", "#e69f00", "#b2182b")
INK, FAINT = "#1b1b1b", "#d9dbde"
LEAST_SHOWN = 1e-6  # smaller errors are drawn at this height, since a logarithmic axis has no zero

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hodsim",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": "#9a9ea6",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": "#9a9ea6",
    "ytick.color": "#9a9ea6",
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.2,
}


@dataclass(frozen=True)
class Look:
    """How a model appears in every figure: colour, dash and marker, so that colour is never the only difference."""

    colour: str
    dash: object
    marker: str


def looks(evaluation: Evaluation) -> dict[str, Look]:
    """The look of each model by name: networks in blues and solid lines, linear subspaces in other colours and dashed."""
    found: dict[str, Look] = {"full": Look(FULL, "-", "o")}
    for palette, dashes, is_network in ((NETWORKS, DASHES[:1], True), (LINEAR, DASHES[1:], False)):
        models = [model for model in evaluation.models if model.is_network is is_network]
        for i, model in enumerate(models):
            found[model.name] = Look(palette[i % len(palette)], dashes[i % len(dashes)], MARKERS[(i + (not is_network)) % len(MARKERS)])
    return found


def _svg(draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """The drawing as an <svg> element."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def tip_error_over_time(evaluation: Evaluation) -> str:
    """Median over the load cases of the tip's distance from the full model's, and the band of the middle half of the cases."""
    look = looks(evaluation)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(ylabel="tip distance / RMS displacement", xlabel="time [s]", yscale="log")
        for model in evaluation.models:
            deviation = np.maximum(np.where(np.isnan(d := evaluation.tip_deviation(model)), 1.0, d), LEAST_SHOWN)
            low, middle, high = np.percentile(deviation, [25, 50, 75], axis=0)
            style = look[model.name]
            axes.fill_between(evaluation.times, low, high, color=style.colour, alpha=0.13, linewidth=0)
            axes.plot(evaluation.times, middle, color=style.colour, linestyle=style.dash, label=model.name)
        axes.set_xlim(0, evaluation.times[-1])
        _percent(axes, "y")
        _legend(figure, axes)

    return _svg(draw, (7.2, 4.4))


def tip_paths(evaluation: Evaluation) -> str:
    """The tip's path in the plane in which the full model's tip moves most: on a representative and on the worst case."""
    look = looks(evaluation)
    chosen = [("typical", evaluation.representative()), ("worst", evaluation.worst())]

    def draw(figure: Figure) -> None:
        for column, (word, case) in enumerate(chosen):
            path = evaluation.full.tip[case]
            centre = path.mean(axis=0)
            plane = np.linalg.svd(path - centre, full_matrices=False)[2][:2].T  # (3, 2)
            axes = figure.add_subplot(1, 2, column + 1, xlabel="along the largest motion [m]")
            axes.set_title(f"{word}: {evaluation.cases[case][0]} ({evaluation.cases[case][1]})", fontsize=10.5, loc="left")
            axes.plot(*((path - centre) @ plane).T, color=FULL, linewidth=4.5, alpha=0.4, label="full", solid_capstyle="round")
            for model in leading(evaluation):
                style = look[model.name]
                axes.plot(
                    *((model.tip[case] - centre) @ plane).T, color=style.colour, linestyle=style.dash, linewidth=1.4, label=model.name
                )
            axes.set_aspect("equal", adjustable="datalim")
        figure.axes[0].set_ylabel("across it [m]")
        _legend(figure, figure.axes[0])

    return _svg(draw, (7.2, 3.7))


def energy_over_time(evaluation: Evaluation) -> str:
    """Kinetic and elastic energy on the representative and the worst case."""
    look = looks(evaluation)
    chosen = [("typical", evaluation.representative()), ("worst", evaluation.worst())]

    def draw(figure: Figure) -> None:
        for column, (word, case) in enumerate(chosen):
            axes = figure.add_subplot(1, 2, column + 1, xlabel="time [s]")
            axes.set_title(f"{word}: {evaluation.cases[case][0]}", fontsize=10.5, loc="left")
            axes.plot(evaluation.times, evaluation.full.energy[case], color=FULL, linewidth=4.5, alpha=0.4, label="full")
            for model in leading(evaluation):
                style = look[model.name]
                axes.plot(evaluation.times, model.energy[case], color=style.colour, linestyle=style.dash, linewidth=1.4, label=model.name)
            axes.set_ylim(0, min(axes.get_ylim()[1], 1.6 * float(evaluation.full.energy[case].max()) or 1.0))
            axes.set_xlim(0, evaluation.times[-1])
        figure.axes[0].set_ylabel("kinetic + elastic energy [J]")
        _legend(figure, figure.axes[0])

    return _svg(draw, (7.2, 3.3))


def error_against_dimension(evaluation: Evaluation) -> str:
    """Mean tip error against the number r of unknowns, from median to maximum over the cases: PCA without cubature joined, others beside."""
    look = looks(evaluation)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="unknowns r", ylabel="tip error", yscale="log")
        exact = (model for model in evaluation.models if model.name.startswith("PCA") and "elements" not in model.elasticity)
        linear = sorted(exact, key=lambda model: model.r)
        axes.plot([m.r for m in linear], [_shown(m.tip_error.mean()) for m in linear], color="#9a9ea6", linewidth=1.2, zorder=1)
        for model in evaluation.models:
            _error_point(axes, model.r, model, look[model.name])
        axes.set_xticks(sorted({model.r for model in evaluation.models}))
        axes.set_xlim(0, 1.25 * max(model.r for model in evaluation.models))
        _percent(axes, "y")

    return _svg(draw, (4.6, 3.7))


def error_against_cost(evaluation: Evaluation) -> str:
    """Mean tip error against the median time of a step; the full model's is the vertical line."""
    look = looks(evaluation)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="median time of a step [ms]", ylabel="tip error", xscale="log", yscale="log")
        times = [model.milliseconds(50) for model in evaluation.models]
        for model, time in zip(evaluation.models, times, strict=True):
            if np.isfinite(time):
                _error_point(axes, time, model, look[model.name])
        full = evaluation.full.milliseconds(50)
        axes.axvline(full, color=FULL, linewidth=1.6)
        axes.text(full, 1.01, "full", color=FULL, ha="center", va="bottom", transform=axes.get_xaxis_transform())
        known = [time for time in (*times, full) if np.isfinite(time)]
        axes.set_xlim(min(known) / 1.7, max(known) * 2.2)
        _decimal(axes, "x")
        _percent(axes, "y")

    return _svg(draw, (4.6, 3.7))


def step_times(evaluation: Evaluation) -> str:
    """Time of a step: dot at the median, thick bar for the middle half of the steps, thin line from the 5th to the 95th percentile."""
    look = looks(evaluation)
    records = [record for record in (evaluation.full, *evaluation.models) if np.isfinite(record.milliseconds(50))]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="time of a step [ms]", xscale="log")
        for row, record in enumerate(records):
            colour = look[record.name].colour
            p5, p25, p50, p75, p95 = (record.milliseconds(p) for p in (5, 25, 50, 75, 95))
            axes.plot([p5, p95], [row, row], color=colour, linewidth=1.4)
            axes.plot([p25, p75], [row, row], color=colour, linewidth=7, alpha=0.45, solid_capstyle="butt")
            axes.plot(p50, row, marker="o", color=colour, markersize=6.5)
            axes.annotate(f"{p50:.3g}", (p50, row), (0, 9), textcoords="offset points", ha="center", fontsize=9.5)
        axes.set_yticks(range(len(records)), [record.name for record in records])
        axes.set_ylim(len(records) - 0.5, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        _decimal(axes, "x")

    return _svg(draw, (7.2, 0.6 + 0.48 * len(records) + 0.4))


def error_against_deflection(evaluation: Evaluation) -> str:
    """Tip error of each load case against how far the tip goes: where the headline model and its linear rival stop being reliable."""
    look = looks(evaluation)
    models = [model for model in (evaluation.headline, evaluation.rival) if model is not None]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="largest tip displacement / length", ylabel="tip error of the case", yscale="log")
        for model in models:
            style = look[model.name]
            errors = np.maximum(model.tip_error, LEAST_SHOWN)
            axes.plot(
                evaluation.peak_deflection(), errors, style.marker, color=style.colour, markersize=6, alpha=0.8,
                markeredgecolor="white", markeredgewidth=0.7, label=model.name,
            )  # fmt: skip
        axes.set_xlim(left=0)
        _percent(axes, "y")
        _legend(figure, axes)

    return _svg(draw, (7.2, 3.3))


def error_against_elements(samplings: Sequence[Sampling]) -> str:
    """Validation error and residual of the fit against the number of elements; the last sampling is all of them."""
    *some, everything = samplings

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="elements", ylabel="error", xscale="log", yscale="log")
        sizes = [sampling.elements for sampling in some]
        axes.plot(sizes, [_shown(sampling.error) for sampling in some], color=NETWORKS[0], marker=MARKERS[0], label="validation rollouts")
        refined = [(sampling.elements, _shown(sampling.refined)) for sampling in some if sampling.refined is not None]
        if refined:
            axes.plot(*zip(*refined, strict=True), color=NETWORKS[1], marker=MARKERS[2], label="with weights refined by rollouts")
        axes.plot(
            sizes, [_shown(sampling.validation_fit) for sampling in some], color=LINEAR[0], marker=MARKERS[1], linestyle=DASHES[1],
            label="fit on validation poses",
        )  # fmt: skip
        axes.axhline(_shown(everything.error), color=NETWORKS[0], linewidth=1.2, linestyle=DASHES[2], label=f"all {everything.elements}")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_formatter(NullFormatter())
        _percent(axes, "y")
        _legend(figure, axes)

    return _svg(draw, (7.6, 3.4))


def reliability(evaluation: Evaluation) -> str:
    """The headline's error in each step against what its indicator took it for; the lines are the indicator's limits."""
    head = evaluation.headline

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xlabel="estimated error", ylabel="error", xscale="log", yscale="log")
        for level, (light, colour) in enumerate(zip(LIGHTS, LIGHT_COLOURS, strict=True)):
            chosen = head.light == level
            x, y = (np.maximum(values[chosen], LEAST_SHOWN) for values in (head.estimate, head.deviation))
            axes.scatter(x, y, s=5, color=colour, marker=MARKERS[level], linewidths=0, alpha=0.5, label=light, rasterized=True)
        low, high = np.nanpercentile(head.estimate, [0.5, 100])
        axes.plot([low, high], [low, high], color=INK, linewidth=1)
        for limit in LIMITS:
            axes.axhline(limit, color=INK, linewidth=0.8, linestyle=DASHES[2])
        axes.set_ylim(max(float(np.nanpercentile(head.deviation, 0.5)), LEAST_SHOWN), 1.5 * max(float(np.nanmax(head.deviation)), LIMITS[-1]))
        for axis in "xy":
            _percent(axes, axis)
        axes.set_xlim(low, 1.2 * high)
        _legend(figure, axes, markerscale=4)

    return _svg(draw, (7.2, 4.0))


def leading(evaluation: Evaluation) -> list[Record]:
    """The models that a crowded figure shows: the headline, its linear rival and the most accurate of the others."""
    first = [model for model in (evaluation.headline, evaluation.rival) if model is not None]
    others = sorted((model for model in evaluation.models if model not in first), key=lambda model: float(model.tip_error.mean()))
    return first + others[:1]


def _shown(error: float | np.floating) -> float:
    return max(float(error), LEAST_SHOWN)


def _error_point(axes: Axes, x: float, model: Record, look: Look) -> None:
    """A point at the mean tip error, a line from the median to the maximum, and the model's name."""
    mean, median, largest = (_shown(f(model.tip_error)) for f in (np.mean, np.median, np.max))
    axes.plot([x, x], [median, largest], color=look.colour, linewidth=1.4, alpha=0.6)
    axes.plot(x, mean, marker=look.marker, color=look.colour, markersize=8.5 if model.is_network else 7, linestyle="none", zorder=3)
    axes.annotate(model.name, (x, mean), (7, 3), textcoords="offset points", color=look.colour, fontsize=9.5)


def _legend(figure: Figure, axes: Axes, *, markerscale: float = 1.0) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, int(figure.get_figwidth() / (0.6 + 0.085 * max(map(len, labels), default=0))))  # [inch]: a line and the longest name
    figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), columns), columnspacing=1.6, markerscale=markerscale)


def _percent(axes: Axes, which: str) -> None:
    """Label a logarithmic axis in per cent, without powers of ten."""
    _log_labels(axes, which, lambda value: f"{100 * value:.3g} %")


def _decimal(axes: Axes, which: str) -> None:
    _log_labels(axes, which, lambda value: f"{value:.3g}")


def _log_labels(axes: Axes, which: str, write: Callable[[float], str]) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    decades = np.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axis.set_minor_formatter(NullFormatter())
