"""The compiled step on its way: a process of its own compiles it, once on a machine, while the reference moves the bodies."""

from __future__ import annotations

import subprocess
import sys
import time


class Compilation:
    """Compiles into numba's cache, at the side. Nothing is left behind when it is stopped early; the next one starts over."""

    def __init__(self):
        command = [sys.executable, "-c", "from hodsim.reduced import compile_ahead; compile_ahead()"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been going on [s]."""
        return time.monotonic() - self._started

    @property
    def done(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
