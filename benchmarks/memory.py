"""Peak resident memory of this process (Linux only: elsewhere it is not known)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def return_freed() -> None:
    """Give back to the system what this process has freed, so that what a function takes is seen in the peak (glibc only)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def reset_peak() -> None:
    """Set the peak back to what is resident now."""
    try:
        switch = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return
    os.write(switch, b"5")
    os.close(switch)


def peak() -> float | None:
    """The most memory that was resident since the last reset [MiB]."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return None
