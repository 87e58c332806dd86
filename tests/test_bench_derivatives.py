"""The derivatives' benchmark: all engines give the same numbers, rows have their order, limit and journal, targets are told as they are."""

import json
import os
import time

import pytest
import torch
from threadpoolctl import threadpool_limits

from hodsim.benchmarks import derivatives as bench
from hodsim.benchmarks.apart import apart
from hodsim.benchmarks.derivative_cases import ENGINES, Case, cases, floor, problem, rows, ways
from hodsim.benchmarks.derivative_peers import import_jax
from hodsim.benchmarks.derivative_targets import targets
from hodsim.benchmarks.derivative_timing import WAYS, best_of, difference, measured, sketch
from hodsim.multicomplex import hessian

SMALL = [Case("3->4 ELU", quantity, "float64", batch) for batch in (1, 5)
         for quantity in ("Jacobian", "w.D2f[a,.]", "D3f[a,b,c]", "w.D3f[a,b,.]", "order 4 along a")]  # fmt: skip
SMALL += [Case("3->4 tanh", "Hessian", "float64"), Case("2->100x4->8 tanh", "Laplacian", "float64", 3), Case("conv net", "w.D2f[a,.]", "float64", 2),
          Case("conv net", "D2f[a,a]", "float64", 2)]  # fmt: skip


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.name} {case.batch}")
def test_torchs_ways_give_the_same_numbers(case, monkeypatch):
    monkeypatch.setattr("hodsim.benchmarks.derivative_cases.WIDTH", 6)
    at = problem(case)
    (expected,) = (way(at.x) for way in ways(case, "hodsim eager", at).values())
    found = [way(at.x) for engine in case.engines() if engine in ("torch.func", "torch.autograd") for way in ways(case, engine, at).values()]
    for value in found:
        torch.testing.assert_close(value.detach(), expected, rtol=1e-10, atol=1e-12)
        assert difference(sketch(value.detach()), sketch(expected)) < 1e-10
    assert found or case.net == "conv net"


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.name} {case.batch}")
def test_jax_gives_the_same_numbers(case, monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr("hodsim.benchmarks.derivative_cases.WIDTH", 6)
    jax.config.update("jax_enable_x64", True)
    at = problem(case)
    (expected,) = (way(at.x) for way in ways(case, "hodsim eager", at).values())
    for name, way in ways(case, "JAX jit", at, jax).items():
        if name != "jet":                                            # which knows no ELU
            assert difference(sketch(way(at.x)), sketch(expected)) < 1e-10, name


def test_the_floor_of_a_hessian_is_no_more_than_the_products_that_are_done():
    from torch.utils.flop_counter import FlopCounterMode

    for net in ("40->400 ELU", "400->40 ELU"):
        at = problem(Case(net, "Hessian"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            hessian(at.net, at.x)
        done = counter.get_total_flops() / 2
        assert 0.7 * done <= floor(Case(net, "Hessian"), at.net) <= done


def test_rows_with_targets_come_first_and_none_twice():
    found = rows(False, (1, 2))
    assert len(set(found)) == len(found) == 2 * sum(len(case.engines()) for case in cases(False))
    first = [(case.quantity, engine, threads) for case, engine, threads in found[:12]]
    assert {quantity for quantity, _, _ in first} == {"Hessian"} and {threads for _, _, threads in first} == {1}
    assert [engine for _, engine, _ in first[:4]] == ["hodsim compiled", "hodsim eager", "JAX jit", "torch.func"]
    assert not any("compiled" in engine for _, engine, _ in rows(True, (1,)))


def test_a_row_is_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("hodsim.benchmarks.derivative_cases.WIDTH", 6)
    before = torch.get_num_threads()
    tried = measured(Case("3->4 ELU", "Jacobian"), "torch.func", 1, 0.0, tmp_path)
    torch.set_num_threads(before)
    row = best_of(tried)
    assert row["ms"] > 0 and row["first_s"] > 0 and row["times_floor"] > 0
    assert set(row["ways"]) == {"jacfwd", "jacrev"} and row["way"] in row["ways"]
    assert json.loads((tmp_path / WAYS).read_text()) == tried


def _busy_cores(case: Case, engine: str) -> float:
    """Processor seconds per second of calls."""
    threadpool_limits(1)
    at = problem(case)
    jax = import_jax(1) if engine == "JAX jit" else None
    (way,) = (way for name, way in ways(case, engine, at, jax).items() if name in ("", "jacfwd"))
    way(at.x)
    start, processor = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < 1:
        way(at.x)
    return (time.process_time() - processor) / (time.perf_counter() - start)


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize("engine", ["hodsim eager", "torch.func", "JAX jit"])
def test_an_engine_on_one_thread_takes_one_core(engine):
    if engine == "JAX jit":
        pytest.importorskip("jax")
    assert apart(_busy_cores, Case("200->200 ELU", "Jacobian", batch=64), engine) < 1.2


def test_a_row_keeps_the_ways_that_had_ended_when_its_process_did(monkeypatch):
    def ends_in_its_second_way(function, case, engine, threads, seconds, folder, **_):
        (folder / WAYS).write_text(json.dumps({"first": _fake(case, engine)}))
        raise RuntimeError("the process was ended")

    monkeypatch.setattr(bench, "apart", ends_in_its_second_way)
    row = bench._row(Case("3->4 ELU", "Jacobian"), "torch.func", 1, True, lambda: None)
    assert row["way"] == "first" and row["ways"] == {"first": row["ms"], "the next": "the process was ended"}


def _sleeps(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def _leaves() -> None:
    os._exit(7)


def test_a_process_apart_is_ended_after_its_limit_and_told_from_one_that_fails():
    waited, start = [], time.monotonic()
    with pytest.raises(TimeoutError, match="no result within 1 s"):
        apart(_sleeps, 600.0, waiting=lambda: waited.append(1), limit=1.0)
    assert waited and time.monotonic() - start < 100
    assert apart(_sleeps, 0.0, limit=100.0, preloaded=["time"]) == "slept"
    with pytest.raises(ZeroDivisionError):
        apart(divmod, 1, 0)
    with pytest.raises(RuntimeError, match="abruptly"):
        apart(_leaves)


def _fake(case: Case, engine: str) -> dict:
    ms = 1.0 + ENGINES.index(engine)
    wrong = engine == "torch.autograd"
    return {"ms": ms, "interquartile_ms": 0.1, "first_s": 2.0, "peak_mib": None, "times_floor": ms, "way": "", "ways": {"": ms},
            "sketch": [4, 1.0, 1.0, 2.0, 3.0, 5.0 if wrong else 4.0]}  # fmt: skip


def test_an_interrupted_run_reports_what_it_has_and_goes_on(tmp_path, monkeypatch):
    made = []

    def row(case, engine, threads, quick, waiting):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append((case, engine))
        return {"error": "no result | within 1 s"} if engine == "torch.func" else _fake(case, engine)

    monkeypatch.setattr(bench, "_row", row)
    errors = {f"{name} {order}": [1.0] for name in ("forward", "central", "complex step") for order in (1, 2, 3)}
    monkeypatch.setattr(bench, "step_errors", lambda: {"h": [0.1], **errors})
    with pytest.raises(KeyboardInterrupt):
        bench.run(tmp_path, quick=True)
    assert json.loads((tmp_path / "derivatives.json").read_text())["rows"] == 5
    monkeypatch.setattr(bench, "_row", lambda case, engine, *_: made.append((case, engine)) or _fake(case, engine))
    told = []
    report = bench.run(tmp_path, quick=True, progress=lambda *state: told.append(state))
    assert len(made) == len(set(made)) == report["rows"] == report["rows_in_all"] and told[-1][:2] == (len(made) - 5, len(made) - 5)
    text, picture = (tmp_path / "derivatives.md").read_text(), (tmp_path / "derivatives.png").read_bytes()
    assert "no result / within 1 s" in text and "differs by" in text and picture.startswith(b"\x89PNG")


def test_a_peer_with_other_numbers_is_no_competitor(tmp_path):
    case = Case("40->400 ELU", "Jacobian")
    report = bench._report([((case, engine, 1), _fake(case, engine)) for engine in case.engines()], 7, False)
    engines = report["cases"][0]["engines"]
    assert not engines["torch.autograd"]["agrees"] and engines["hodsim compiled"]["best_peer_over_this"] == engines["JAX jit"]["ms"]


def test_targets_are_met_or_missed_by_their_numbers():
    def row(quantity, batch, **times):
        engines = {name.replace("_", " "): {"times_floor": t, "first_s": 0.03} for name, t in times.items()}
        return {**Case("40->400 ELU", quantity, batch=batch).key, "case": quantity, "threads": 1, "engines": engines}

    found = targets([row("Hessian", 1, hodsim_compiled=1.0, JAX_jit=1.7), row("D3f[a,b,c]", 64, hodsim_compiled=1.6, JAX_jit=1.5)])
    assert [(t["found"], t["met"]) for t in found] == [(1.7, True), (1.5 / 1.6, True), (1.6, False)]
    assert [t["met"] for t in targets([row("Jacobian", 1, hodsim_eager=9.0)])] == [False]
    assert targets([{**row("Hessian", 1, hodsim_compiled=1.0, JAX_jit=1.7), "threads": 2}]) == []
