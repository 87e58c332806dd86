"""The scale benchmark on two tiny beams: every stage is measured, and the reduced models are what they are said to be."""

import json
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from hodsim.benchmarks import scale


@contextmanager
def here():
    """In this process, where they are compiled already."""
    def submit(function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done

    yield submit


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "DIVISIONS", {"tiny": (8, 2, 2), "small": (12, 2, 2), "left out by --quick": (16, 2, 2)})
        patch.setattr(scale, "REDUCED_STEPS", 20)
        patch.setattr(scale, "ROUNDS", 2)
        patch.setattr(scale, "process", here)
        scale.run(folder, quick=True)
    return folder


def test_every_stage_of_every_size_is_measured(report):
    sizes = json.loads((report / "scale.json").read_text())["sizes"]
    assert [size["n_dofs"] for size in sizes.values()] == [216, 324]
    first, second = (size["stages"] for size in sizes.values())
    assert list(first) == list(second) and {*scale.OFFLINE, *scale.ONLINE} <= set(first)
    assert all(row["seconds"] > 0 for size in sizes.values() for row in size["stages"].values())
    for size in sizes.values():
        assert size["elements, network"] == size["elements, PCA 6"] == scale.ELEMENTS
        assert 1 <= size["stages"]["reduced step, network, variational"]["iterations"] < 5
    one, other = (size["tip"] for size in sizes.values())  # the same beam under the same load, but for the error of coarse meshes
    assert other == pytest.approx(one, rel=0.5)


def test_the_table_names_each_stage_and_the_figure_is_a_picture(report):
    table = (report / "scale.md").read_text()
    assert all(f"| {name} |" in table for name in (*scale.OFFLINE, *scale.ONLINE))
    assert (report / "scale.png").read_bytes().startswith(b"\x89PNG")
