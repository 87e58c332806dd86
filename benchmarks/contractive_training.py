"""What the contractive terms are worth (HoD-Net, Fig. 6 and Table 1): autoencoders with tied weights over a grid of both weights, each by every seed.

Each encoder has its contractive ratios measured on test images and is fine-tuned as the head of a classifier. Validation error, averaged over the
seeds, chooses each method's weights; test images choose nothing. Because a larger weight costs reconstruction, methods are also compared at
equal reconstruction error: a HoD autoencoder with what the Jacobian ones of the same seed have there, by interpolation between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import rotate
from torch import Tensor, nn
from torch.nn import functional as F

from hodsim.benchmarks.finetune_problems import load_images
from hodsim.benchmarks.journal import Journal
from hodsim.contractive import contractive_ratio
from hodsim.trainers.contractive import ContractiveTraining, train_contractive

DATA = ("mnist", "mnist-rot", "cifar-bw")
METHODS = ("vanilla", "Jacobian", "HoD")
RADII = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0)
RATIO_IMAGES = 1000
Images = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Budget:
    """Images for training, widths of the encoder, epochs, seeds, and the grid of weights: alphas alone, and each with each of betas.

    Half as many images validate, all that there are test."""

    samples: int
    widths: tuple[int, ...]
    epochs: int
    seeds: int
    alphas: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    betas: tuple[float, ...] = (1e-1, 1.0)
    memory_mib: float = 64.0

    def trainings(self) -> list[tuple[str, list[ContractiveTraining]]]:
        """A method and its trainings by seed, for every point of the grid."""
        base = ContractiveTraining(widths=self.widths, epochs=self.epochs, memory_mib=self.memory_mib)
        grid = [("vanilla", 0.0, 0.0), *(("Jacobian", a, 0.0) for a in self.alphas), *(("HoD", a, b) for a in self.alphas for b in self.betas)]
        return [(method, [replace(base, jacobian_weight=a, hessian_weight=b, seed=seed) for seed in range(self.seeds)]) for method, a, b in grid]


def load(folder: Path, name: str, count: int) -> Images | None:
    """train (count at most), validation (half as many) and test images (n, pixels) in [0, 1] and labels; None if not there."""
    raw = load_images(folder, "cifar10" if name == "cifar-bw" else "mnist")
    if raw is None:
        return None
    count = min(count, len(raw["x_train"]) * 2 // 3)
    rng = np.random.default_rng(0)

    def prepared(split: str, where: slice) -> tuple[Tensor, Tensor]:
        x = raw[f"x_{split}"][where].astype(np.float32) / 255
        x = np.tensordot(x, [0.299, 0.587, 0.114], axes=(1, 0)) if name == "cifar-bw" else x[:, 0]
        if name == "mnist-rot":
            x = np.stack([rotate(image, angle, reshape=False, order=1) for image, angle in zip(x, rng.uniform(0, 360, len(x)), strict=True)])
        return torch.from_numpy(x.astype(np.float32)).flatten(1), torch.from_numpy(raw[f"y_{split}"][where].astype(np.int64))

    return {"train": prepared("train", slice(count)), "validation": prepared("train", slice(count, count + count // 2)),
            "test": prepared("test", slice(None))}  # fmt: skip


def compare(name: str, images: Images, budget: Budget, finished: Journal, advance: Callable[[str], None]) -> dict[str, Any]:
    """Every training of the budget on one data set, and the weights that validation chooses; advance is told each training before it begins."""
    data = [name, hashlib.sha256(b"".join(x.numpy().tobytes() for x, _ in images.values())).hexdigest()[:16]]
    if torch.cuda.is_available():
        images = {split: (x.cuda(), y.cuda()) for split, (x, y) in images.items()}
    checkpoint = finished.path.with_name("training.safetensors")  # of the one training that is at work
    points = [{"method": method, "jacobian_weight": t.jacobian_weight, "hessian_weight": t.hessian_weight, "seeds": []}
              for method, (t, *_) in budget.trainings()]  # fmt: skip
    for seed in range(budget.seeds):
        for point, (method, trainings) in zip(points, budget.trainings(), strict=True):
            t = trainings[seed]
            advance(f"{name} {method} {t.jacobian_weight:g} {t.hessian_weight:g} seed {seed}")
            point["seeds"].append(finished.row({"data": data, **asdict(t)}, lambda t=t: evaluate(images, t, checkpoint)))
    chosen = {m: min((p for p in points if p["method"] == m), key=lambda p: mean(p, "validation_error")) for m in METHODS}
    return {"data": name, "samples": len(images["train"][0]), "points": points, "chosen": chosen, "matched": matched(points)}


def evaluate(images: Images, training: ContractiveTraining, checkpoint: Path) -> dict[str, Any]:
    """Train, then reconstruction error and contractive ratios on test images, and errors of the fine-tuned classifier [%]."""
    model, fitted = train_contractive(images["train"][0], images["validation"][0], training, checkpoint=checkpoint)
    if fitted.interrupted:
        raise KeyboardInterrupt
    x = images["test"][0]
    radii = torch.tensor(RADII, dtype=x.dtype, device=x.device)
    with torch.no_grad():
        reconstruction = float(F.mse_loss(model(x), x))
    ratios = contractive_ratio(model.encoder, x[:RATIO_IMAGES], radii, generator=torch.Generator().manual_seed(0))
    return {"reconstruction": reconstruction, "ratios": ratios.tolist(), **classify(model.encoder, images, training)}


def classify(encoder: nn.Module, images: Images, training: ContractiveTraining) -> dict[str, float]:
    """The encoder with a linear layer behind it, all of it trained on labels; errors [%] where validation is least."""
    x, y = images["train"]
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        net = nn.Sequential(deepcopy(encoder), nn.ELU(), nn.Linear(training.widths[-1], 10)).to(x.device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(training.seed)
    best = {"validation_error": float("inf"), "test_error": float("inf")}
    for _ in range(training.epochs):
        for indices in torch.randperm(len(x), generator=generator).split(training.batch):
            optimizer.zero_grad()
            F.cross_entropy(net(x[indices]), y[indices]).backward()
            optimizer.step()
        validation = _error(net, *images["validation"])
        if validation < best["validation_error"]:
            best = {"validation_error": validation, "test_error": _error(net, *images["test"])}
    return best


@torch.no_grad()
def _error(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return 100 * float((net(x).argmax(1) != y).float().mean())


def column(point: dict[str, Any], what: str) -> np.ndarray:
    """reconstruction, validation_error, test_error, or ratio, that at radius 1, of every seed, (seeds,)."""
    return np.array([seed["ratios"][RADII.index(1.0)] if what == "ratio" else seed[what] for seed in point["seeds"]])


def mean(point: dict[str, Any], what: str) -> float:
    return float(column(point, what).mean())


def matched(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each HoD point against the Jacobian ones at its own reconstruction error: by seed, its contractive ratio over theirs, and its test error
    less theirs. None where no Jacobian autoencoder reconstructs as badly or as well."""
    curve = [p for p in points if p["method"] != "HoD"]
    rows = []
    for point in (p for p in points if p["method"] == "HoD"):
        row: dict[str, Any] = {name: point[name] for name in ("jacobian_weight", "hessian_weight")}
        ratios, errors = [], []
        for seed in range(len(point["seeds"])):
            known = sorted((column(p, "reconstruction")[seed], column(p, "ratio")[seed], column(p, "test_error")[seed]) for p in curve)
            at, ratio, error = (column(point, what)[seed] for what in ("reconstruction", "ratio", "test_error"))
            x, *ys = np.array(known).T
            if x[0] <= at <= x[-1]:
                ratios.append(float(ratio / np.exp(np.interp(at, x, np.log(ys[0])))))
                errors.append(float(error - np.interp(at, x, ys[1])))
        whole = len(ratios) == len(point["seeds"])
        rows.append(row | {"ratio": ratios if whole else None, "test_error": errors if whole else None})
    return rows
