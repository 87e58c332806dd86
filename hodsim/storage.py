"""Saving so that a file is either whole or as it was: write a temporary file, flush it, rename it; and one process at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


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


@contextmanager
def reserved(folder: Path | str) -> Iterator[None]:
    """A folder, made if need be, for this process alone. The reservation ends with the process, however that ends.

    Raises BlockingIOError when another one has it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"another hodsim is at work in {folder}; wait until it is done, or choose another output folder") from None
    try:
        yield
    finally:
        lock.release()


def remove_temporary_files(folder: Path) -> None:
    """Remove what a killed process left half written in a folder that is reserved."""
    for file in folder.glob(".*.tmp"):
        _remove(file)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:  # the folder itself is gone or unreadable: there is nothing to tidy
        pass
