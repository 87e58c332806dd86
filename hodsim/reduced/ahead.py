"""Compile the step beside other work.

On a machine that has never done it, that takes most of a minute; numba keeps what it made on disk. A process of its own leaves this one
its interpreter; whoever wants to step meanwhile waits for it, and does not compile the same again.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh

_under_way: subprocess.Popen | None = None


def compile_ahead() -> None:
    """Begin to compile the step in the background, if it is not on disk yet."""
    global _under_way
    if _under_way is None:
        nowhere = subprocess.DEVNULL
        command = [sys.executable, "-c", f"from {__name__} import compile_step; compile_step()"]
        _under_way = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def wait_until_compiled() -> None:
    """Wait for what was begun, if anything was; how it ended does not matter, for what is missing is compiled where it is wanted."""
    global _under_way
    if _under_way is not None:
        _under_way.wait()
        _under_way = None


def compile_step() -> None:
    """Compile the step, or find it on disk, by taking none with the smallest of bodies."""
    from hodsim.reduced.compiled import CompiledStep  # which waits by what is above
    from hodsim.reduced.model import ReducedModel
    from hodsim.subspace.modal import modal

    mesh = TetMesh.box((1.0, 1.0, 1.0), (1, 1, 1))
    full = FullModel(mesh, StVK(youngs_modulus=1.0, poisson_ratio=0.3), density=1.0, pinned=mesh.vertices[:, 0] == 0)
    model = ReducedModel(full, modal(full, 1))
    CompiledStep(model).rollout(model.state(), 1.0, np.zeros((0, 1)))
