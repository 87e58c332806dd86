"""Train the HoD-Net autoencoder on snapshots, in the metric of the time step itself.

Poses become coordinates z (p,) in an M-orthonormal basis Phi of principal directions. A reconstruction error e = z^ - z of the pose u
costs

    |e|^2 / dt^2 + e^T Phi^T K(u) Phi e

which is twice the second-order growth, by an error Phi e, of the incremental potential that a backward Euler step minimises. The first
term alone would let small errors in stiff directions carry spurious elastic force, which spoils a simulation long before it shows in
the pose.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from hodsim.contractive import contractive_terms
from hodsim.fem import FullModel
from hodsim.snapshots import Snapshots
from hodsim.subspace import Autoencoder, Subspace, principal_directions
from hodsim.trainers.loop import Fit, Progress, fit


@dataclass(frozen=True)
class Training:
    """How to train: latent dimension r, widths of the hidden layers, number p of principal coordinates, every stride-th pose, and Adam's
    batch size, number of epochs and highest learning rate. jacobian_weight, hessian_weight: of the encoder's contractive terms
    (HoD-Net, eq. 11) relative to what PCA's encoder would have, sum_i 1/s_i^2 and sum_i 1/s_i^4 for its deviations s."""

    dim: int = 6
    hidden: tuple[int, ...] = (64, 64)
    coordinates: int = 24
    stride: int = 4
    batch: int = 256
    epochs: int = 500
    learning_rate: float = 3e-3
    seed: int = 0
    jacobian_weight: float = 0.0
    hessian_weight: float = 0.0


@dataclass(frozen=True)
class Data:
    """Coordinates z (n, p) of poses and the matrices A (n, p, p) of their error metric e^T A e."""

    coordinates: torch.Tensor
    metric: torch.Tensor

    def loss(self, model: Autoencoder, indices: torch.Tensor | slice) -> torch.Tensor:
        z = self.coordinates[indices]
        error = model(z) - z
        return torch.einsum("ni,nij,nj->n", error, self.metric[indices], error).mean()


def train_autoencoder(
    full: FullModel,
    snapshots: Snapshots,
    training: Training,
    *,
    checkpoint: Path,
    device: torch.device | None = None,
    progress: Progress | None = None,
    preparation: Callable[[int, int], None] | None = None,
) -> tuple[Subspace, Fit]:
    """The subspace of an autoencoder trained on the `train` split and chosen by the `validation` split.

    device defaults to CUDA where there is one. progress is called after each epoch, preparation while the metric is assembled.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split = {name: snapshots.split(name) for name in ("train", "validation")}
    poses = {name: part.displacements[:, :: training.stride].reshape(-1, full.n_dofs) for name, part in split.items()}
    basis, energies = principal_directions(split["train"].poses(), training.coordinates, mass=full.mass)
    total = sum(map(len, poses.values()))
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if preparation:
            preparation(count, total)

    data = {name: prepare(full, basis, part, snapshots.dt, device=device, tick=tick) for name, part in poses.items()}
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = Autoencoder(torch.from_numpy(np.sqrt(energies)), training.dim, training.hidden).to(device)
    inverse = torch.from_numpy(1 / energies[: training.dim])
    alpha, beta = training.jacobian_weight / float(inverse.sum()), training.hessian_weight / float((inverse**2).sum())

    def loss(indices: torch.Tensor) -> torch.Tensor:
        error = data["train"].loss(model, indices)
        if not (alpha or beta):
            return error
        return error + contractive_terms(model.encoder, data["train"].coordinates[indices], jacobian_weight=alpha, hessian_weight=beta).penalty

    fitted = fit(
        model,
        loss,
        samples=len(data["train"].coordinates),
        validate=lambda: float(data["validation"].loss(model, slice(None))),
        optimizer=torch.optim.Adam(model.parameters(), betas=(0.9, 0.99)),
        rate=lambda done: training.learning_rate * _warm_cosine(done),
        epochs=training.epochs,
        batch=training.batch,
        seed=training.seed,
        checkpoint=checkpoint,
        identity=identity(full, snapshots, training),
        progress=progress,
    )
    return model.fold(basis, mass=full.mass, name=f"HoD-Net {training.dim}"), fitted


def prepare(
    full: FullModel, basis: np.ndarray, poses: np.ndarray, dt: float, *, device: torch.device, tick: Callable[[], None]
) -> Data:
    """Coordinates and error metrics of poses (n, d), scaled so that the mean pose has length one in its own metric."""
    p = basis.shape[1]
    coordinates = poses @ (full.mass @ basis)
    metric = np.empty((len(poses), p, p))
    for i, pose in enumerate(poses):
        metric[i] = basis.T @ (full.stiffness(pose.astype(np.float64)) @ basis)
        metric[i].flat[:: p + 1] += 1 / dt**2
        tick()
    metric /= np.mean(np.sum(coordinates**2, axis=1)) / dt**2
    return Data(torch.from_numpy(coordinates.astype(np.float64)).to(device), torch.from_numpy(metric).to(device))


def identity(full: FullModel, snapshots: Snapshots, training: Training) -> str:
    """What a checkpoint must agree with to be continued."""
    cases = hashlib.sha256("".join(case.to_json() for case in snapshots.cases).encode()).hexdigest()[:16]
    settings = asdict(training)
    for unused in ("jacobian_weight", "hessian_weight"):  # models from before there were these weights stay as they are
        if not settings[unused]:
            del settings[unused]
    return json.dumps([full.fingerprint, snapshots.dt, snapshots.displacements.shape, cases, settings])


def _warm_cosine(done: float) -> float:
    """Learning rate factor: up over the first twentieth, then down half a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
