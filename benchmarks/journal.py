"""What a long benchmark has found so far, a line of JSON each: run again after an interruption, it computes only what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Journal:
    """Results by what they are results of. A last line that was cut off, as by a killed process, is left out and found again."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.found = path, dict[str, Any]()
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            self.found[entry["of"]] = entry["found"]
            whole += len(line)
        if path.exists():
            os.truncate(path, whole)

    def __contains__(self, of: dict[str, Any]) -> bool:
        return _key(of) in self.found

    def once(self, of: dict[str, Any], find: Callable[[], Any]) -> Any:
        """What is known of `of`, or find(), which is written down; both must be JSON."""
        key = _key(of)
        if key not in self.found:
            found = find()
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"of": key, "found": found}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.found[key] = found
        return self.found[key]


def _key(of: dict[str, Any]) -> str:
    return json.dumps(of, sort_keys=True)
