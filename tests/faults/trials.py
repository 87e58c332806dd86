"""The trials: a fault, a command, and what is wrong with what became of it; nothing, if all is as it should be."""

from __future__ import annotations

import math
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import rich.progress

from .numbers import numeric_options, numeric_settings
from .runs import Run, hodsim, start
from .study import COMMANDS, Study, damaged, digests, leftovers


@dataclass(frozen=True)
class Trial:
    """A name to print and what finds its faults, as sentences."""

    name: str
    faults: Callable[[], list[str]]


def killed(study: Study, times: int, seed: int = 0) -> Iterator[Trial]:
    """SIGKILL at random moments."""
    rng = random.Random(seed)
    for name in COMMANDS:
        for _ in range(times):
            share = rng.random()
            yield Trial(f"kill -9, {name}, after {share:.2f} of its time", lambda name=name, share=share: _after_kill(study, name, share))


def _after_kill(study: Study, name: str, share: float) -> list[str]:
    folder = study.fresh(name)
    hodsim(*COMMANDS[name][0], folder=folder, kill_after=share * study.seconds(name))
    return _unharmed(study, name, folder)


def interrupted(study: Study, stages: int) -> Iterator[Trial]:
    """Ctrl-C as a progress bar or a spinner moves for the first, second, third, fifth, .. time."""
    for name in COMMANDS:
        moment, following = 1, 2
        for _ in range(stages):
            yield Trial(f"Ctrl-C, {name}, at its {moment}. progress", lambda name=name, moment=moment: _after_ctrl_c(study, name, moment))
            moment, following = following, moment + following


def _after_ctrl_c(study: Study, name: str, moment: int) -> list[str]:
    folder = study.fresh(name)
    run = hodsim(*COMMANDS[name][0], folder=folder, before=lambda: _ctrl_c_at(moment))
    if run.status == 0:  # it had fewer stages than that
        return _unharmed(study, name, folder, again=False)
    faults = [run.complaint] if run.complaint else []
    return faults + ([] if run.status == 130 else [f"exit status {run.status} in place of 130"]) + _unharmed(study, name, folder)


def _ctrl_c_at(moment: int) -> None:
    moved = 0

    def interrupting(method):
        def counted(self, *arguments, **options):
            nonlocal moved
            moved += 1
            if moved == moment:
                os.kill(os.getpid(), signal.SIGINT)
            method(self, *arguments, **options)

        return counted

    for name in ("start", "update"):
        setattr(rich.progress.Progress, name, interrupting(getattr(rich.progress.Progress, name)))


def out_of_disk(study: Study, rooms: tuple[int, ...]) -> Iterator[Trial]:
    """A disk with so many bytes left: a small one of its own for root, for others a limit to each file."""
    for name in COMMANDS:
        for room in rooms:
            yield Trial(f"disk full after {room} bytes, {name}", lambda name=name, room=room: _on_a_full_disk(study, name, room))


def _on_a_full_disk(study: Study, name: str, room: int) -> list[str]:
    with _disk(study, name) as folder:
        if folder is None:
            folder = study.fresh(name)
            run = hodsim(*COMMANDS[name][0], folder=folder, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
        else:
            _fill(folder / "filler", room)
            run = hodsim(*COMMANDS[name][0], folder=folder)
            (folder / "filler").unlink()
        return _refused_or_done(study, name, folder, run)


def read_only(study: Study) -> Iterator[Trial]:
    """A disk that cannot be written."""
    for name in COMMANDS:
        yield Trial(f"read-only, {name}", lambda name=name: _on_a_read_only_disk(study, name))


def _on_a_read_only_disk(study: Study, name: str) -> list[str]:
    with _disk(study, name) as folder:
        if folder is None:
            return []
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        run = hodsim(*COMMANDS[name][0], folder=folder)
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        return ([run.complaint] if run.complaint else []) + _unharmed(study, name, folder)


def short_of_memory(study: Study, rooms: tuple[int, ...]) -> Iterator[Trial]:
    """An address space with room for so many MiB more: less than a command asks for at its start, just more, and more."""
    for name in COMMANDS:
        for room in rooms:
            yield Trial(f"memory for {room} MiB, {name}", lambda name=name, room=room: _in_little_memory(study, name, room))


def _in_little_memory(study: Study, name: str, room: int) -> list[str]:
    folder = study.fresh(name)

    def limit() -> None:
        most = psutil.Process().memory_info().vms + (room << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return _refused_or_done(study, name, folder, hodsim(*COMMANDS[name][0], folder=folder, before=limit))


def twice(study: Study) -> Iterator[Trial]:
    """The same command two times at once."""
    for name in COMMANDS:
        yield Trial(f"two at once, {name}", lambda name=name: _two_at_once(study, name))


def _two_at_once(study: Study, name: str) -> list[str]:
    folder = study.fresh(name)
    first, second = (start(*COMMANDS[name][0], folder=folder) for _ in range(2))
    runs = first.wait(), second.wait()
    faults = [run.complaint for run in runs if run.status != 0 and run.complaint]
    if all(run.status != 0 for run in runs):
        faults.append("both failed")
    return faults + _unharmed(study, name, folder, again=False)


# Damaged files: by its path, the commands that read it and the project's stage

READERS = {
    "body.msh": ("mesh info", "mesh tidy", "snapshots", "init"),
    "body.toml": ("snapshots", "train", "report"),
    "cube.obj": ("mesh fill",),
    "study/project.toml": ("train", "report"),
    "study/snapshots/train-0001.h5": ("train", "report"),
    "study/model.hod": ("report", "simulate", "view", "export"),
    "study/checkpoint": ("train",),
    "recording.json": ("view",),
}


def corrupted(study: Study, times: int, seed: int = 0) -> Iterator[Trial]:
    """Each kind of file with random bytes changed, left out, added or cut off."""
    rng = random.Random(seed)
    for file, commands in READERS.items():
        for name in commands:
            for _ in range(times):
                number = rng.randrange(2**32)
                yield Trial(f"damaged {file} ({number}), {name}", lambda f=file, n=name, i=number: _with_damage(study, f, n, i))


def _with_damage(study: Study, file: str, name: str, number: int) -> list[str]:
    folder = study.fresh(name)
    arguments = COMMANDS[name][0]
    if file == "study/checkpoint":
        path = _with_checkpoint(study, folder)
    elif file == "recording.json":
        path, arguments = _with_recording(folder), (*arguments, "--replay", file)
    else:
        path = folder / file
    path.write_bytes(damage(path.read_bytes(), random.Random(number)))
    run = hodsim(*arguments, folder=folder)
    return [] if run.status == 0 or run.complaint is None else [run.complaint]  # a change may do no harm: a digit, a comment


def damage(content: bytes, rng: random.Random) -> bytes:
    """Content with one to sixteen faults of a kind."""
    data, kind = bytearray(content), rng.choice(("flip", "zero", "drop", "insert", "cut", "swap"))
    for _ in range(rng.choice((1, 1, 2, 16))):
        if not data:
            break
        at = rng.randrange(len(data))
        length = rng.choice((1, 1, 8, 64))
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "zero":
            data[at : at + length] = bytes(min(length, len(data) - at))
        elif kind == "drop":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = rng.randbytes(length)
        elif kind == "swap":
            other = rng.randrange(len(data))
            data[at], data[other] = data[other], data[at]
        else:
            del data[at:]
    return bytes(data)


def _with_checkpoint(study: Study, folder: Path) -> Path:
    """A training's checkpoint in a folder that has no model."""
    found = min((study.before("report") / "study").glob("checkpoint-*.safetensors"))
    return Path(shutil.copy(found, folder / "study" / found.name))


def _with_recording(folder: Path) -> Path:
    from hodsim.apps.arguments import trained_under
    from hodsim.reduced import ReducedModel
    from hodsim.subspace import Model
    from hodsim.viewer import Player

    loaded = Model.load(folder / "study/model.hod")
    player = Player({"model": ReducedModel.of(loaded)}, trained_under(loaded), dt=0.01)
    for strength in (0.2, -0.3):
        player.amplitudes["tip"][2] = strength
        player.step()
    return player.recording.save(folder / "recording.json")


# Numbers that are none

NUMBERS = ("nan", "inf", "-inf")


def not_numbers(study: Study, values: tuple[str, ...] = NUMBERS) -> Iterator[Trial]:
    """NaN and infinities in every numeric setting of a project and every numeric option of a command."""
    for key in numeric_settings():
        for value in values:
            said = key.format(value)
            yield Trial(f"snapshots --set {said}", lambda said=said: _refused(study, "snapshots", "--set", said))
    for name, (arguments, _) in COMMANDS.items():
        for words, count in numeric_options(arguments):
            for value in values:
                given = [*words, value, *["0"] * (count - 1)]
                yield Trial(f"{name} {' '.join(given)}", lambda n=name, g=given: _refused(study, n, *g))


def _refused(study: Study, name: str, *arguments: str) -> list[str]:
    folder = study.fresh(name)
    run = hodsim(*COMMANDS[name][0], *arguments, folder=folder)
    return ([run.complaint] if run.complaint else []) + _unharmed(study, name, folder, again=False)


# What has to hold afterwards


def _refused_or_done(study: Study, name: str, folder: Path, run: Run) -> list[str]:
    faults = [run.complaint] if run.status != 0 and run.complaint else []
    return faults + _unharmed(study, name, folder)


def _unharmed(study: Study, name: str, folder: Path, *, again: bool = True) -> list[str]:
    """What was lost of what was there, and whether the same command now goes through and ends as it would have."""
    faults = damaged(folder)
    try:
        before, after = digests(study.before(name) / "study"), digests(folder / "study")
    except ValueError as error:
        return [*faults, f"damaged: {error}"]
    faults += [f"{file} is another or gone" for file, digest in before.items() if after.get(file) != digest]
    if not again:
        return faults
    run = hodsim(*COMMANDS[name][0], folder=folder)
    if run.status != 0 and name != "init":  # which does not write over a project file
        return [*faults, f"does not go on: {run.err.strip()}"]
    if not (folder / COMMANDS[name][1]).exists():
        faults.append(f"going on makes no {COMMANDS[name][1]}")
    for file, digest in digests(folder / "study").items():
        if digest != study.expected(name).get(file):
            faults.append(f"going on makes another {file}")
    return faults + [f"{file} stays behind" for file in leftovers(folder)]


@contextmanager
def _disk(study: Study, name: str) -> Iterator[Path | None]:
    """The project on a disk of 16 MB of its own; None where only root could make one."""
    if os.geteuid() != 0:
        yield None
        return
    source, folder = study.fresh(name), study.folder / "disk"
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True).returncode != 0:
        yield None  # a container without the right to
        return
    try:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    for _ in range(20):
        if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(file: Path, room: int) -> None:
    """Leave so many bytes of a disk, in whole pages."""
    free = shutil.disk_usage(file.parent).free
    file.write_bytes(bytes(max(0, math.floor((free - room) / 4096) * 4096)))


def everything(study: Study, times: int) -> list[Trial]:
    """Trials of every kind; times: how many of those that are drawn at random."""
    return [
        *killed(study, times), *interrupted(study, 4 + times), *out_of_disk(study, (0, 4096, 16384, 65536)), *read_only(study),
        *short_of_memory(study, (0, 255, 260, 288, 384, 768)), *twice(study), *corrupted(study, times), *not_numbers(study),
    ]  # fmt: skip
