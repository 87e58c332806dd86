"""What the engine is to reach on the paper's networks in float32 on one thread, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hodsim.benchmarks.derivative_cases import ALONG, PAPER

Engines = dict[str, dict[str, Any]]
THIRD = ("D3f[a,b,c]", "w.D3f[a,b,.]")


def targets(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Target, case, batch, number found, met; of those whose rows have been measured."""
    found = []
    for row in cases:
        if row["net"] in PAPER and row["dtype"] == "float32" and row["threads"] == 1:
            for target, number, met in _of_case(row["quantity"], row["batch"]):
                value = number(row["engines"])
                if value is not None:
                    found.append({"target": target, "case": row["case"], "batch": row["batch"], "found": value, "met": met(value)})
    return sorted(found, key=lambda t: t["target"])


def _of_case(quantity: str, batch: int) -> Iterator[tuple[str, Callable[[Engines], float | None], Callable[[float], bool]]]:
    """Target in words, its number from the engines' rows (None: not measured), and whether a number meets it."""
    least = {"Hessian": 10.0, "w.D2f[a,.]": 10.0, **dict.fromkeys((*THIRD, *ALONG), 20.0)}.get(quantity)
    if quantity == "Hessian":
        yield "compiled at least 1.6x faster than JAX: Hessians", _ratio("JAX jit"), lambda r: r >= 1.6
    if least:
        kind = "second order" if least == 10 else "third order and above"
        yield f"compiled at least {least:.0f}x faster than torch.func: {kind}", _ratio("torch.func"), lambda r: r >= least
    if batch == 64:
        yield "compiled no slower than JAX within 1.15x: batch 64", _ratio("JAX jit"), lambda r: r >= 1 / 1.15
        yield "compiled within 1.5x of the floor: batch 64", _times_floor, lambda r: r <= 1.5
    if batch == 1 and quantity in THIRD:
        yield "eager at least 5x faster than torch.func: third order, batch 1", _ratio("torch.func", "hodsim eager"), lambda r: r >= 5
    if batch == 1 and quantity != "Hessian":
        yield "first call in eager under 0.02 s: batch 1", lambda engines: engines.get("hodsim eager", {}).get("first_s"), lambda s: s < 0.02


def _ratio(peer: str, own: str = "hodsim compiled") -> Callable[[Engines], float | None]:
    """The peer's time over one's own, both in multiples of the floor measured with them."""
    def of(engines: Engines) -> float | None:
        times = [engines.get(name, {}).get("times_floor") for name in (peer, own)]
        return None if None in times else times[0] / times[1]

    return of


def _times_floor(engines: Engines) -> float | None:
    return engines.get("hodsim compiled", {}).get("times_floor")
