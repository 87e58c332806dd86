"""One engine on one case, timed in a process that has done nothing else."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from hodsim.benchmarks.derivative_cases import Case, Problem, problem, ways
from hodsim.benchmarks.derivative_peers import import_jax
from hodsim.benchmarks.memory import peak, reset_peak

PROBES = 4
SIDE = 512


def measured(case: Case, engine: str, threads: int, seconds: float) -> dict[str, Any]:
    """The best of the engine's ways, each timed for so many seconds: ms (median), interquartile_ms, first_s, peak_mib; times_floor: ms over
    the time of the products that no method avoids, at the speed of a square product before and after; the result's `sketch`; all `ways`.

    {"error": why} where no way succeeds. first_s includes compilation, with nothing left from earlier processes."""
    threadpool_limits(threads)  # of torch, too
    jax = import_jax(threads) if engine in ("JAX jit", "folx") else None
    if jax is not None:
        jax.config.update("jax_enable_x64", case.dtype == "float64")
    elif engine in ("JAX jit", "folx"):
        return {"error": f"{engine.split()[0]} is not installed"}
    at = problem(case)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache, torch.no_grad():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        try:
            tried = {name: _attempt(partial(way, at.x), seconds, at) for name, way in ways(case, engine, at, jax).items()}
        except ImportError as error:
            return {"error": _sentence(error)}
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
    products = product_times(at.x.dtype)
    start = time.perf_counter()
    value = f()
    first = time.perf_counter() - start
    memory = _peak_memory(f)
    repeats = max(5, min(200, int(seconds / max(min(_times(f, 2)), 1e-6))))
    products = product_times(at.x.dtype) if first > 1 else products  # a compiler ran meanwhile
    times = _times(f, repeats)
    middle, (low, _, high) = statistics.median(times), statistics.quantiles(times, n=4)
    products += product_times(at.x.dtype)
    floor = at.floor / SIDE**3 * statistics.median(products)
    return {"ms": 1e3 * middle, "interquartile_ms": 1e3 * (high - low), "first_s": first, "peak_mib": memory, "times_floor": middle / floor,
            "sketch": sketch(value)}  # fmt: skip


def product_times(dtype: torch.dtype) -> list[float]:
    """Seconds of some square products of SIDE."""
    a = torch.randn(SIDE, SIDE, dtype=dtype)
    _times(lambda: a @ a, 2)
    return _times(lambda: a @ a, 10)


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
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]
