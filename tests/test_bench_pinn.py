"""The benchmark of physics-informed networks in seconds, and the trainer's methods, checkpoints and refusals."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from hodsim.benchmarks import pinn
from hodsim.pinn import network, sobol
from hodsim.pinn.problems import clamped_beam, paper_poisson, poisson
from hodsim.trainers import pinn as trainer
from hodsim.trainers.pinn import train_pinn


def test_a_quick_run_writes_table_and_figure(tmp_path, monkeypatch):
    monkeypatch.setitem(pinn.PROBLEMS, "paper", lambda: paper_poisson(4))
    monkeypatch.setattr(pinn, "COARSER", (3,))
    monkeypatch.setattr(pinn, "QUICK_SECONDS", 1.0)
    monkeypatch.setattr(pinn, "POINTS", 20)
    monkeypatch.setattr(pinn, "REPEATS", 1)
    monkeypatch.setattr(pinn, "jax_engines", lambda net, x: {})  # would set JAX's precision for the tests that follow
    monkeypatch.setattr(pinn, "apart", lambda function, *arguments, waiting=None: function(*arguments))
    pinn.run(tmp_path, quick=True)
    report = json.loads((tmp_path / "pinn.json").read_text())
    assert 0 < report["trainings"][0]["error"] < 2 and report["trainings"][0]["steps"] >= 1
    assert set(report["laplacian"]) == {"hodsim", "torch.autograd", "torch.func"}
    assert [row["rows"] for row in report["scaling"]["order"]] == [2, 3, 4, 5, 6, 7]
    assert "| Poisson, k = 1..8 | levenberg-marquardt | 0 |" in (tmp_path / "pinn.md").read_text()
    for name in ("pinn.png", "pinn-scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not find_spec("jax"), reason="JAX is not installed")
def test_jax_gives_the_same_gradient_of_the_laplacian():
    """laplacian_times compares every engine with hodsim."""
    code = "from hodsim.benchmarks import pinn; pinn.POINTS, pinn.REPEATS = 5, 1; print(pinn.laplacian_times(compiled=False))"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "JAX jit, along the axes" in names and "Error" not in names and ("folx" in names or not find_spec("folx"))


@pytest.mark.parametrize("method", ["levenberg-marquardt", "newton-krylov", "l-bfgs", "adam"])
def test_every_method_lowers_the_loss(method):
    problem = poisson(2, interior=20, side=4)
    history = train_pinn(network(problem, width=6, hidden=1), problem, seconds=0.5, method=method)
    assert history.loss[-1] < history.loss[0] or len(history.loss) == 1


def test_a_training_resumes(tmp_path):
    problem, file = clamped_beam(interior=10), tmp_path / "beam.safetensors"
    first = network(problem, width=6, hidden=1)
    before = train_pinn(first, problem, seconds=0.2, checkpoint=file)
    other = network(problem, width=6, hidden=1, seed=1)
    after = train_pinn(other, problem, seconds=before.spent, checkpoint=file)
    assert after.loss == before.loss
    for a, b in zip(first.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    more = train_pinn(other, problem, seconds=before.spent + 0.2, checkpoint=file)
    assert more.loss[: len(before.loss)] == before.loss and len(more.loss) > len(before.loss)


@pytest.fixture
def clock(monkeypatch):
    """A clock by which every look at it takes a second, so that a training takes the same steps on any machine."""
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=count().__next__))


def test_a_training_goes_from_coarse_points_to_fine_ones_and_resumes_there(tmp_path, monkeypatch, clock):
    """In the end the network has the best weights on the fine points."""
    monkeypatch.setattr(trainer, "OUTGROWN", 0.0)  # at once
    file, coarse, fine = tmp_path / "levels.safetensors", paper_poisson(3), paper_poisson(6)
    model = network(fine, width=10, hidden=2)
    history = train_pinn(model, fine, seconds=60, coarser=[coarse], checkpoint=file)
    assert history.level == 1
    assert any(float(fine.loss(model).detach()) == pytest.approx(loss, rel=1e-6) for loss in history.loss), "not the weights of any step"
    assert float(fine.loss(model).detach()) <= history.loss[-1] * (1 + 1e-6)
    other = network(fine, width=10, hidden=2, seed=1)
    resumed = train_pinn(other, fine, seconds=history.spent, coarser=[coarse], checkpoint=file)
    assert resumed.level == 1 and resumed.loss == history.loss
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_points_are_sampled_anew(clock):
    drawn = []

    def sample(residual):
        drawn.append(sobol([(0.0, 1.0)] * 2, 20, seed=len(drawn)))
        return drawn[-1]

    problem = poisson(2, interior=20, side=4)
    problem = replace(problem, conditions=(replace(problem.conditions[0], sample=sample), problem.conditions[1]))
    history = train_pinn(network(problem, width=6, hidden=1), problem, seconds=20, resample=3)
    assert len(drawn) == len(history.loss) // 3 > 1


def test_bad_input_is_refused(tmp_path):
    problem, file = clamped_beam(interior=5), tmp_path / "broken"
    with pytest.raises(ValueError, match="'sgd'"):
        train_pinn(network(problem), problem, seconds=1, method="sgd")  # type: ignore[arg-type]
    file.write_text("no checkpoint")
    with pytest.raises(ValueError, match="corrupt"):
        train_pinn(network(problem), problem, seconds=1, checkpoint=file)
