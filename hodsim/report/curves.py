"""The numbers behind the report's figures, a table for each figure under its name: curves/NAME.csv, and all of them in curves.json.

Errors are fractions of one, times seconds, energies joules, lengths metres; a value that was not reached is empty (null in JSON).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from hodsim.reduced import Sampling
from hodsim.report.records import Evaluation, Record, trust
from hodsim.storage import write_atomically

Table = Mapping[str, Collection]  # column -> its values, all as many


def curves(evaluation: Evaluation, samplings: Sequence[Sampling] = ()) -> dict[str, Table]:
    """The table of each figure by the figure's name."""
    models, everyone = evaluation.models, (evaluation.full, *evaluation.models)
    typical, worst = evaluation.representative(), evaluation.worst()
    chosen = {"typical": typical, "worst": worst}
    tables: dict[str, Table] = {
        "tip_error_over_time": {"time": evaluation.times} | {
            f"{model.name} p{p}": np.percentile(np.where(np.isnan(d := evaluation.tip_deviation(model)), 1.0, d), p, axis=0)
            for model in models for p in (25, 50, 75)
        },
        "tip_paths": {"time": evaluation.times} | {
            f"{record.name} {word} {axis}": record.tip[case][:, i]
            for word, case in chosen.items() for record in everyone for i, axis in enumerate("xyz")
        },
        "energy_over_time": {"time": evaluation.times} | {
            f"{record.name} {word}": record.energy[case] for word, case in chosen.items() for record in everyone
        },
        "error_against_dimension": _of_models(models, {"unknowns": [model.r for model in models]}),
        "error_against_cost": _of_models(models, {"ms_per_step": [model.milliseconds(50) for model in models]}),
        "step_times": {"model": [record.name for record in everyone]} | {
            f"ms p{p}": [record.milliseconds(p) for record in everyone] for p in (5, 25, 50, 75, 95)
        },
        "error_against_deflection": {
            "case": [name for name, _ in evaluation.cases], "deflection": evaluation.peak_deflection(),
        } | {model.name: model.tip_error for model in models},
    }  # fmt: skip
    if trust(head := evaluation.headline):
        tables["reliability"] = {"estimate": head.estimate.ravel(), "error": head.deviation.ravel(), "light": head.light.ravel()}
    if samplings:
        names = ("elements", "error", "refined", "validation_fit")
        rows = [[np.nan if (value := getattr(sampling, name)) is None else value for name in names] for sampling in samplings]
        tables["error_against_elements"] = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return tables


def write_curves(tables: Mapping[str, Table], directory: Path) -> Path:
    """Write each table as directory/NAME.csv and all as directory/curves.json, which is returned."""
    for name, table in tables.items():
        rows = zip(*table.values(), strict=True)
        lines = [",".join(map(_quoted, table)), *(",".join(_quoted(value) for value in row) for row in rows)]
        write_atomically(directory / f"{name}.csv", "\n".join(lines) + "\n")
    content = {name: {column: [_plain(value) for value in values] for column, values in table.items()} for name, table in tables.items()}
    return write_atomically(directory / "curves.json", json.dumps(content, allow_nan=False) + "\n")


def _of_models(models: Sequence[Record], first: Table) -> Table:
    errors = {name: [float(of(model.tip_error)) for model in models] for name, of in
              (("tip error mean", np.mean), ("tip error median", np.median), ("tip error max", np.max))}  # fmt: skip
    return {"model": [model.name for model in models], **first, **errors}


def _plain(value):
    if isinstance(value, str):
        return value
    return (int(value) if float(value).is_integer() else float(f"{value:.9g}")) if math.isfinite(value) else None


def _quoted(value) -> str:
    text = "" if (plain := _plain(value)) is None else str(plain)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text
