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
from hodsim.snapshots import Snapshots, Trajectories
from hodsim.subspace import Autoencoder, Subspace, principal_directions
from hodsim.trainers.loop import Fit, Progress, fit, refine
from hodsim.trainers.team import ALONE, Team, team
from hodsim.trainers.terms import USUAL, Poses, Residuals, Scales, Weights, poses_of

STEPS = 4  # of Newton-Krylov in a round


@dataclass(frozen=True)
class Training:
    """How to train: latent dimension r, widths of the hidden layers, number p of principal coordinates, every stride-th pose; Adam's
    batch size, number of epochs and highest learning rate; the rounds of Newton-Krylov steps on all poses that may follow; and the weights
    of the terms of the loss. precision of Adam's part is float64, or mixed: float32 with the network's products in bfloat16, where the
    pose's is the only term."""

    dim: int = 6
    hidden: tuple[int, ...] = (64, 64)
    coordinates: int = 24
    stride: int = 4
    batch: int = 256
    epochs: int = 300
    learning_rate: float = 3e-3
    rounds: int = 8
    weights: Weights = USUAL
    seed: int = 0
    precision: str = "float64"

    @classmethod
    def of(cls, project: Project) -> Training:
        """The settings of a project. Raises ValueError while its latent dimension is still to be chosen."""
        s, how = project.settings, project.settings.training
        if s.subspace.latent == "auto":
            raise ValueError("subspace.latent is auto; expected a number, which `hodsim train` chooses")
        return cls(
            s.subspace.latent, s.subspace.hidden, s.subspace.coordinates, how.stride, how.batch, how.epochs, how.learning_rate,
            how.rounds, Weights(**how.terms.model_dump()), seed=s.seed, precision=how.precision,
        )  # fmt: skip


def loss(residuals: torch.Tensor) -> torch.Tensor:
    """The mean over poses of the squares of residuals (n, k)."""
    return residuals.square().sum(1).mean()


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
    total = sum(len(Every(training.stride, part.displacements)) for part in split.values()) // team.size
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if preparation:
            preparation(count, total)

    data = {
        name: prepare(
            full, basis, Every(training.stride, part.displacements), snapshots.dt, rates=Every(training.stride, part.velocities),
            weights=training.weights, device=device, tick=tick, team=team,
        )
        for name, part in split.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = Autoencoder(torch.from_numpy(np.sqrt(energies)), training.dim, training.hidden).to(device)
    residuals = Residuals(model, training.weights, Scales.of(data["train"]))
    if training.precision == "mixed":
        model, data = model.float(), {name: part.to(torch.float32) for name, part in data.items()}
    learner = DistributedDataParallel(residuals) if team.size > 1 else residuals
    known = identity(full, snapshots, training)

    def validate() -> float:
        return float(loss(residuals(*data["validation"])))

    fitted = fit(
        model,
        lambda indices: loss(learner(*data["train"].at(indices))),
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
        refined = _refine(residuals, data["train"], training, (lambda: judge(fold())) if judge else validate, second, known, refining)
    return fold(), fitted, refined


def _refine(
    residuals: Residuals,
    poses: Poses,
    training: Training,
    validate: Callable[[], float],
    checkpoint: Path,
    known: str,
    progress: Progress | None,
) -> Fit:
    """The second stage: Gauss-Newton on the residuals of all poses."""
    model = residuals.model
    optimizer = NewtonKrylov(
        model, curvature=GaussNewton(), preconditioner=KroneckerFactored(every=3), memory=0.0,
        damping=1e-4, adaptation=0.4, iterations=50,
    )  # fmt: skip

    def closure():
        return residuals(*poses), loss

    return refine(
        model, closure, validate=validate, optimizer=optimizer, rounds=training.rounds, steps=STEPS,
        checkpoint=checkpoint, identity=known, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True)
class Every:
    """Every stride-th row of each trajectory, read from its file as it is come to."""

    stride: int
    trajectories: Trajectories

    def __len__(self) -> int:
        cases, steps, _ = self.trajectories.shape
        return cases * len(range(0, steps, self.stride))

    def __iter__(self) -> Iterator[np.ndarray]:
        for source in self.trajectories.sources:
            yield from source.read(slice(None, None, self.stride))


def prepare(
    full: FullModel, basis: np.ndarray, poses: np.ndarray | Every, dt: float, *,
    rates: np.ndarray | Every | None = None, weights: Weights = USUAL,
    device: torch.device, tick: Callable[[], None], team: Team = ALONE,
) -> Poses:
    """What the terms of the loss need to know of poses (n, d) and, for those that ask for them, their velocities (n, d). Each process of a team
    computes its share."""
    n, p = len(poses), basis.shape[1]
    z, dz, K, weighted = np.zeros((n, p)), np.zeros((n, p)), np.zeros((n, p, p)), full.mass @ basis
    for i, pose in enumerate(poses):
        if i % team.size == team.rank:
            u = pose.astype(np.float64)
            z[i] = u @ weighted
            if weights.stiff:
                K[i] = basis.T @ (full.stiffness(u) @ basis)
            tick()
    if weights.moving:
        if rates is None:
            raise ValueError("the terms of the loss ask for velocities, and none are given; expected one for each pose")
        for i, rate in enumerate(rates):
            if i % team.size == team.rank:
                dz[i] = rate.astype(np.float64) @ weighted
    return poses_of(*(team.sum(torch.from_numpy(part).to(device)) for part in (z, dz, K)), dt=dt, elastic=weights.elastic)


def identity(full: FullModel, snapshots: Snapshots, training: Training) -> str:
    """What a checkpoint must agree with to be continued."""
    cases = hashlib.sha256("".join(case.to_json() for case in snapshots.cases).encode()).hexdigest()[:16]
    return json.dumps([full.fingerprint, snapshots.dt, snapshots.displacements.shape, cases, asdict(training)])


def _warm_cosine(done: float) -> float:
    """Learning rate factor: up over the first twentieth, then down half a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def checkpoint_file(project: Project, dim: int) -> Path:
    """Of the training at latent dimension r: each has its own, so that those that were tried are not trained again."""
    return project.output / f"checkpoint-{dim}.safetensors"


def main() -> None:
    """Train a project's autoencoder in the processes that torchrun has started; `hodsim train` makes the model file of the checkpoint."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("project", type=Path, help="project file or folder of results with snapshots")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of a setting")
    options = parser.parse_args()
    project = Project.open(options.project, options.set)
    snapshots, training = project.snapshots(), Training.of(project)
    with team() as (mates, device), project.at_work() if mates.rank == 0 else nullcontext():
        checkpoint = checkpoint_file(project, training.dim)
        _, fitted, _ = train_autoencoder(project.full, snapshots, training, checkpoint=checkpoint, device=device, team=mates)
        if mates.rank == 0:
            print(f"validation loss {fitted.best:.6e} after {fitted.epochs} epochs in {mates.size} processes, {fitted.seconds:.1f} s")
            print(f"Next: hodsim train {options.project}")


if __name__ == "__main__":
    main()
