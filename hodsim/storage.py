"""Saving so that a file is either whole or as it was: write a temporary file, flush it, rename it."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path | str, data: bytes | str) -> Path:
    """Write data (text as UTF-8) to path and return it; folders on the way are made.

    Raises OSError naming the path and the reason when the disk is full or not writable: what was at path before is unchanged, and no
    temporary file stays behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"{path} could not be saved: {error.strerror}; what was there before is unchanged") from error
    finally:
        _remove(temporary)
    return path


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:  # the folder itself is gone or unreadable: there is nothing to tidy
        pass
