"""One engine on one case, timed in a process that has done nothing else."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from hodsim.benchmarks.derivative_cases import Case, Problem, problem, ways
from hodsim.benchmarks.derivative_peers import import_jax
from hodsim.benchmarks.memory import peak, reset_peak
from hodsim.storage import write_atomically

WAYS = "ways.json"
PROBES = 4
SIDE = 512
ROUND = 0.05                                                         # seconds of calls between products


def measured(case: Case, engine: str, threads: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The engine's ways by name, each timed for so many seconds: ms (median), interquartile_ms, first_s, peak_mib; times_floor: its time
    over that of the products that no method avoids, at the speed of square products around it; the result's `sketch`. Or {"error": why}.

    first_s includes compilation, with nothing left from earlier processes.
    folder: an empty one, for what is compiled and for WAYS, the ways that have ended, should the process not survive the next one."""
    threadpool_limits(threads)  # of torch, too
    jax = None
    if engine in ("JAX jit", "folx"):
        if hasattr(os, "sched_getaffinity") and hasattr(os, "sched_setaffinity"):    # XLA's threads are its own: they answer a third sooner
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])       # on the caller's core
        jax = import_jax(threads)
        if jax is None:
            return {"": {"error": f"{engine.split()[0]} is not installed"}}
        jax.config.update("jax_enable_x64", case.dtype == "float64")
    at = problem(case)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    with torch.no_grad():
        try:
            to_try = ways(case, engine, at, jax)
        except ImportError as error:
            return {"": {"error": _sentence(error)}}
        tried = {}
        for name, way in to_try.items():
            tried[name] = _attempt(partial(way, at.x), seconds, at)
            write_atomically(folder / WAYS, json.dumps(tried))
    return tried


def best_of(tried: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest way's row with its name as `way` and the times of all `ways`; where none succeeded, what went wrong first."""
    found = {name: row for name, row in tried.items() if "ms" in row}
    if not found:
        return next(iter(tried.values()))
    best = min(found, key=lambda name: found[name]["times_floor"])
    return {**found[best], "way": best, "ways": {name: row.get("ms", row.get("error")) for name, row in tried.items()}}


def _attempt(f: Callable[[], Any], seconds: float, at: Problem) -> dict[str, Any]:
    try:
        return _timed(f, seconds, at)
    except Exception as error:  # whatever a peer raises on a case that it cannot do is its result
        return {"error": _sentence(error)}


def _timed(f: Callable[[], Any], seconds: float, at: Problem) -> dict[str, Any]:
    """Rounds of calls with square products before and after each, since a machine's speed changes within a second."""
    start = time.perf_counter()
    value = f()
    first = time.perf_counter() - start
    memory = _peak_memory(f)
    calls = max(1, int(ROUND / max(min(_times(f, 2)), 1e-6)))
    square = partial(torch.matmul, *torch.randn(2, SIDE, SIDE, dtype=at.x.dtype))
    _times(square, 2)
    times, ratios, before = [], [], _times(square, 5)
    while len(ratios) < 5 or sum(times) < seconds:
        some, after = _times(f, calls), _times(square, 5)
        times += some
        ratios.append(statistics.median(some) / (at.floor / SIDE**3 * statistics.median(before + after)))
        before = after
    middle, (low, _, high) = statistics.median(times), statistics.quantiles(times, n=4)
    return {"ms": 1e3 * middle, "interquartile_ms": 1e3 * (high - low), "first_s": first, "peak_mib": memory,
            "times_floor": statistics.median(ratios), "sketch": sketch(value)}  # fmt: skip


def _times(f: Callable[[], Any], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        found.append(time.perf_counter() - start)
    return found


def _peak_memory(f: Callable[[], Any]) -> float | None:
    """Growth of the process's peak resident memory during a call [MiB] (Linux only)."""
    reset_peak()
    before = peak()
    f()
    after = peak()
    return None if before is None or after is None else after - before


def sketch(value: Any) -> list[float]:
    """A result as its size, norm and scalar products with random vectors, the same for all engines: enough to tell results apart."""
    flat = value.double().flatten() if isinstance(value, Tensor) else torch.tensor(value.tolist(), dtype=torch.float64).flatten()
    generator = torch.Generator().manual_seed(0)
    return [len(flat), flat.norm().item(), *(torch.randn(len(flat), generator=generator).double().dot(flat).item() for _ in range(PROBES))]


def difference(one: list[float], other: list[float]) -> float:
    """Relative, in norm, of two results by their sketches (an estimate: a probe's product with a vector is its norm in the mean)."""
    if one[0] != other[0]:
        return float("inf")
    squares = [(a - b) ** 2 for a, b in zip(one[2:], other[2:], strict=True)]
    return (sum(squares) / PROBES) ** 0.5 / max(other[1], 1e-300)


def _sentence(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
