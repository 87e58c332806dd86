"""The fine-tuning benchmark: its ways to a Hessian-vector product agree, its data is read as it was written, its report names all methods."""

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn
from torch.nn import functional as F

from hodsim.apps.bench import bench
from hodsim.benchmarks.finetune import compare, figure, methods, product_methods, table
from hodsim.benchmarks.finetune_problems import NETS, Problem, image_problems, load_images, seeded


@pytest.mark.parametrize("name", NETS)
def test_all_products_that_are_timed_agree(name):
    build, shape = NETS[name]
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    net = seeded(build)(0).double()
    y = net(x).detach().roll(1, 0)
    ways = product_methods(net, x, y, F.mse_loss)
    expected = torch.cat([h.reshape(-1) for h in ways["double backward"]()])
    found = torch.cat([h.reshape(-1) for h in ways["CSFD-BP"]().values()])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))


def test_a_comparison_runs_every_method_and_is_reported(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    parts = dict(zip(("train", "validation", "test"), ((part, torch.sin(part[:, :2])) for part in x.split(20)), strict=True))
    make = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double())
    problem = Problem("sines", make, parts, lambda net, s: (net(s[0]), lambda out: F.mse_loss(out, s[1])), batch=10, large=20)
    training = compare(problem, 0.02, (0, 1))
    assert [row["method"] for row in training["methods"]] == [method.name for method in methods()]
    for row in training["methods"]:
        for curve in row["curves"]:
            assert curve[0]["epochs"] == 0 and curve[-1]["epochs"] > 0
            assert [p["seconds"] for p in curve] == sorted(p["seconds"] for p in curve)
    report = {"quick": True, "threads": 1, "seconds": 0.02, "absent": ["curvlinops"], "cost": [], "training": [training]}
    assert all(f"| {method.name} |" in table(report) for method in methods())
    assert "Not installed: curvlinops" in table(report)
    assert figure(report).startswith(b"\x89PNG")


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
