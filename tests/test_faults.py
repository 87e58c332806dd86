"""A sample of tests/faults, which has all of them: a command that is killed, interrupted, short of disk or memory, or given damage or NaN."""

import os

import pytest

if not hasattr(os, "fork"):
    pytest.skip("the runs are forked processes, which this system does not have", allow_module_level=True)

from faults import trials
from faults.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("faults") / "study")


SAMPLE = {
    "killed": lambda study: [trials._after_kill(study, "snapshots", 0.5)],
    "interrupted": lambda study: [trials._after_ctrl_c(study, "snapshots", 2)],
    "out of disk": lambda study: [trials._on_a_full_disk(study, name, 4096) for name in ("snapshots", "mesh tidy")],
    "read-only": lambda study: [trials._on_a_read_only_disk(study, name) for name in ("snapshots", "init")],
    "short of memory": lambda study: [trials._in_little_memory(study, "mesh tidy", 2**20)],
    "twice": lambda study: [trials._two_at_once(study, "snapshots")],
    "damaged": lambda study: [trials._with_damage(study, file, "snapshots", number) for file in ("body.msh", "body.toml") for number in range(3)],
    "not a number": lambda study: [trials._refused(study, "snapshots", "--set", f"{key}=nan") for key in ("material.density", "sweep.train")],
}  # fmt: skip


@pytest.mark.parametrize("fault", SAMPLE)
def test_nothing_is_lost_and_one_sentence_is_said(study, fault):
    faults = SAMPLE[fault](study)
    assert faults and not any(faults), faults


def test_every_command_has_its_trials():
    from faults.study import COMMANDS

    from hodsim.apps import cli

    tried = {arguments[0] for arguments, _ in COMMANDS.values()}
    assert set(cli.COMMANDS) - tried == {"beam", "bench"}  # snapshots, train and report in one; minutes of measuring, which writes at its end
