"""Train a physics-informed network by Levenberg-Marquardt, Newton-Krylov, L-BFGS or Adam for a number of seconds; interrupted work resumes.

A checkpoint is a safetensors file: weights, the best so far, the history, and what Levenberg-Marquardt carries from step to step; the
others start their memory anew on resuming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hodsim.optim import NewtonKrylov
from hodsim.pinn import LevenbergMarquardt, Problem, ResidualGaussNewton
from hodsim.trainers.checkpoint import load, save

SECONDS_BETWEEN_CHECKPOINTS = 10.0
ADAM_RATE = 1e-3
OUTGROWN = 2.0  # a problem's points have said what they can when the next ones see this many times its loss

Method = Literal["levenberg-marquardt", "newton-krylov", "l-bfgs", "adam"]
Progress = Callable[[float, float, float], None]  # seconds done, seconds in all, loss


@dataclass
class History:
    """By step: seconds of training spent, the loss, and from time to time (seconds, relative L2 error). level: how many coarser problems
    have been left."""

    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    error: list[tuple[float, float]] = field(default_factory=list)
    level: int = 0
    interrupted: bool = False

    @property
    def spent(self) -> float:
        return self.seconds[-1] if self.seconds else 0.0


class Training:
    """A network, the problem that it is on, and a method's step. Of second-order methods, which may rise on the way, the best is kept."""

    def __init__(self, network: nn.Module, problem: Problem, method: Method):
        self.network, self.problem = network, problem
        self.marquardt = LevenbergMarquardt(network, problem) if method == "levenberg-marquardt" else None
        self.lowest, self.best = float("inf"), _copy(network.state_dict())
        self._keeps_best = method in ("levenberg-marquardt", "newton-krylov")  # their losses are those of the weights that they leave
        self._advance = self._stepper(method)

    def turn_to(self, problem: Problem) -> None:
        """Go on with other points; what was best on the former ones is forgotten."""
        self.problem, self.lowest = problem, float("inf")
        if self.marquardt:
            self.marquardt.problem = problem

    def step(self) -> float:
        """One step; returns the loss."""
        loss = self._advance()
        if self._keeps_best and loss < self.lowest:
            self.lowest, self.best = loss, _copy(self.network.state_dict())
        return loss

    def finish(self) -> None:
        """Leave the best weights in the network."""
        if self.lowest < float("inf"):
            self.network.load_state_dict(self.best)

    def _stepper(self, method: Method) -> Callable[[], float]:
        if self.marquardt:
            return self.marquardt.step
        if method == "newton-krylov":
            newton = NewtonKrylov(self.network, memory=0.0, progress=0.0)

            def step() -> float:
                newton.curvature = ResidualGaussNewton(self.network, self.problem)  # type: ignore[assignment]
                return newton.step(lambda: self.problem.loss(self.network))

            return step
        if method == "l-bfgs":
            optimizer = torch.optim.LBFGS(self.network.parameters(), history_size=50, line_search_fn="strong_wolfe", tolerance_change=0)
        elif method == "adam":
            optimizer = torch.optim.Adam(self.network.parameters(), lr=ADAM_RATE)
        else:
            raise ValueError(f"method is {method!r}; expected 'levenberg-marquardt', 'newton-krylov', 'l-bfgs' or 'adam'")

        def closure() -> float:
            optimizer.zero_grad()
            loss = self.problem.loss(self.network)
            loss.backward()
            return float(loss.detach())

        return lambda: optimizer.step(closure)  # type: ignore[arg-type, return-value]


def train_pinn(
    network: nn.Module, problem: Problem, *, seconds: float, method: Method = "levenberg-marquardt", coarser: Sequence[Problem] = (),
    resample: int | None = None, checkpoint: Path | None = None, progress: Progress | None = None,
) -> History:
    """Train the network in place. A checkpoint of the same problem, method and shapes is resumed, another is started over.

    coarser: the same problem on fewer points, cheap to begin with. Each is left for the next when that sees OUTGROWN times its loss.
    resample: the conditions that have a sampler get new points every so many steps.
    The error is measured every fiftieth of the time, and its cost counts as time of the training. Ctrl-C ends early; the last checkpoint
    stays. Raises FloatingPointError when the loss is not finite, ValueError for an unknown method or a corrupt checkpoint."""
    levels = [*coarser, problem]
    history, training = History(), Training(network, levels[0], method)
    if checkpoint and checkpoint.exists():
        history = _resume(checkpoint, _identity(network, levels, method), training, levels)
    saved = time.monotonic()
    started = saved - history.spent
    try:
        while history.spent < seconds:
            loss = training.step()
            if not loss < float("inf"):
                raise FloatingPointError(f"the loss of {problem.name} is {loss} after {history.spent:.1f} s of {method}")
            history.loss.append(loss)
            if history.level + 1 < len(levels) and _outgrown(network, loss, levels[history.level + 1]):
                history.level += 1
                training.turn_to(levels[history.level])
            elif resample and len(history.loss) % resample == 0:
                training.turn_to(training.problem.resampled(network))
            history.seconds.append(time.monotonic() - started)
            if not history.error or history.spent - history.error[-1][0] > seconds / 50:
                history.error.append((history.spent, problem.error(network)))
            if progress:
                progress(min(history.spent, seconds), seconds, loss)
            if checkpoint and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                _save(checkpoint, _identity(network, levels, method), training, history)
                saved = time.monotonic()
    except KeyboardInterrupt:
        history.interrupted = True
    if checkpoint and not history.interrupted:  # within a step weights may be a trial's: the last checkpoint stays
        _save(checkpoint, _identity(network, levels, method), training, history)
    training.finish()
    history.error.append((history.spent, problem.error(network)))
    return history


@torch.no_grad()
def _outgrown(network: nn.Module, loss: float, finer: Problem) -> bool:
    return float(finer.loss(network)) > OUTGROWN * loss


def _copy(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _identity(network: nn.Module, levels: Sequence[Problem], method: str) -> str:
    shapes = [list(p.shape) for p in network.parameters()]
    return json.dumps([levels[-1].name, [[len(c.points) for c in problem.conditions] for problem in levels], method, shapes])


def _save(checkpoint: Path, identity: str, training: Training, history: History) -> None:
    tensors = {f"model.{name}": value for name, value in training.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in training.best.items()}
    state: dict[str, Any] = {"lowest": training.lowest}
    if training.marquardt:
        state["damping"] = training.marquardt.damping
        if training.marquardt.previous is not None:
            tensors["previous"] = training.marquardt.previous
    said = {"seconds": history.seconds, "loss": history.loss, "error": history.error, "level": history.level}
    save(checkpoint, identity, tensors, {"state": state, "history": said})


def _resume(checkpoint: Path, identity: str, training: Training, levels: Sequence[Problem]) -> History:
    """What the checkpoint knows of the training, which it restores; an empty history where it is of another training."""
    found = load(checkpoint, identity)
    if found is None:
        return History()
    tensors, said = found
    training.network.load_state_dict({name: tensors[f"model.{name}"] for name in training.best})
    training.best = {name: tensors[f"best.{name}"] for name in training.best}
    state, history = said["state"], History(**said["history"])
    training.turn_to(levels[history.level])
    training.lowest = state["lowest"]
    if training.marquardt:
        training.marquardt.damping, training.marquardt.previous = state["damping"], tensors.get("previous")
    return history
