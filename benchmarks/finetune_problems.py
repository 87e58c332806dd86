"""What `hodsim bench finetune` trains: the beam's autoencoder and four nets on images, with their data.

The convolutional nets have the layers of LeNet-5 (LeCun et al. 1998), VGG-11 (Simonyan & Zisserman 2014) and ResNet-20 (He et al. 2016);
the latter two with fewer channels, so that they finish on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim.benchmarks.simulation import sampled_beam
from hodsim.reduced import subspace_error
from hodsim.snapshots import bending_loads
from hodsim.subspace import Autoencoder, principal_directions
from hodsim.trainers.autoencoder import Every, prepare

SPLITS = ("train", "validation", "test")
Criterion = Callable[[Any], Any]
Closure = Callable[[], tuple[Any, Criterion]]


@dataclass(frozen=True)
class Factored:
    """How methods with Kronecker factors go: their batches, iterations of conjugate gradients a step, steps between factors, memory of earlier
    factors, decay of the first guess, and the change of a trusted damping. In full batch the factors of the moment and many iterations
    were best; in small batches those of some batches together and one iteration, which is their direction with the exact curvature along it."""

    batch: int
    iterations: int = 15
    every: int = 1
    memory: float = 0.0
    decay: float = 0.9
    adaptation: float = 0.5

    @classmethod
    def of_images(cls, net: str, count: int) -> Factored:
        if net == "autoencoder":  # whose wide factors take as long as several products
            return cls(count // 2, iterations=5, every=2, memory=0.5, decay=0.0, adaptation=0.95)
        return cls(count // 8, iterations=1, every=4, memory=0.8, decay=0.0, adaptation=0.95)


@dataclass(frozen=True)
class Problem:
    """A net to train. make: the net by seed. data: by split, tensors with the samples along the first axis. predict: the net's output on
    samples and the loss of such an output, a mean over them. batch: of first-order methods; large: of L-BFGS and of Hessian-free, which takes
    so many iterations. budgets: those of the second stage, as (kind, amount). simulate: the error of simulations with a trained net, where
    there is such a thing."""

    name: str
    make: Callable[[int], nn.Module]
    data: dict[str, tuple[Tensor, ...]]
    predict: Callable[[nn.Module, tuple[Tensor, ...]], tuple[Any, Criterion]]
    batch: int
    large: int
    factored: Factored
    iterations: int = 50
    first_epochs: int = 60
    budgets: tuple[tuple[str, float], ...] = ()
    simulate: Callable[[nn.Module], float] | None = None

    @property
    def samples(self) -> int:
        return len(self.data["train"][0])

    def closure(self, net: nn.Module, indices: Tensor) -> Closure:
        """What NewtonKrylov.step takes."""
        samples = tuple(t[indices] for t in self.data["train"]) if len(indices) < self.samples else self.data["train"]
        return lambda: self.predict(net, samples)

    def losses(self, net: nn.Module) -> dict[str, float]:
        """The mean over each split, in evaluation mode, batch norm with the statistics of all training samples: those that a training
        leaves lag behind the weights, the more the fewer its steps."""
        net = deepcopy(net)
        norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if norms:
            for module in norms:
                module.reset_running_stats()
                module.momentum = None  # a plain mean
            with torch.no_grad():
                self.predict(net.train(), self.data["train"])
        return {split: self.loss(net, split) for split in SPLITS}

    def loss(self, net: nn.Module, split: str) -> float:
        """The mean over a split, in evaluation mode."""
        was_training, total, count = net.training, 0.0, len(self.data[split][0])
        net.eval()
        with torch.no_grad():
            for start in range(0, count, 5000):
                samples = tuple(t[start : start + 5000] for t in self.data[split])
                output, criterion = self.predict(net, samples)
                total += float(criterion(output)) * len(samples[0]) / count
        net.train(was_training)
        return total


def seeded(build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build()

    return make


def beam_autoencoder(folder: Path, quick: bool) -> Problem:
    """The autoencoder of `hodsim train` and its loss: reconstruction of poses in the metric of the time step; float64, full batch.

    The output is the whitened error C^T (z^ - z) with C C^T the pose's metric. Snapshots are shared with `hodsim bench simulation`."""
    full, snapshots = sampled_beam(folder / "simulation" / ("quick" if quick else "full"), quick)
    basis, energies = principal_directions(snapshots.split("train").poses(), 24, mass=full.mass)
    data = {}
    for split in SPLITS:
        poses = Every(16, snapshots.split(split).displacements)
        prepared = prepare(full, basis, poses, snapshots.dt, device=torch.device("cpu"), tick=lambda: None)
        data[split] = (prepared.coordinates, prepared.roots)
    deviations = torch.from_numpy(np.sqrt(energies))

    def predict(net: nn.Module, samples: tuple[Tensor, ...]) -> tuple[Any, Criterion]:
        z, roots = samples
        return torch.bmm((net(z) - z)[:, None], roots)[:, 0], lambda error: error.square().sum(1).mean()

    def simulate(net: nn.Module) -> float:
        assert isinstance(net, Autoencoder)
        return subspace_error(full, snapshots.split("test"), bending_loads(full), net.fold(basis, mass=full.mass, name="raced"))

    make = seeded(lambda: Autoencoder(deviations, 6, (64, 64)))
    return Problem("beam", make, data, predict, batch=256, large=(everything := len(data["train"][0])),
                   factored=Factored(everything), first_epochs=20 if quick else 100,
                   budgets=(("seconds", 1.0),) if quick else (("seconds", 8.0), ("seconds", 32.0)), simulate=simulate)  # fmt: skip


def autoencoder(pixels: int = 784) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 128), nn.Tanh(), nn.Linear(128, 16), nn.Linear(16, 128), nn.Tanh(), nn.Linear(128, pixels))


def lenet5(channels: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.LazyLinear(120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def vgg11(width: int = 8) -> nn.Module:
    """width 64 is the published one."""
    layers: list[nn.Module] = []
    n_in = 3
    for n in (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool", 8, 8, "pool"):
        if n == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(n_in, int(n) * width, 3, padding=1), nn.BatchNorm2d(int(n) * width), nn.ReLU()]
            n_in = int(n) * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_in, 10))


class Residual(nn.Module):
    """x + two convolutions of it, with a 1 x 1 convolution where the shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out),
        )  # fmt: skip
        self.skip = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def resnet20(width: int = 4) -> nn.Module:
    """width 16 is the published one."""
    blocks, n_in = [], width
    for stage, n_out in enumerate((width, 2 * width, 4 * width)):
        for block in range(3):
            blocks.append(Residual(n_in, n_out, 2 if stage and block == 0 else 1))
            n_in = n_out
    first = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, 10))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "autoencoder": (autoencoder, (1, 28, 28)), "lenet5": (lenet5, (1, 28, 28)), "vgg11": (vgg11, (3, 32, 32)), "resnet20": (resnet20, (3, 32, 32)),
}  # fmt: skip
ON = {"autoencoder": ("mnist",), "lenet5": ("mnist",), "vgg11": ("cifar10", "svhn"), "resnet20": ("cifar10", "svhn")}


# images of each net, epochs and seconds of its second stage: what two cores do in an hour
SIZES = {"autoencoder": (2000, 60, 5.0), "lenet5": (1000, 30, 6.0), "vgg11": (500, 20, 6.0), "resnet20": (500, 15, 12.0)}


def image_problems(folder: Path, quick: bool) -> list[Problem]:
    """Each net on each of its data sets that the folder holds. Raises FileNotFoundError where it holds none."""
    found = {name: data for name in ("mnist", "cifar10", "svhn") if (data := load_images(folder, name)) is not None}
    if not found:
        raise FileNotFoundError(f"{folder} holds no mnist*.npz, cifar10*.npz or train_32x32.mat and test_32x32.mat (SVHN); "
                                "with torchvision installed (hodsim[images]) they are downloaded")  # fmt: skip
    return [_images(net, data, found[data], quick) for net, sets in ON.items() for data in sets if data in found]


def load_images(folder: Path, name: str) -> dict[str, np.ndarray] | None:
    """x (n, c, h, w) uint8 and y (n,) of both splits; None where the folder does not hold them and torchvision is not installed.

    MNIST and CIFAR-10 as Keras' .npz files, SVHN as its .mat files; else what torchvision has in the folder or downloads into it."""
    if name == "svhn":
        parts = {split: folder / f"{split}_32x32.mat" for split in ("train", "test")}
        if not all(file.exists() for file in parts.values()):
            return _from_torchvision(folder, name)
        raw = {split: loadmat(file) for split, file in parts.items()}
        data = {f"x_{split}": m["X"].transpose(3, 2, 0, 1) for split, m in raw.items()}
        return data | {f"y_{split}": m["y"].ravel() % 10 for split, m in raw.items()}
    file = next(iter(sorted(folder.glob(f"{name}*.npz"))), None)
    if file is None:
        return _from_torchvision(folder, name)
    with np.load(file, allow_pickle=False) as archive:
        data = {key: archive[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    for key in ("x_train", "x_test"):
        data[key] = data[key][:, None] if data[key].ndim == 3 else data[key].transpose(0, 3, 1, 2)
    return {key: value.ravel() if key.startswith("y") else value for key, value in data.items()}


def _from_torchvision(folder: Path, name: str) -> dict[str, np.ndarray] | None:
    try:
        datasets = import_module("torchvision.datasets")
    except ImportError:
        return None
    found = {}
    for split in ("train", "test"):
        if name == "svhn":
            part = datasets.SVHN(folder, split=split, download=True)
            x, y = part.data, part.labels  # (n, c, h, w)
        else:
            part = getattr(datasets, {"mnist": "MNIST", "cifar10": "CIFAR10"}[name])(folder, train=split == "train", download=True)
            x, y = np.asarray(part.data), part.targets
            x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
        found |= {f"x_{split}": np.asarray(x), f"y_{split}": np.asarray(y)}
    return found


def _images(net: str, data_name: str, raw: dict[str, np.ndarray], quick: bool) -> Problem:
    """The first training images, half as many for validation after them, and half as many test images."""
    count, epochs, seconds = (200, 2, 0.5) if quick else SIZES[net]
    held = count // 2

    def tensors(split: str, where: slice) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(np.ascontiguousarray(raw[f"x_{split}"][where])).float() / 255
        return x, torch.from_numpy(raw[f"y_{split}"][where].astype(np.int64))

    data = {
        "train": tensors("train", slice(count)),
        "validation": tensors("train", slice(count, count + held)),
        "test": tensors("test", slice(held)),
    }
    is_autoencoder = net == "autoencoder"

    def predict(module: nn.Module, samples: tuple[Tensor, ...]) -> tuple[Any, Criterion]:
        x, y = samples
        if is_autoencoder:
            return module(x), lambda output: F.mse_loss(output, x.flatten(1))
        return module(x), lambda output: F.cross_entropy(output, y)

    def build() -> nn.Module:
        module = NETS[net][0]()
        module(data["train"][0][:2])  # gives lazy layers their sizes
        return module

    return Problem(f"{net} on {data_name}", seeded(build), data, predict, batch=64, large=min(1000, count),
                   factored=Factored.of_images(net, count), iterations=12, first_epochs=epochs,
                   budgets=(("epochs", epochs), ("seconds", seconds)))  # fmt: skip
