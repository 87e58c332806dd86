"""A benchmark's journal: rows are made once by key, whatever interrupts it, and a file that is none is refused."""

import json

import pytest

from hodsim.benchmarks.journal import circumstances, journal
from hodsim.report.machine import version_of

CASES = [{"case": name, "batch": batch} for name in ("a", "b") for batch in (1, 64)]


def test_an_interrupted_run_goes_on_without_making_a_row_twice(tmp_path):
    made = []

    def run(most):
        def make(key):
            if len(made) == most:
                raise KeyboardInterrupt
            made.append(key)
            return {"ms": len(made), "modes": (1, float("inf"))}

        with journal(tmp_path / "bench") as finished:
            return [finished.row(key, lambda key=key: make(key)) for key in CASES]

    with pytest.raises(KeyboardInterrupt):
        run(most=3)
    rows = run(most=4)
    assert made == CASES
    assert rows == [{"ms": k, "modes": [1, float("inf")]} for k in (1, 2, 3, 4)]
    assert rows == run(most=0)


def test_the_key_counts_whole_and_in_any_order_and_other_rows_stay(tmp_path):
    with journal(tmp_path) as finished:
        finished.row({"case": "a", "torch": "2.4"}, lambda: 1)
    with journal(tmp_path) as finished:
        assert {"torch": "2.4", "case": "a"} in finished and {"case": "a"} not in finished
        assert finished.row({"case": "a", "torch": "2.13"}, lambda: 2) == 2
    with journal(tmp_path) as finished:
        assert finished.row({"case": "a", "torch": "2.4"}, lambda: 3) == 1


def test_a_failed_row_is_not_recorded(tmp_path):
    with journal(tmp_path) as finished, pytest.raises(ZeroDivisionError):
        finished.row({"case": "a"}, lambda: 1 / 0)
    with journal(tmp_path) as finished:
        assert {"case": "a"} not in finished


@pytest.mark.parametrize("content", ["", "[]", '{"format": "another 1", "rows": []}', '{"format": "hodsim benchmark journal 1", "rows": [1]}'])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    (tmp_path / "journal.json").write_text(content)
    with pytest.raises(ValueError, match=r"journal\.json cannot be read as a journal"), journal(tmp_path):
        pass
    assert (tmp_path / "journal.json").read_text() == content


def test_a_second_process_is_told_to_wait(tmp_path):
    with journal(tmp_path), pytest.raises(BlockingIOError, match="another hodsim is at work"), journal(tmp_path):
        pass


def test_circumstances_follow_versions_and_sources(tmp_path, monkeypatch):
    package = tmp_path / "engine"
    (package / "part").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "part/b.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = circumstances("torch", "no-such-package", code=["engine", "engine.a"])
    assert before["torch"] == version_of("torch") and before["no-such-package"] is None
    (package / "part" / "b.py").write_text("x = 2\n")
    after = circumstances("torch", "no-such-package", code=["engine", "engine.a"])
    assert [name for name in before if before[name] != after[name]] == ["engine"]
    assert json.loads(json.dumps(after)) == after
    with pytest.raises(ValueError, match="engine_without"):
        circumstances(code=["engine_without"])
