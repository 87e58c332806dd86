"""The fine-tuning benchmark: its ways to a Hessian-vector product agree, its data is read as it was written, its report names all methods."""

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn
from torch.nn import functional as F

from bodies import small_beam
from hodsim.apps.bench import bench
from hodsim.benchmarks import finetune, finetune_problems
from hodsim.benchmarks.finetune import compare, races
from hodsim.benchmarks.finetune_methods import Budget, Method, methods, race
from hodsim.benchmarks.finetune_problems import NETS, Factored, Problem, beam_autoencoder, image_problems, load_images, seeded
from hodsim.benchmarks.finetune_products import cost_problem, product_methods
from hodsim.benchmarks.finetune_report import figure, table
from hodsim.benchmarks.journal import Journal
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import principal_directions


@pytest.mark.parametrize("name", NETS)
def test_all_products_that_are_timed_agree(name):
    net, x, y, loss = cost_problem(name)
    net, x = net.double(), x[:6].double()
    y = y[:6].double() if y.is_floating_point() else y[:6]
    expected = None
    for ways in product_methods(net, x, y, loss):
        for product in ways.values():
            found = torch.cat([h.reshape(-1) for h in product()])
            expected = found if expected is None else expected
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


def sines() -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    parts = dict(zip(("train", "validation", "test"), ((part, torch.sin(part[:, :2])) for part in x.split(20)), strict=True))
    make = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).double())
    return Problem("sines", make, parts, lambda net, s: (net(s[0]), lambda out: F.mse_loss(out, s[1])), batch=10, large=20, factored=Factored(10),
                   first_epochs=5, simulate=lambda net: float(net[0].weight.detach().abs().sum()))  # fmt: skip


def test_the_beam_is_raced_on_every_sixteenth_pose(tmp_path, monkeypatch):
    full, dt = small_beam(), 0.01
    cases = sweep(train=3, validation=1, test=1, duration=0.4)
    snapshots = generate_snapshots(full, bending_loads(full), cases, dt=dt, steps=40, directory=tmp_path)
    monkeypatch.setattr(finetune_problems, "sampled_beam", lambda *_: (full, snapshots))
    problem = beam_autoencoder(tmp_path, quick=True)
    assert {split: len(samples[0]) for split, samples in problem.data.items()} == {"train": 9, "validation": 3, "test": 3}
    z, _ = problem.data["test"]
    basis, _ = principal_directions(snapshots.split("train").poses(), 24, mass=full.mass)
    np.testing.assert_allclose(z, snapshots.split("test").displacements[0][::16] @ (full.mass @ basis), atol=1e-6 * float(z.abs().max()))
    assert problem.loss(nn.Identity(), "test") == 0 < problem.loss(problem.make(0), "test") < float("inf")


@pytest.mark.parametrize("budget", [Budget("seconds", 0.02), Budget("epochs", 4.0)], ids=str)
def test_a_comparison_runs_every_method_and_is_reported(tmp_path, budget):
    ticks = []
    training = compare(sines(), budget, (0, 1), Journal(tmp_path / "journal.json"), ticks.append)
    assert len(ticks) == races((0, 1))
    assert [row["method"] for row in training["methods"]] == [method.name for method in methods()]
    for row in training["methods"]:
        for curve in row["curves"]:
            assert curve[0]["epochs"] == 0 and curve[-1][budget.kind] >= budget.amount
            assert [p["seconds"] for p in curve] == sorted(p["seconds"] for p in curve)
            assert curve[0]["train"] == pytest.approx(training["methods"][0]["curves"][row["curves"].index(curve)][0]["train"])
    report = {"quick": True, "threads": 1, "absent": ["curvlinops"], "cost": [], "training": [training]}
    assert all(f"| {method.name} |" in table(report) for method in methods())
    assert "Not installed: curvlinops" in table(report)
    assert figure(report).startswith(b"\x89PNG")


@pytest.mark.parametrize("error", [FloatingPointError, torch.linalg.LinAlgError])
def test_a_rate_at_which_a_method_breaks_down_ends_its_race_and_is_not_chosen(error):
    class Broken(torch.optim.SGD):
        def step(self, *_):
            raise error("not finite")

    method = Method("broken", (1.0,), lambda net, rate, _: Broken(net.parameters(), rate))
    problem = sines()
    curve, best = race(problem, method, 1.0, Budget("epochs", 4.0), problem.make(0), 0)
    assert [np.isfinite(point["validation"]) for point in curve] == [True, False]
    assert problem.losses(best) == problem.losses(problem.make(0))


def test_an_interrupted_comparison_goes_on(tmp_path, monkeypatch):
    budget, ran = Budget("epochs", 2.0), []
    race = finetune.race

    def counted(*args):
        if len(ran) == 7:
            raise KeyboardInterrupt
        ran.append(args[1:3])
        return race(*args)

    monkeypatch.setattr(finetune, "race", counted)
    with pytest.raises(KeyboardInterrupt):
        compare(sines(), budget, (0,), Journal(tmp_path / "journal.json"), lambda _: None)
    first = list(ran)
    ran.clear()
    monkeypatch.setattr(finetune, "race", lambda *args: ran.append(args[1:3]) or race(*args))
    compare(sines(), budget, (0,), Journal(tmp_path / "journal.json"), lambda _: None)
    assert len(first) == 7 and len(first) + len(ran) == races((0,)) and not {(m.name, r) for m, r in first} & {(m.name, r) for m, r in ran}


def test_torchvision_is_asked_for_images_that_a_folder_lacks(tmp_path, monkeypatch):
    import types

    class Images:
        def __init__(self, folder, *, train=True, split="train", download):
            n = 12 if train and split == "train" else 6
            self.data, self.targets = np.full((n, 28, 28), n, np.uint8), list(range(n))
            assert folder == tmp_path and download

    class Svhn(Images):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.data, self.labels = np.zeros((len(self.targets), 3, 32, 32), np.uint8), self.targets

    fake = types.ModuleType("torchvision.datasets")
    fake.MNIST, fake.SVHN = Images, Svhn  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(__import__("sys").modules, "torchvision.datasets", fake)
    mnist, svhn = load_images(tmp_path, "mnist"), load_images(tmp_path, "svhn")
    assert mnist is not None and mnist["x_train"].shape == (12, 1, 28, 28) and mnist["x_test"][0, 0, 0, 0] == 6
    assert svhn is not None and svhn["x_train"].shape == (12, 3, 32, 32) and svhn["y_test"].tolist() == list(range(6))


def test_images_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    grey, colour = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 28, 28), (40, 32, 32, 3)))
    labels = rng.integers(0, 10, 40)
    for name, x in (("mnist", grey), ("cifar10-20k", colour)):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=labels, x_test=x[:10], y_test=labels[:10])
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": colour.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
    mnist, cifar, svhn = (load_images(tmp_path, name) for name in ("mnist", "cifar10", "svhn"))
    assert mnist is not None and cifar is not None and svhn is not None
    assert np.array_equal(mnist["x_train"][:, 0], grey)
    assert np.array_equal(cifar["x_train"].transpose(0, 2, 3, 1), colour) and np.array_equal(svhn["x_train"], cifar["x_train"])
    assert np.array_equal(svhn["y_train"], labels)
    found = image_problems(tmp_path, quick=True)
    assert [problem.name for problem in found] == [
        "autoencoder on mnist", "lenet5 on mnist", "vgg11 on cifar10", "vgg11 on svhn", "resnet20 on cifar10", "resnet20 on svhn",
    ]  # fmt: skip
    with torch.no_grad():
        assert all(np.isfinite(problem.loss(problem.make(0), "train")) for problem in found)


def test_a_folder_without_images_and_data_for_another_benchmark_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no mnist"):
        image_problems(tmp_path, quick=True)
    with pytest.raises(ValueError, match="--data is for finetune"):
        bench("derivatives", output=tmp_path, quick=True, data=tmp_path)
