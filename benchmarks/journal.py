"""Finished rows of a long benchmark, by key: interrupted and run again it goes on where it was.

    with journal(output / "derivatives") as finished:
        for case in cases:
            row = finished.row({"case": case.name, "batch": 64, **circumstances("torch", code=["hodsim.multicomplex"])}, lambda: measure(case))

A key says all that a row depends on. Rows of other keys stay in the file, so that a run under other versions neither takes nor loses them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from hodsim.report.machine import processor, version_of
from hodsim.storage import remove_temporary_files, reserved, write_atomically

FORMAT = "hodsim benchmark journal 1"
Row = TypeVar("Row")


@contextmanager
def journal(folder: Path | str) -> Iterator[Journal]:
    """The journal of a folder, made if need be, which is this process's alone meanwhile.

    Raises BlockingIOError when another process has it, ValueError when its file is not a journal."""
    with reserved(folder):
        remove_temporary_files(Path(folder))
        yield Journal(Path(folder) / "journal.json")


class Journal:
    """Rows of JSON values in one file, which is written whole after each row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Any] = _read(path) if path.exists() else {}

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return _text(key) in self._rows

    def row(self, key: Mapping[str, Any], make: Callable[[], Row]) -> Row:
        """The row that is recorded for the key; where there is none, that of make(), recorded from now on.

        Either way it is what JSON gives back: lists for tuples, strings for the keys of dictionaries."""
        name = _text(key)
        if name not in self._rows:
            self._rows[name] = json.loads(json.dumps(make()))
            content = {"format": FORMAT, "rows": [{"key": json.loads(name), "row": row} for name, row in self._rows.items()]}
            write_atomically(self.path, json.dumps(content, indent=1))
        return self._rows[name]


def circumstances(*packages: str, code: Iterable[str] = ()) -> dict[str, str | None]:
    """What a time depends on beside its case: processor, Python, versions of packages (None: not installed), and the sources of `code`.

    code: names of modules or packages. Their content counts, not a commit: a change elsewhere does not outdate the rows."""
    found = {"processor": processor(), "python": platform.python_version(), **{name: version_of(name) for name in packages}}
    return {**found, **{name: _fingerprint(name) for name in code}}


def _fingerprint(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{module} is no module that has sources; a journal's key cannot depend on it")
    files = sorted(Path(spec.origin).parent.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _text(key: Mapping[str, Any]) -> str:
    """The key as JSON; the order of its entries does not matter."""
    return json.dumps(key, sort_keys=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        return {_text(entry["key"]): entry["row"] for entry in content["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as a journal of finished rows ({error}); move it away to measure all of them anew") from error
