"""A run of the `hodsim` command in a process that is forked from this one, so that what it imports and compiles is there already."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hodsim.apps import main

LONGEST = 1800.0  # seconds: what takes longer hangs, on a machine with whatever other work

Before = Callable[[], None]  # what the new process does to itself before the command


@dataclass(frozen=True)
class Run:
    """What became of a command: the exit status, or minus the number of the signal that ended it."""

    command: tuple[str, ...]
    status: int
    out: str
    err: str
    seconds: float

    @property
    def complaint(self) -> str | None:
        """What is wrong with the way in which a failure was told; None where nothing is."""
        said = self.err.strip()
        if self.status == 0:
            return "exit status 0"
        if "Traceback" in said:
            return f"a traceback, {said.splitlines()[-1]}"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        if self.status == 2 and "Invalid value for" in said:  # the command line's own parser: a usage line and a box
            return None
        if not said.startswith("hodsim: ") or "\n" in said:
            return f"not one sentence: {said!r}"
        return None


def hodsim(*arguments: object, folder: Path, before: Before = lambda: None, kill_after: float | None = None) -> Run:
    """Run the command in a folder; kill_after so many seconds it is ended by SIGKILL."""
    started = start(*arguments, folder=folder, before=before)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(started.pid, signal.SIGKILL)
    return started.wait()


@dataclass(frozen=True)
class Started:
    command: tuple[str, ...]
    pid: int
    folder: Path
    at: float

    def wait(self) -> Run:
        while True:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() - self.at > LONGEST:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"hodsim {' '.join(self.command)} hangs")
            time.sleep(0.01)
        said = [said_file(self.pid, name) for name in ("out", "err")]
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in said]
        for file in said:
            file.unlink()
        return Run(self.command, os.waitstatus_to_exitcode(status), *texts, time.monotonic() - self.at)


def start(*arguments: object, folder: Path, before: Before = lambda: None) -> Started:
    command = tuple(map(str, arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(command, folder, before)
    return Started(command, pid, folder, time.monotonic())


def said_file(pid: int, name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"hodsim-faults-{pid}.{name}"  # not in the folder, whose disk may be full


def _become(command: tuple[str, ...], folder: Path, before: Before) -> None:
    """The rest of the new process."""
    status = 1
    try:
        os.setsid()  # a signal that is meant for it reaches it alone
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background of a shell is started deaf to it
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(said_file(os.getpid(), name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, encoding="utf-8", closefd=False) for number in (1, 2))
        os.environ["COLUMNS"] = "200"
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            os.environ.pop(name, None)
        os.chdir(folder)
        sys.argv = ["hodsim", *command]
        before()
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
