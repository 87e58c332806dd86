"""The report: report.html, one page that needs nothing else, report.json, a picture and an animation, from an Evaluation."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from hodsim.reduced import Sampling
from hodsim.reduced.indicator import LIMITS
from hodsim.report import figures
from hodsim.report.curves import curves, write_curves
from hodsim.report.records import Evaluation, Record, Spread, trust
from hodsim.report.render import Body, Scene, animation, picture
from hodsim.storage import write_atomically

TRUSTED = 0.05  # a load case whose tip error is larger is named as one not to trust the model on
SIGNIFICANT_DIGITS = 6

Progress = Callable[[int, int], None]

CAPTIONS = {
    "tip_error_over_time": "Distance of each model's tip from the full model's, over the RMS displacement of its load case: the median over the "
    "cases and, as a band, the middle half of them. Its RMS over time is the tip error; steps that failed are drawn at 100 %.",
    "tip_paths": "Where the tip goes, in the plane in which it moves most: a typical load case of {head}, and its worst.",
    "error_against_dimension": "Mean tip error by the number of unknowns; the vertical lines run from the median to the worst case.",
    "error_against_cost": "The same error by what a step costs: better is lower and further left.",
    "error_against_deflection": "Each load case by how far the tip goes. Errors are relative: a small motion counts as much as a large one.",
    "energy_over_time": "Kinetic plus elastic energy of the whole body on the same two load cases.",
    "step_times": "Time of a step: dot at the median, thick bar for the middle half of all steps, thin line from the 5th to the 95th percentile.",
}


SAMPLING_CAPTION = (
    "Error of validation rollouts (position, mass norm) by the number of elements that sample the elastic force, and the relative residual of "
    "the fit on validation poses. The horizontal line is the error with all elements; the elements in use are the fewest that come near it, "
    "once their weights are refined by rollouts of training cases."
)

RELIABILITY_CAPTION = (
    "The network's error |u \N{MINUS SIGN} u_full| in the norm of the mass matrix, over that of a typical training motion, against what its own "
    "indicator took it for: a dot a step of the held-out cases, in the colour of the light that it showed. The lines are the limits of 3 % and 10 %."
)


class ReportFiles(NamedTuple):
    html: Path
    json: Path
    picture: Path
    animation: Path
    curves: Path


def write_report(
    evaluation: Evaluation,
    *,
    offline: Mapping[str, float],
    directory: Path | str,
    title: str = "",
    command: str = "hodsim beam",
    rough: bool = False,
    samplings: Sequence[Sampling] = (),
    provenance: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> ReportFiles:
    """Write report.html, report.json, picture.png, animation.mp4 and curves/ into the directory and return their paths.

    offline holds the seconds spent before the first reduced step, `snapshots_s` and `training_s`; title says what was simulated, command
    what makes the report again; rough marks figures as not to be quoted; samplings is the curve by which the number of elements of the
    headline's cubature was chosen; provenance, e.g. the settings of a project, goes into report.json as it is. progress is called with the
    frames drawn and in all.
    """
    directory = Path(directory)
    files = ReportFiles(*(directory / name for name in ("report.html", "report.json", "picture.png", "animation.mp4", "curves/curves.json")))
    content = summary(evaluation, offline=offline, rough=rough, samplings=samplings)
    if provenance is not None:
        content["provenance"] = dict(provenance)
    write_atomically(files.json, json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_curves(curves(evaluation, samplings), files.curves.parent)
    still = scene(evaluation)
    picture(files.picture, still, frame=_telling_frame(still))
    animation(files.animation, still, progress=progress)
    page = render_page(
        evaluation,
        offline=offline,
        title=title,
        command=command,
        rough=rough,
        samplings=samplings,
        picture=files.picture.read_bytes(),
        animation=files.animation.read_bytes(),
    )
    write_atomically(files.html, page)
    return files


def summary(
    evaluation: Evaluation, *, offline: Mapping[str, float], rough: bool = False, samplings: Sequence[Sampling] = ()
) -> dict[str, object]:
    """The content of report.json; None where nothing could be measured."""
    content = _content(evaluation, _offline(offline), rough) | {"cubature": [asdict(sampling) for sampling in samplings]}
    return {key: _plain(value) for key, value in content.items()}


def _content(evaluation: Evaluation, offline: Mapping[str, float], rough: bool) -> dict[str, object]:
    names = [name for name, _ in evaluation.cases]
    return {
        "dofs": evaluation.dofs,
        "latent": evaluation.headline.r,
        "full": {
            "ms_per_step": _milliseconds(evaluation.full),
            "newton_iterations": evaluation.full.newton_iterations,
            "failed_steps": evaluation.full.failed_steps,
        },
        "models": [
            {
                "name": model.name,
                "r": model.r,
                "elasticity": model.elasticity,
                "tip_error": asdict(Spread.of(model.tip_error)),
                "position_error": model.position_error.mean(),
                "velocity_error": model.velocity_error.mean(),
                "energy_error": model.energy_error.mean(),
                "ms_per_step": _milliseconds(model),
                "newton_iterations": model.newton_iterations,
                "failed_steps": model.failed_steps,
                "speedup": evaluation.speedup(model),
                "tip_error_per_case": dict(zip(names, model.tip_error, strict=True)),
                "indicator": {each.light: {"share": each.share, "beyond": list(each.beyond)} for each in trust(model)},
            }
            for model in evaluation.models
        ],
        "offline": dict(offline),
        "break_even_steps": evaluation.break_even_steps(sum(offline.values())),
        "environment": evaluation.environment,
        "cases": [{"name": name, "loads": loads} for name, loads in evaluation.cases],
        "steps": evaluation.steps,
        "dt": evaluation.dt,
        "tolerance": evaluation.tolerance,
        "failures": [asdict(failure) for failure in evaluation.failures],
        "rough": rough,
    }


def _offline(offline: Mapping[str, float]) -> dict[str, float]:
    """The two figures of offline cost. Raises ValueError naming one that is missing."""
    missing = [key for key in ("snapshots_s", "training_s") if key not in offline]
    if missing:
        raise ValueError(f"offline lacks {', '.join(missing)}; expected the seconds of snapshots_s and training_s")
    return {key: float(offline[key]) for key in ("snapshots_s", "training_s")}


def _milliseconds(record: Record) -> dict[str, float]:
    return {"p50": record.milliseconds(50), "p95": record.milliseconds(95)}


def _plain(value):
    """JSON's own types: floats rounded to what they can mean, None in place of what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def scene(evaluation: Evaluation, *, panel_width: int = 440) -> Scene:
    """The full model, the headline, its linear rival and the next most accurate on the representative load case."""
    case, look = evaluation.representative(), figures.looks(evaluation)
    bodies = [Body("full model", evaluation.full.surface[case], look["full"].colour, f"{evaluation.dofs} degrees of freedom")]
    for model in figures.leading(evaluation):
        remark = f"{model.r} unknowns, tip error {_percent(model.tip_error[case])}"
        bodies.append(Body(model.name, model.surface[case], look[model.name].colour, remark))
    return Scene(evaluation.rest, evaluation.triangles, bodies, evaluation.times[evaluation.frames], panel_width=panel_width)


def _telling_frame(still: Scene) -> int:
    """The frame in which the reference is farthest from rest."""
    return int(np.argmax(np.linalg.norm(still.bodies[0].displacements, axis=2).max(axis=1)))


def render_page(
    evaluation: Evaluation,
    *,
    offline: Mapping[str, float],
    title: str,
    command: str,
    rough: bool = False,
    samplings: Sequence[Sampling] = (),
    picture: bytes | None = None,
    animation: bytes | None = None,
) -> str:
    """The page as HTML with everything inside: style, SVG figures, the PNG picture and the MP4 animation."""
    offline = _offline(offline)
    head, rival = evaluation.headline, evaluation.rival
    break_even = evaluation.break_even_steps(sum(offline.values()))
    ratio = rival.tip_error.mean() / head.tip_error.mean() if rival is not None and head.tip_error.mean() > 0 else math.nan

    template = Environment(loader=PackageLoader("hodsim.report", "."), autoescape=True, undefined=StrictUndefined).get_template(
        "report.html"
    )
    return template.render(
        evaluation=evaluation,
        head=head,
        rival=rival,
        ratio=f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio >= 1.5 else None,
        cases=[{"name": name, "loads": loads} for name, loads in evaluation.cases],
        typical=evaluation.representative(),
        looks=figures.looks(evaluation),
        warnings=warnings(evaluation),
        speed_sentence=_speed_sentence(evaluation),
        break_even=break_even,
        break_even_sentence=_break_even_sentence(break_even, sum(offline.values())),
        failures=evaluation.failures,
        families=_families(evaluation),
        offline=offline,
        env=evaluation.environment,
        title=title,
        command=command,
        rough=rough,
        picture=_base64(picture),
        animation=_base64(animation),
        figures={
            name: {"svg": getattr(figures, name)(evaluation), "caption": caption.format(head=head.name)}
            for name, caption in CAPTIONS.items()
        }
        | ({"reliability": {"svg": figures.reliability(evaluation), "caption": RELIABILITY_CAPTION}} if trust(head) else {})
        | ({"error_against_elements": {"svg": figures.error_against_elements(samplings), "caption": SAMPLING_CAPTION}} if samplings else {}),
        percent=_percent,
        number=_number,
        seconds=_seconds,
        thousands=_thousands,
        median=np.median,
    )


def warnings(evaluation: Evaluation) -> list[str]:
    """Where this run says that the headline model should not be trusted, the gravest first."""
    head, said = evaluation.headline, []
    if head.failed_steps:
        cases = len({failure.case for failure in head.failures})
        said.append(f"It failed in {cases} of {len(evaluation.cases)} load cases, losing {head.failed_steps} steps (listed below).")
    beyond = int((head.tip_error > TRUSTED).sum())
    worst = evaluation.worst()
    name, loads = evaluation.cases[worst]
    if beyond:
        said.append(
            f"{beyond} of {len(evaluation.cases)} load cases err by more than {TRUSTED:.0%} at the tip; "
            f"the worst by {_percent(head.tip_error[worst])} ({name}: {loads})."
        )
    else:
        said.append(f"No load case errs by more than {TRUSTED:.0%} at the tip; the worst is {name} ({loads}).")
    said += _trust_sentence(head)
    if better := evaluation.better():
        names = " and ".join(model.name for model in better)
        said.append(f"{names} {'is' if len(better) == 1 else 'are'} both more accurate and faster in this run.")
    said.append(
        f"Beyond tip displacements of {evaluation.peak_deflection().max():.2g} lengths, or loads of other kinds, nothing was tested."
    )
    if head.velocity_error.mean() > 2 * head.position_error.mean():
        said.append(f"Velocities are less accurate than positions: {_percent(head.velocity_error.mean())} on average.")
    if evaluation.full.failures:
        said.append(f"The full model itself failed in {len(evaluation.full.failures)} load case(s), which are left out.")
    return said


def _trust_sentence(head: Record) -> list[str]:
    """What the light of the indicator is worth, if there is one."""
    shown = {each.light: each for each in trust(head)}
    if not shown:
        return []
    low, high = LIMITS
    clauses = [
        f"{light} in {_percent(each.share)} of the steps, of which {_percent(each.beyond[0])} err by more than {low:.0%} "
        f"of a typical motion and {_percent(each.beyond[1])} by more than {high:.0%}"
        for light, each in shown.items()
        if each.share > 0
    ]
    return [f"It tells by itself how far to trust it: its light was {'; '.join(clauses)}."]


def _families(evaluation: Evaluation) -> list[dict[str, object]]:
    """Mean tip error of each model by the loads that act together."""
    found: dict[str, list[int]] = {}
    for i, (_, loads) in enumerate(evaluation.cases):
        found.setdefault(loads, []).append(i)
    return [
        {"loads": loads, "count": len(rows), "errors": [float(model.tip_error[rows].mean()) for model in evaluation.models]}
        for loads, rows in found.items()
    ]


def _speed_sentence(evaluation: Evaluation) -> str:
    ratio = evaluation.speedup(evaluation.headline)
    if not math.isfinite(ratio):
        return "no step of the reduced model was completed."
    if ratio < 1:
        return f"the reduced model is {1 / ratio:.3g} times slower."
    return f"{_thousands(round(ratio)) if ratio >= 1000 else f'{ratio:.3g}'} times as long."


def _break_even_sentence(steps: int | None, offline_seconds: float) -> str:
    spent = f"Snapshots and training took {_seconds(offline_seconds)}"
    if steps is None:
        return f"{spent}, which no number of steps earns back: a step saves no time."
    return f"{spent}, earned back after {_thousands(steps)} steps."


def _percent(value: float) -> str:
    """Two significant digits, three from 100 % on: 0.31 %, 3.1 %, 31 %, 131 %."""
    if not math.isfinite(value):
        return "–"
    scaled = 100 * float(value)
    if scaled == 0 or scaled >= 10:
        return f"{scaled:.0f}\N{NARROW NO-BREAK SPACE}%"
    return f"{scaled:#.2g}".rstrip(".") + "\N{NARROW NO-BREAK SPACE}%" if scaled >= 0.001 else "< 0.001\N{NARROW NO-BREAK SPACE}%"


def _number(value: float) -> str:
    """Three significant digits without powers of ten."""
    if not math.isfinite(value):
        return "–"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _thousands(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min"


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
