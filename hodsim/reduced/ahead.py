"""Compile the step beside other work.

On a machine that has never done it, that takes one to two minutes; numba keeps what it made on disk. A process of its own leaves this one
its interpreter.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from hodsim.fem import FullModel, NeoHookean, StableNeoHookean, StVK
from hodsim.mesh import TetMesh

MATERIALS = {material.__name__: material for material in (StVK, NeoHookean, StableNeoHookean)}


class Compilation:
    """Compiles the step, with materials of MATERIALS, into numba's cache, at the side, unless it is there. Nothing is left behind when it is
    stopped early; the next one starts over."""

    def __init__(self, *materials: str):
        command = [sys.executable, "-c", f"from {__name__} import compile_step; compile_step{materials!r}"]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been going on [s]."""
        return time.monotonic() - self._started

    @property
    def done(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> None:
        """Until it is done; how it ended does not matter, for what is missing is compiled where it is wanted."""
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


_under_way: Compilation | None = None


def compile_ahead() -> None:
    """Begin to compile; whoever makes a `CompiledStep` meanwhile waits for it, and does not compile the same again."""
    global _under_way
    if _under_way is None:
        _under_way = Compilation(StVK.__name__)


def wait_until_compiled() -> None:
    """Wait for what `compile_ahead` began, if it did."""
    global _under_way
    if _under_way is not None:
        _under_way.wait()
        _under_way = None


def compile_step(*materials: str) -> None:
    """Compile the step, or find it on disk, by taking none with the smallest of bodies: one serves all models of its materials."""
    from hodsim.reduced.compiled import CompiledStep  # which waits by what is above
    from hodsim.reduced.model import ReducedModel
    from hodsim.subspace.modal import modal

    mesh = TetMesh.box((1.0, 1.0, 1.0), (1, 1, 1))
    for material in materials:
        cube = MATERIALS[material](youngs_modulus=1.0, poisson_ratio=0.3)
        full = FullModel(mesh, cube, density=1.0, pinned=mesh.vertices[:, 0] == 0)
        model = ReducedModel(full, modal(full, 1))
        CompiledStep(model).rollout(model.state(), 1.0, np.zeros((0, 1)))
