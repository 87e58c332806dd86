"""The training loop: epochs of mini-batches, or steps of a second-order method on all data, with validation, checkpoints that resume
exactly, and the best model kept.

A checkpoint holds weights, the best weights so far, the optimiser's moments and the state of the generator that shuffles, so that an
interrupted training continues as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from hodsim.optim import NewtonKrylov
from hodsim.optim.curvature import Closure
from hodsim.trainers.checkpoint import load, save
from hodsim.trainers.team import ALONE, Team

SECONDS_BETWEEN_CHECKPOINTS = 10.0
PATIENCE = 2  # rounds of a refinement that may pass without lowering the validation loss

Progress = Callable[[int, int, float], None]  # epochs done, epochs in all, validation loss


@dataclass
class Fit:
    """What a training has reached: losses by epoch, seconds spent, and whether it was interrupted."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def epochs(self) -> int:
        return len(self.validation)

    @property
    def best(self) -> float:
        return min(self.validation, default=float("inf"))

    @property
    def since_best(self) -> int:
        """Epochs since the best one."""
        return self.epochs - 1 - self.validation.index(self.best) if self.validation else 0


def fit(
    model: nn.Module,
    loss: Callable[[torch.Tensor], torch.Tensor],
    *,
    samples: int,
    validate: Callable[[], float],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[float], float],
    epochs: int,
    batch: int,
    seed: int,
    checkpoint: Path,
    identity: str,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Fit:
    """Train model in place by epochs of mini-batches.

    loss maps the indices of a mini-batch (batch,) to a scalar; rate maps the fraction of the training that is done to the learning rate.
    The processes of a team go through the same batches, each through its share of every one. For the rest see `repeat`."""

    def epoch(fitted: Fit, generator: torch.Generator) -> float:
        total = 0.0
        order = torch.randperm(samples, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = rate(fitted.epochs / epochs)
        for indices in order.split(batch):
            optimizer.zero_grad(set_to_none=True)
            mine, factor = team.share(indices)
            value = factor * loss(mine)
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(indices) / team.size
        total = float(team.sum(torch.tensor(total, dtype=torch.float64, device=next(model.parameters()).device)))
        if not total < float("inf"):
            raise FloatingPointError(f"the loss of epoch {fitted.epochs + 1} is {total / samples}; try a smaller learning rate")
        return total / samples

    return repeat(model, epoch, validate, optimizer, epochs, seed, checkpoint, identity, progress, team=team)


def refine(
    model: nn.Module,
    closure: Closure,
    *,
    validate: Callable[[], float],
    optimizer: NewtonKrylov,
    rounds: int,
    steps: int,
    checkpoint: Path,
    identity: str,
    progress: Progress | None = None,
) -> Fit:
    """Train on in place by rounds of Newton-Krylov steps on the closure of all data, as `NewtonKrylov.step` takes it; see `repeat`.

    It ends early when PATIENCE rounds have not lowered the validation loss; the model stays as it was given if none does."""
    with torch.no_grad():
        known = validate()

    def advance(_fitted: Fit, _generator: torch.Generator) -> float:
        for _ in range(steps):
            optimizer.step(closure)
        assert optimizer.last is not None
        return optimizer.last.after

    return repeat(model, advance, validate, optimizer, rounds, 0, checkpoint, identity, progress, known, PATIENCE)


def repeat(
    model: nn.Module,
    epoch: Callable[[Fit, torch.Generator], float],
    validate: Callable[[], float],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    seed: int,
    checkpoint: Path,
    identity: str,
    progress: Progress | None,
    known: float = float("inf"),
    patience: int | None = None,
    team: Team = ALONE,
) -> Fit:
    """Repeat epoch, which trains the model in place and returns its training loss, and leave the weights of the best validation loss.

    validate returns the loss that chooses, known is that of the model as it is given. A checkpoint of the same identity (a description of
    data and settings) is resumed; one of another identity is started over. patience ends it that many epochs after the best. Ctrl-C ends
    it early with the best so far, `interrupted` being set. Of a team, the first writes. Raises FloatingPointError when the training loss is
    not finite, ValueError for a corrupt checkpoint."""
    generator = torch.Generator().manual_seed(seed)
    best = {name: value.detach().clone() for name, value in model.state_dict().items()}
    team.wait()  # for a checkpoint that is being written
    fitted = _resume(checkpoint, identity, model, optimizer, generator, best) or Fit()
    saved = started = time.monotonic() - fitted.seconds
    try:
        while fitted.epochs < epochs and not (patience and fitted.since_best >= patience):
            training = epoch(fitted, generator)
            with torch.no_grad():
                validation = validate()
            if validation < min(known, fitted.best):
                for name, weights in model.state_dict().items():
                    best[name].copy_(weights)
            fitted.training.append(training)
            fitted.validation.append(validation)
            fitted.seconds = time.monotonic() - started
            if progress:
                progress(fitted.epochs, epochs, fitted.best)
            if team.rank == 0 and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                _save(checkpoint, identity, fitted, model, optimizer, generator, best)
                saved = time.monotonic()
        if team.rank == 0:
            _save(checkpoint, identity, fitted, model, optimizer, generator, best)
    except KeyboardInterrupt:  # within an epoch: the checkpoint stays at the end of an earlier one, so that it resumes exactly
        fitted.interrupted = True
    model.load_state_dict(best)
    return fitted


def _save(
    checkpoint: Path,
    identity: str,
    fitted: Fit,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    best: dict[str, torch.Tensor],
) -> None:
    tensors = {"generator": generator.get_state()}
    tensors |= {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    save(checkpoint, identity, tensors, {"training": fitted.training, "validation": fitted.validation, "seconds": fitted.seconds})


def _resume(
    checkpoint: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    best: dict[str, torch.Tensor],
) -> Fit | None:
    """Restore everything from a checkpoint of the same identity; None when there is none. Raises ValueError if the file is corrupt."""
    found = load(checkpoint, identity)
    if found is None:
        return None
    tensors, history = found
    generator.set_state(tensors["generator"])
    model.load_state_dict({name: tensors[f"model.{name}"] for name in best})
    for name, value in best.items():
        value.copy_(tensors[f"best.{name}"])
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(state)
    return Fit(**history)
