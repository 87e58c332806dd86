"""The step is compiled once on a machine, beside other work."""

import subprocess
import sys

import numpy as np
import pytest

from cases import small_beam
from hodsim.reduced import CompiledStep, ReducedModel, ahead, compile_ahead
from hodsim.reduced.kernel import rollouts
from hodsim.subspace import modal


class Compiler:
    """A process that takes note of what is asked of it."""

    def __init__(self, command, **_):
        self.command, self.waits = command, 0

    def wait(self):
        self.waits += 1
        return 1


@pytest.fixture
def compilers(monkeypatch):
    begun: list[Compiler] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: begun.append(Compiler(*a, **k)) or begun[-1])
    yield begun
    ahead.wait_until_compiled()


def test_it_is_begun_once_and_waited_for_by_whoever_steps(compilers):
    model = ReducedModel(small_beam(), modal(small_beam(), 2))
    compile_ahead()
    compile_ahead()
    assert len(compilers) == 1 and compilers[0].waits == 0
    for _ in range(2):
        run = CompiledStep(model).rollout(model.state(), 1e-2, np.zeros((2, 2)))
    assert compilers[0].waits == 1
    assert run.failure is None  # though the compiler failed


def test_nothing_is_waited_for_where_nothing_was_begun(compilers):
    ahead.wait_until_compiled()
    assert not compilers


def test_what_the_process_runs_leaves_nothing_to_compile(compilers):
    compile_ahead()
    assert compilers[0].command == [sys.executable, "-c", "from hodsim.reduced.ahead import compile_step; compile_step('StVK',)"]
    ahead.compile_step("StVK")
    before = len(rollouts.signatures)
    model = ReducedModel(small_beam(), modal(small_beam(), 2))
    CompiledStep(model).rollout(model.state(), 1e-2, np.zeros((2, 2)))
    assert len(rollouts.signatures) == before == 1
