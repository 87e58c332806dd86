"""Train the HoD-Net autoencoder on snapshots, in the metric of the time step itself.

Poses become coordinates z (p,) in an M-orthonormal basis Phi of principal directions. A reconstruction error e = z^ - z of the pose u
costs

    |e|^2 / dt^2 + e^T Phi^T K(u) Phi e

which is twice the second-order growth, by an error Phi e, of the incremental potential that a backward Euler step minimises. The first
term alone would let small errors in stiff directions carry spurious elastic force, which spoils a simulation long before it shows in
the pose.

Adam on mini-batches comes first. A second stage goes on from its plateau by Newton-Krylov steps on all poses (HoD-Net, Algorithm 1, with
Gauss-Newton products, Kronecker factors as preconditioner and Levenberg and Marquardt's damping). It is judged, every few steps, by what
the subspace is for: simulations of the validation load cases.
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

from hodsim.fem import FullModel
from hodsim.optim import GaussNewton, KroneckerFactored, NewtonKrylov
from hodsim.snapshots import Snapshots
from hodsim.subspace import Autoencoder, Subspace, principal_directions
from hodsim.trainers.loop import Fit, Progress, fit, refine

STEPS = 4  # of Newton-Krylov in a round


@dataclass(frozen=True)
class Training:
    """How to train: latent dimension r, widths of the hidden layers, number p of principal coordinates, every stride-th pose; Adam's
    batch size, number of epochs and highest learning rate; and the rounds of Newton-Krylov steps on all poses that may follow. elastic is
    False for the mass norm alone, to compare."""

    dim: int = 6
    hidden: tuple[int, ...] = (64, 64)
    coordinates: int = 24
    stride: int = 4
    batch: int = 256
    epochs: int = 300
    learning_rate: float = 3e-3
    rounds: int = 8
    elastic: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """Coordinates z (n, p) of poses and lower triangular roots C (n, p, p) of their error metric A = C C^T."""

    coordinates: torch.Tensor
    roots: torch.Tensor

    def residuals(self, model: Autoencoder, indices: torch.Tensor | slice) -> torch.Tensor:
        """C^T e (n, p), whose square is e^T A e."""
        z = self.coordinates[indices]
        return torch.bmm((model(z) - z)[:, None], self.roots[indices])[:, 0]

    def loss(self, model: Autoencoder, indices: torch.Tensor | slice) -> torch.Tensor:
        return self.residuals(model, indices).square().sum(1).mean()


def train_autoencoder(
    full: FullModel,
    snapshots: Snapshots,
    training: Training,
    *,
    checkpoint: Path,
    device: torch.device | None = None,
    judge: Callable[[Subspace], float] | None = None,
    progress: Progress | None = None,
    refining: Progress | None = None,
    preparation: Callable[[int, int], None] | None = None,
) -> tuple[Subspace, Fit, Fit]:
    """The subspace of an autoencoder trained on the `train` split and chosen by the `validation` split, and how the two stages went.

    device defaults to CUDA where there is one. judge gives the error of a subspace by which the second stage chooses, such as
    `rollout_error`; without it, that is the loss. progress is called after each epoch, refining after each round of the second stage,
    preparation while the metric is assembled. The second stage has a checkpoint of its own beside the first's.
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

    data = {name: prepare(full, basis, part, snapshots.dt, elastic=training.elastic, device=device, tick=tick) for name, part in poses.items()}
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = Autoencoder(torch.from_numpy(np.sqrt(energies)), training.dim, training.hidden).to(device)
    known = identity(full, snapshots, training)

    def validate() -> float:
        return float(data["validation"].loss(model, slice(None)))

    fitted = fit(
        model,
        lambda indices: data["train"].loss(model, indices),
        samples=len(data["train"].coordinates),
        validate=validate,
        optimizer=torch.optim.Adam(model.parameters(), betas=(0.9, 0.99)),
        rate=lambda done: training.learning_rate * _warm_cosine(done),
        epochs=training.epochs,
        batch=training.batch,
        seed=training.seed,
        checkpoint=checkpoint,
        identity=known,
        progress=progress,
    )
    def fold() -> Subspace:
        return model.fold(basis, mass=full.mass, name=f"HoD-Net {training.dim}")

    refined = Fit()
    if training.rounds and not fitted.interrupted:
        second = checkpoint.with_name(f"refined-{checkpoint.name}")
        refined = _refine(model, data["train"], training, (lambda: judge(fold())) if judge else validate, second, known, refining)
    return fold(), fitted, refined


def _refine(
    model: Autoencoder,
    data: Data,
    training: Training,
    validate: Callable[[], float],
    checkpoint: Path,
    known: str,
    progress: Progress | None,
) -> Fit:
    """The second stage: Gauss-Newton on the residuals of all poses."""
    optimizer = NewtonKrylov(
        model, curvature=GaussNewton(), preconditioner=KroneckerFactored(every=3), memory=0.0,
        damping=1e-4, adaptation=0.4, iterations=50,
    )  # fmt: skip

    def closure():
        return data.residuals(model, slice(None)), lambda residuals: residuals.square().sum(1).mean()

    return refine(
        model, closure, validate=validate, optimizer=optimizer, rounds=training.rounds, steps=STEPS,
        checkpoint=checkpoint, identity=known, progress=progress,
    )  # fmt: skip


def prepare(
    full: FullModel, basis: np.ndarray, poses: np.ndarray, dt: float, *, elastic: bool, device: torch.device, tick: Callable[[], None]
) -> Data:
    """Coordinates and roots of the error metrics of poses (n, d), scaled so that the mean pose has length one in its own metric."""
    p = basis.shape[1]
    coordinates = poses @ (full.mass @ basis)
    metric = np.zeros((len(poses), p, p))
    for i, pose in enumerate(poses):
        if elastic:
            metric[i] = basis.T @ (full.stiffness(pose.astype(np.float64)) @ basis)
        metric[i].flat[:: p + 1] += 1 / dt**2
        tick()
    metric /= np.mean(np.sum(coordinates**2, axis=1)) / dt**2
    return Data(torch.from_numpy(coordinates.astype(np.float64)).to(device), torch.from_numpy(np.linalg.cholesky(metric)).to(device))


def identity(full: FullModel, snapshots: Snapshots, training: Training) -> str:
    """What a checkpoint must agree with to be continued."""
    cases = hashlib.sha256("".join(case.to_json() for case in snapshots.cases).encode()).hexdigest()[:16]
    return json.dumps([full.fingerprint, snapshots.dt, snapshots.displacements.shape, cases, asdict(training)])


def _warm_cosine(done: float) -> float:
    """Learning rate factor: up over the first twentieth, then down half a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
