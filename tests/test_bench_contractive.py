"""The contractive benchmark and trainer: what is timed agrees, training resumes, images are prepared, the report names every method."""

import math

import numpy as np
import pytest
import torch

from hodsim.apps.bench import bench
from hodsim.benchmarks.contractive import costs, figure, table
from hodsim.benchmarks.contractive_peers import torch_ways
from hodsim.benchmarks.contractive_training import METHODS, Budget, compare, load, matched
from hodsim.benchmarks.journal import Journal
from hodsim.contractive import contractive_terms
from hodsim.trainers import loop
from hodsim.trainers.contractive import ContractiveTraining, TiedAutoencoder, train_contractive

TRAINING = ContractiveTraining(widths=(6, 5, 3), jacobian_weight=1e-2, hessian_weight=1e-2, epochs=4, batch=8)


def images(count=40, width=9):
    return torch.rand(count, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_all_ways_that_are_timed_agree(beta):
    net, x = TiedAutoencoder(5, (7, 6, 4)).double().encoder, images(3, 5).double()
    expected = float(contractive_terms(net, x, hessian_weight=beta).penalty.detach())
    for name, way in torch_ways(net, x, beta).items():
        if "compiled" not in name:  # a compiler takes its time, and may be absent
            assert way() == pytest.approx(expected, rel=1e-10), name


def test_the_decoder_is_tied_and_training_lowers_the_objective(tmp_path):
    model, fitted = train_contractive(images(), images(12), TRAINING, checkpoint=tmp_path / "c.safetensors")
    assert sum(p.dim() == 2 for p in model.parameters()) == 3
    assert fitted.epochs == 4 and fitted.training[-1] < fitted.training[0]


@pytest.mark.parametrize("random_inputs", [0, 4])
def test_an_interrupted_training_ends_exactly_as_an_uninterrupted_one(tmp_path, monkeypatch, random_inputs):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    training = ContractiveTraining(widths=(6, 5, 3), jacobian_weight=1e-2, hessian_weight=1e-2, random_inputs=random_inputs, epochs=6, batch=8)

    def interrupt(done, total, best):
        if done == 3:
            raise KeyboardInterrupt

    whole, _ = train_contractive(images(), images(12), training, checkpoint=tmp_path / "a.safetensors")
    _, first = train_contractive(images(), images(12), training, checkpoint=tmp_path / "b.safetensors", progress=interrupt)
    assert first.interrupted
    resumed, second = train_contractive(images(), images(12), training, checkpoint=tmp_path / "b.safetensors")
    assert second.epochs == 6
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_comparison_runs_every_method_once_and_is_reported(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mnist.npz", x_train=rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), y_train=rng.integers(0, 10, 60),
             x_test=rng.integers(0, 256, (30, 28, 28), dtype=np.uint8), y_test=rng.integers(0, 10, 30))  # fmt: skip
    data = load(tmp_path, "mnist-rot", 40)
    assert data is not None and load(tmp_path, "cifar-bw", 40) is None
    assert [x.shape for x, _ in data.values()] == [(40, 784), (20, 784), (30, 784)]
    budget, notes = Budget(40, (8, 4), 1, 2, (1e-3,), (1e-2,)), []
    training = compare("mnist-rot", data, budget, Journal(tmp_path / "journal.json"), notes.append)
    assert list(training["chosen"]) == list(METHODS) and len(notes) == 6
    assert all(math.isfinite(seed["test_error"]) for point in training["points"] for seed in point["seeds"])
    monkeypatch.setattr("hodsim.benchmarks.contractive_training.train_contractive", None)  # nothing is trained again
    assert compare("mnist-rot", data, budget, Journal(tmp_path / "journal.json"), notes.append) == training
    row = {"term": "both", "batch": 1}
    cost = [{**row, "way": "hodsim", "ms": 1.0, "failed": None}, {**row, "way": "x", "ms": None, "failed": "why"}]
    report = {"quick": True, "threads": 1, "memory_mib": 8.0, "cost": cost, "training": [training]}
    assert all(f"| {method} |" in table(report) for method in METHODS) and "| why |" in table(report)
    assert figure(report).startswith(b"\x89PNG")


def test_an_interrupted_training_is_not_written_down(tmp_path, monkeypatch):
    data = {split: (images(12), torch.zeros(12, dtype=torch.int64)) for split in ("train", "validation", "test")}
    monkeypatch.setattr("hodsim.benchmarks.contractive_training.train_contractive", lambda *_, **__: (None, loop.Fit(interrupted=True)))
    with pytest.raises(KeyboardInterrupt):
        compare("mnist", data, Budget(12, (4, 3), 1, 1), Journal(tmp_path / "journal.json"), lambda _: None)
    assert not (tmp_path / "journal.json").exists()


def test_equal_reconstruction_is_found_on_the_line_between_two_jacobian_weights():
    """The ratio is interpolated by its logarithm: halfway between 0.4 and 0.1 it is 0.2."""
    def point(method, reconstruction, ratio, error):
        found = {"reconstruction": reconstruction, "ratios": [0, 0, ratio, 0, 0, 0], "test_error": error}
        return {"method": method, "jacobian_weight": 1.0, "hessian_weight": 1.0, "seeds": [found, found]}

    curve = [point("vanilla", 1.0, 0.4, 5.0), point("Jacobian", 2.0, 0.1, 3.0)]
    inside, outside = matched([*curve, point("HoD", 1.5, 0.3, 3.0), point("HoD", 2.5, 0.3, 3.0)])
    assert inside["ratio"] == pytest.approx([1.5, 1.5]) and inside["test_error"] == pytest.approx([-1.0, -1.0])
    assert outside["ratio"] is None


def test_costs_name_what_fails(monkeypatch):
    def broken():
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr("hodsim.benchmarks.contractive.torch_ways", lambda *_: {"broken": broken, "wrong": lambda: 0.0})
    monkeypatch.setattr("hodsim.benchmarks.contractive.jax_ways", lambda *_: {})
    rows = {row["way"]: row for row in costs("both", 1.0, 1, repeats=1, widths=(5, 4, 3))}
    assert rows["broken"]["failed"] == "no compiler" and rows["broken"]["ms"] is None
    assert rows["wrong"]["failed"].startswith("found 0.0") and rows["hodsim"]["ms"] > 0


def test_full_is_for_the_contractive_benchmark(tmp_path):
    with pytest.raises(ValueError, match="--full is for contractive"):
        bench("derivatives", output=tmp_path, full=True)
