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

    hodsim train PROJECT                                                    in one process
    torchrun --nproc-per-node N -m hodsim.trainers.autoencoder PROJECT      Adam in several; `hodsim train` then goes on from there
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from hodsim.fem import FullModel
from hodsim.optim import GaussNewton, KroneckerFactored, NewtonKrylov
from hodsim.project import Project
from hodsim.snapshots import Poses, Snapshots
from hodsim.subspace import Autoencoder, Subspace, principal_directions
from hodsim.trainers.loop import Fit, Progress, fit, refine
from hodsim.trainers.team import ALONE, Team, team

STEPS = 4  # of Newton-Krylov in a round


@dataclass(frozen=True)
class Training:
    """How to train: latent dimension r, widths of the hidden layers, number p of principal coordinates, every stride-th pose; Adam's
    batch size, number of epochs and highest learning rate; and the rounds of Newton-Krylov steps on all poses that may follow. elastic is
    False for the mass norm alone, to compare. precision of Adam's part is float64, or mixed: float32 with the network's products in
    bfloat16."""

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
    precision: str = "float64"

    @classmethod
    def of(cls, project: Project) -> Training:
        s, how = project.settings, project.settings.training
        return cls(
            s.subspace.latent, s.subspace.hidden, s.subspace.coordinates, how.stride, how.batch, how.epochs, how.learning_rate,
            how.rounds, seed=s.seed, precision=how.precision,
        )  # fmt: skip


Reconstruction = Callable[[torch.Tensor], torch.Tensor]  # of coordinates z (n, p): an Autoencoder, or one in processes that share


@dataclass(frozen=True)
class Data:
    """Coordinates z (n, p) of poses and lower triangular roots C (n, p, p) of their error metric A = C C^T."""

    coordinates: torch.Tensor
    roots: torch.Tensor

    def to(self, dtype: torch.dtype) -> Data:
        return Data(self.coordinates.to(dtype), self.roots.to(dtype))

    def residuals(self, model: Reconstruction, indices: torch.Tensor | slice) -> torch.Tensor:
        """C^T e (n, p), whose square is e^T A e."""
        z = self.coordinates[indices]
        with torch.autocast(z.device.type, torch.bfloat16, enabled=z.dtype == torch.float32):
            reconstructed = model(z)
        return torch.bmm((reconstructed.to(z.dtype) - z)[:, None], self.roots[indices])[:, 0]

    def loss(self, model: Reconstruction, indices: torch.Tensor | slice) -> torch.Tensor:
        return self.residuals(model, indices).square().sum(1).mean()


def train_autoencoder(
    full: FullModel,
    snapshots: Snapshots,
    training: Training,
    *,
    checkpoint: Path,
    device: torch.device | None = None,
    judge: Callable[[Subspace], float] | None = None,
    team: Team = ALONE,
    progress: Progress | None = None,
    refining: Progress | None = None,
    preparation: Callable[[int, int], None] | None = None,
) -> tuple[Subspace, Fit, Fit]:
    """The subspace of an autoencoder trained on the `train` split and chosen by the `validation` split, and how the two stages went.

    device defaults to CUDA where there is one. judge gives the error of a subspace by which the second stage chooses, such as
    `rollout_error`; without it, that is the loss. progress is called after each epoch, refining after each round of the second stage,
    preparation while the metric is assembled. The second stage has a checkpoint of its own beside the first's; a team of several
    leaves it to one process that comes later. Poses are read from their files a case at a time.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split = {name: snapshots.split(name) for name in ("train", "validation")}
    basis, energies = principal_directions(split["train"].poses(), training.coordinates, mass=full.mass)
    poses = {name: Every(training.stride, part.poses()) for name, part in split.items()}
    total = sum(map(len, poses.values())) // team.size
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if preparation:
            preparation(count, total)

    data = {
        name: prepare(full, basis, part, snapshots.dt, elastic=training.elastic, device=device, team=team, tick=tick)
        for name, part in poses.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = Autoencoder(torch.from_numpy(np.sqrt(energies)), training.dim, training.hidden).to(device)
    if training.precision == "mixed":
        model, data = model.float(), {name: part.to(torch.float32) for name, part in data.items()}
    learner = DistributedDataParallel(model) if team.size > 1 else model
    known = identity(full, snapshots, training)

    def validate() -> float:
        return float(data["validation"].loss(model, slice(None)))

    fitted = fit(
        model,
        lambda indices: data["train"].loss(learner, indices),
        samples=len(data["train"].coordinates),
        validate=validate,
        optimizer=torch.optim.Adam(model.parameters(), betas=(0.9, 0.99)),
        rate=lambda done: training.learning_rate * _warm_cosine(done),
        epochs=training.epochs,
        batch=training.batch,
        seed=training.seed,
        checkpoint=checkpoint,
        identity=known,
        team=team,
        progress=progress,
    )
    model, data = model.double(), {name: part.to(torch.float64) for name, part in data.items()}

    def fold() -> Subspace:
        return model.fold(basis, mass=full.mass, name=f"HoD-Net {training.dim}")

    refined = Fit()
    if training.rounds and team.size == 1 and not fitted.interrupted:
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


@dataclass(frozen=True)
class Every:
    """Every stride-th pose of each trajectory, read from its file as it is come to."""

    stride: int
    poses: Poses

    def __len__(self) -> int:
        cases, steps, _ = self.poses.trajectories.shape
        return cases * len(range(0, steps, self.stride))

    def __iter__(self) -> Iterator[np.ndarray]:
        for source in self.poses.trajectories.sources:
            yield from source.read(slice(None, None, self.stride))


def prepare(
    full: FullModel, basis: np.ndarray, poses: np.ndarray | Every, dt: float, *,
    elastic: bool, device: torch.device, tick: Callable[[], None], team: Team = ALONE,
) -> Data:
    """Coordinates and roots of the error metrics of poses (n, d), scaled so that the mean pose has length one in its own metric. Each process
    of a team computes its share."""
    n, p = len(poses), basis.shape[1]
    coordinates, metric, weighted = np.zeros((n, p)), np.zeros((n, p, p)), full.mass @ basis
    for i, pose in enumerate(poses):
        if i % team.size == team.rank:
            u = pose.astype(np.float64)
            coordinates[i] = u @ weighted
            if elastic:
                metric[i] = basis.T @ (full.stiffness(u) @ basis)
            metric[i].flat[:: p + 1] += 1 / dt**2
            tick()
    z, A = (team.sum(torch.from_numpy(part).to(device)) for part in (coordinates, metric))
    return Data(z, torch.linalg.cholesky(A / (z.square().sum(1).mean() / dt**2)))


def identity(full: FullModel, snapshots: Snapshots, training: Training) -> str:
    """What a checkpoint must agree with to be continued."""
    cases = hashlib.sha256("".join(case.to_json() for case in snapshots.cases).encode()).hexdigest()[:16]
    return json.dumps([full.fingerprint, snapshots.dt, snapshots.displacements.shape, cases, asdict(training)])


def _warm_cosine(done: float) -> float:
    """Learning rate factor: up over the first twentieth, then down half a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def checkpoint_file(project: Project) -> Path:
    return project.output / "checkpoint.safetensors"


def main() -> None:
    """Train a project's autoencoder in the processes that torchrun has started; `hodsim train` makes the model file of the checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("project", type=Path, help="project file or folder of results with snapshots")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    options = parser.parse_args()
    project = Project.open(options.project, options.set)
    snapshots, training = project.snapshots(), Training.of(project)
    with team() as (mates, device), project.at_work() if mates.rank == 0 else nullcontext():
        _, fitted, _ = train_autoencoder(project.full, snapshots, training, checkpoint=checkpoint_file(project), device=device, team=mates)
        if mates.rank == 0:
            print(f"validation loss {fitted.best:.6e} after {fitted.epochs} epochs in {mates.size} processes, {fitted.seconds:.1f} s")
            print(f"Next: hodsim train {options.project}")


if __name__ == "__main__":
    main()
