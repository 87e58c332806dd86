"""One kind of file through so many inputs, in a process that may not outlive its faults."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from .inputs import contents
from .seeds import Kind

SECONDS = 20  # of the processor's time, that reading a few kilobytes may take: on a machine with other work, a clock on the wall proves nothing
MEGABYTES = 300  # that it may add to what the process takes
ALLOWED = (ValueError, OSError)  # a sentence for the user


class Fault(Exception):
    """What a reader must not do."""


class Hang(BaseException):
    """Raised within a reader, which catches every Exception of the library that it stands on."""


@dataclass
class Tally:
    read: int = 0
    refused: int = 0

    @property
    def inputs(self) -> int:
        return self.read + self.refused


def fuzz(kind: Kind, number: int, *, begin: int = 0) -> Tally:
    """Read so many inputs. Raises Fault with the place of the input that one was found with."""
    tally = Tally()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        file = Path(name) / f"input{kind.ending}"

        @seed(begin)
        @settings(max_examples=number, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(contents(kind))
        def every(content: bytes) -> None:
            file.write_bytes(content)
            try:
                _read(kind, file)
                tally.read += 1
            except ALLOWED:
                tally.refused += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                kept = Path(tempfile.gettempdir()) / f"hodsim-fuzz-{kind.name.replace(' ', '')}{kind.ending}"
                shutil.copy(file, kept)
                where = "".join(traceback.format_exception(error)[-3:])
                raise Fault(f"{kind.name}: {type(error).__name__}: {error}; the input is {kept}\n{where}") from None
            for other in file.parent.iterdir():
                if other.name not in (file.name, file.with_suffix(".ele").name):
                    raise Fault(f"{kind.name}: reading wrote {other.name}")

        every()
    return tally


def _read(kind: Kind, file: Path) -> None:
    def hangs(*_):
        raise Hang(f"it takes more than {SECONDS} s")

    before, random_state = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, random.getstate()
    on_alarm = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        kind.read(file)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, on_alarm)
        random.setstate(random_state)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1024 if sys.platform != "darwin" else 1024**2)
        if grown > MEGABYTES:
            raise Fault(f"it takes {grown:.0f} MB")


def apart(kind: Kind, number: int, begin: int) -> str | None:
    """`fuzz` in a process of its own; what was found, or None."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = ""
        try:
            resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
            fuzz(kind, number, begin=begin)
        except Fault as fault:
            found = str(fault)
        except BaseException:
            found = traceback.format_exc()
        os.write(writing, found.encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return found or (f"{kind.name}: the process ended by {signal.Signals(-status).name}" if status < 0 else None)
