"""Time of high-order derivatives of networks, side by side with torch and JAX; Figs. 1 and 3 of HoD-Net.

Each row (one engine on one case) has a process of its own and at most LIMIT seconds, and is kept in a journal: interrupted and run again
the benchmark goes on, with the rows that the targets are about first. What is not installed, fails or takes longer is named with the
reason, not left out; what has not been measured yet is counted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from hodsim.benchmarks.apart import apart
from hodsim.benchmarks.chart import png
from hodsim.benchmarks.derivative_cases import ENGINES, Case, rows
from hodsim.benchmarks.derivative_targets import targets
from hodsim.benchmarks.derivative_timing import WAYS, best_of, difference, measured
from hodsim.benchmarks.journal import circumstances, journal
from hodsim.multicomplex import derivative
from hodsim.report.machine import environment
from hodsim.storage import write_atomically

LIMIT = 300.0                                                        # seconds for a row, compilation included
BENCHMARK = [f"hodsim.benchmarks.derivative_{part}" for part in ("cases", "peers", "timing")]

Progress = Callable[[int, int, str], None]


def run(output: Path, quick: bool = False, progress: Progress | None = None, threads: tuple[int, ...] | None = None) -> dict:
    """Measure the rows that the journal lacks, and write derivatives.json, derivatives.md and derivatives.png into `output`.

    threads: counts to measure at; None: one, then all cores of this process. Rows at other counts, once measured, are reported too.
    Interrupted, it reports what there is. Raises BlockingIOError when another process measures into the same folder."""
    all_cores = () if quick else (os.cpu_count() or 1,)
    if threads is None:
        threads = tuple(sorted({1, *all_cores} & set(range(1, environment()["cores"] + 1))))
    wanted = rows(quick, tuple(sorted({1, *all_cores})))
    with journal(output / "derivatives") as finished:
        keys = [_key(*row, quick) for row in wanted]
        due = [(key, row) for key, row in zip(keys, wanted, strict=True) if row[2] in threads and key not in finished]
        try:
            for done, (key, row) in enumerate(due):
                finished.row(key, lambda row=row, done=done: _row(*row, quick, lambda: progress and progress(done, len(due), _label(*row))))
            if progress:
                progress(len(due), len(due), "")
        finally:
            known = [(row, finished.row(key, dict)) for key, row in zip(keys, wanted, strict=True) if key in finished]
            report = _report(known, len(wanted), quick)
            for suffix, content in (("json", json.dumps(report, indent=1)), ("md", table(report)), ("png", figure(report))):
                write_atomically(output / f"derivatives.{suffix}", content)
    return report


def _row(case: Case, engine: str, threads: int, quick: bool, waiting: Callable[[], Any]) -> dict[str, Any]:
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            tried = apart(measured, case, engine, threads, 0.2 if quick else 1.0, folder, waiting=waiting, limit=LIMIT,
                          preloaded=["torch", *BENCHMARK])  # fmt: skip
        except (TimeoutError, RuntimeError) as error:                # RuntimeError: the process was ended, for want of memory say
            before = json.loads((folder / WAYS).read_text(encoding="utf-8")) if (folder / WAYS).exists() else {}
            tried = {**before, "the next": {"error": str(error) or type(error).__name__}}
    return best_of(tried)


def _key(case: Case, engine: str, threads: int, quick: bool) -> dict[str, Any]:
    return {**case.key, "engine": engine, "threads": threads, "quick": quick, **_circumstances(engine)}


@cache
def _circumstances(engine: str) -> dict[str, str | None]:
    packages = {"JAX jit": ("jax", "jaxlib"), "folx": ("jax", "jaxlib", "folx")}.get(engine, ("torch",))
    return circumstances(*packages, code=[*BENCHMARK, *(["hodsim.multicomplex"] if engine.startswith("hodsim") else [])])


def _label(case: Case, engine: str, threads: int) -> str:
    return f"{case.name}, {case.dtype}, batch {case.batch}, {engine}, {threads} thread{'s' * (threads > 1)}"


# -- report ------------------------------------------------------------------------------------------------------------------


def _report(known: list[tuple[tuple[Case, str, int], dict]], wanted: int, quick: bool) -> dict[str, Any]:
    """The rows by case and threads, each engine with its ratio to the best peer, in multiples of the floor, and what it differs by."""
    found: dict[tuple[Case, int], dict[str, dict]] = {}
    for (case, engine, threads), row in known:
        found.setdefault((case, threads), {})[engine] = dict(row)
    for (case, _), engines in found.items():
        _compare(engines, 1e-2 if case.dtype == "float32" else 1e-6)
    tables = [{**case.key, "case": case.name, "threads": threads, "engines": engines} for (case, threads), engines in found.items()]
    return {"quick": quick, "machine": environment(), "rows": len(known), "rows_in_all": wanted, "cases": tables, "targets": targets(tables),
            "step_errors": step_errors()}


def _compare(engines: dict[str, dict], tolerance: float) -> None:
    """Complete the rows of one case; what is told from hodsim's own result by more than the tolerance is no competitor.

    Times are compared in multiples of the products' time, measured around each: a machine's speed changes from row to row."""
    timed = {name: row for name, row in engines.items() if "ms" in row}
    reference = next((timed[name]["sketch"] for name in ("hodsim eager", "hodsim compiled") if name in timed), None)
    for row in timed.values():
        row["difference"] = None if reference is None else difference(row["sketch"], reference)
        row["agrees"] = row["difference"] is None or row["difference"] <= tolerance
    peers = [row["times_floor"] for name, row in timed.items() if not name.startswith("hodsim") and row["agrees"]]
    for row in timed.values():
        row["best_peer_over_this"] = min(peers) / row["times_floor"] if peers else None


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    machine = report["machine"]
    lines = [f"# Derivatives: {machine['processor']}, torch {machine['torch']}, {machine['date']}", "",
             f"{report['rows']} of {report['rows_in_all']} rows are measured"
             + "; `hodsim bench derivatives` goes on with the others" * (report["rows"] < report["rows_in_all"])
             + "." + " Rough figures: a quick run." * report["quick"], ""]  # fmt: skip
    if report["targets"]:
        lines += ["## Targets", "", "float32, one thread. A ratio is the other's time over hodsim's, each in multiples of that of the products.", "",
                  "| target | case | found | met |", "|---|---|---|---|"]  # fmt: skip
        lines += [f"| {t['target']} | {t['case']}, batch {t['batch']} | {t['found']:.3g} | {'yes' if t['met'] else 'no'} |"
                  for t in report["targets"]]  # fmt: skip
    lines += ["", "## All rows", "",
              "| case | dtype | batch | threads | engine | ms | iqr | first call [s] | peak [MiB] | best peer / this | times floor |",
              "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in report["cases"]:
        start = f"| {row['case']} | {row['dtype']} | {row['batch']} | {row['threads']} |"
        lines += [f"{start} {name} | {_cells(row['engines'][name])} |" for name in ENGINES if name in row["engines"]]
    return "\n".join(lines) + "\n"


def _cells(e: dict[str, Any]) -> str:
    if "error" in e:
        return f"{e['error'].replace('|', '/')} | | | | |"
    memory = "" if e["peak_mib"] is None else f"{e['peak_mib']:.0f}"
    ratio = "" if e["best_peer_over_this"] is None else f"{e['best_peer_over_this']:.2f}"
    ratio = ratio if e["agrees"] else f"differs by {e['difference']:.1e}"
    return f"{e['ms']:.3g} | {e['interquartile_ms']:.2g} | {e['first_s']:.2g} | {memory} | {ratio} | {e['times_floor']:.1f}"


def figure(report: dict[str, Any]) -> bytes:
    """PNG. Left: Fig. 1. Right: Fig. 3, Jacobians and Hessians of the paper's networks by engine."""
    from matplotlib.figure import Figure

    chart = Figure(figsize=(14, 5), layout="constrained")
    left, right = chart.subplots(1, 2)
    errors = report["step_errors"]
    for order in (1, 2, 3):
        for name, style in (("forward", ":"), ("central", "--"), ("complex step", "-")):
            left.loglog(errors["h"], [max(e, 1e-17) for e in errors[f"{name} {order}"]], style, color=f"C{order - 1}", label=f"{name}, order {order}")
    left.set(xlabel="h", ylabel="relative error", title="e^x / (x^2 + 1) at 10", ylim=(1e-17, 10))
    left.legend(fontsize=7)
    rows = [r for r in report["cases"] if r["quantity"] in ("Jacobian", "Hessian") and (r["dtype"], r["batch"], r["threads"]) == ("float32", 1, 1)]
    names = [name for name in ENGINES if any("ms" in row["engines"].get(name, {}) for row in rows)]
    for k, name in enumerate(names):
        places = [i + 0.8 * k / len(names) for i in range(len(rows))]
        right.bar(places, [row["engines"].get(name, {}).get("ms", 0) for row in rows], 0.8 / len(names), label=name)
    right.set(ylabel="ms, one thread, float32, batch 1", title="the paper's networks")
    if names:
        right.set_yscale("log")
        right.legend(fontsize=7)
    right.set_xticks([i + 0.4 for i in range(len(rows))], [row["case"] for row in rows], rotation=20, fontsize=7)
    return png(chart, 130)


# -- Fig. 1 ------------------------------------------------------------------------------------------------------------------


def step_errors() -> dict[str, list[float]]:
    """Relative error of forward, central and complex-step differences of e^x / (x^2 + 1) at 10, first to third order."""

    def f(x):
        return torch.exp(x) / (x * x + 1)

    x, one = torch.tensor([10.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    steps = [10.0**-k for k in np.arange(1, 17, 0.5)]
    found = {"h": steps}
    for order in (1, 2, 3):
        exact = derivative(f, x, *[one] * order).item()
        forward = [sum((-1) ** (order - k) * math.comb(order, k) * f(x + k * h).item() for k in range(order + 1)) / h**order for h in steps]
        central = [sum((-1) ** k * math.comb(order, k) * f(x + (order / 2 - k) * h).item() for k in range(order + 1)) / h**order for h in steps]
        complex_step = [derivative(f, x, *[one] * order, h=h).item() for h in steps]
        for name, values in (("forward", forward), ("central", central), ("complex step", complex_step)):
            found[f"{name} {order}"] = [abs(v / exact - 1) for v in values]
    return found
