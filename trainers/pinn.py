"""Train a physics-informed network by Levenberg-Marquardt, Newton-Krylov, L-BFGS or Adam for a number of seconds; interrupted work resumes.

A checkpoint is a safetensors file: weights, the damping and the history. The others start their memory anew on resuming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from hodsim.optim import NewtonKrylov
from hodsim.pinn import LevenbergMarquardt, Problem, ResidualGaussNewton
from hodsim.storage import write_atomically

SECONDS_BETWEEN_CHECKPOINTS = 10.0
ADAM_RATE = 1e-3

Method = Literal["levenberg-marquardt", "newton-krylov", "l-bfgs", "adam"]
Progress = Callable[[float, float, float], None]  # seconds done, seconds in all, loss


@dataclass
class History:
    """By step: seconds of training spent, the loss, and from time to time (seconds, relative L2 error)."""

    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    error: list[tuple[float, float]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def spent(self) -> float:
        return self.seconds[-1] if self.seconds else 0.0


def train_pinn(
    network: nn.Module, problem: Problem, *, seconds: float, method: Method = "levenberg-marquardt",
    checkpoint: Path | None = None, progress: Progress | None = None,
) -> History:
    """Train the network in place. A checkpoint of the same problem, method and shapes is resumed, another is started over.

    The error is measured every fiftieth of the time, and its cost counts as time of the training. Ctrl-C ends early and saves.
    Raises FloatingPointError when the loss is not finite, ValueError for an unknown method or a corrupt checkpoint."""
    history, damping = History(), None
    if checkpoint and checkpoint.exists():
        history, damping = _resume(checkpoint, _identity(network, problem, method), network)
    step = stepper(network, problem, method, damping)
    saved = time.monotonic()
    started = saved - history.spent
    try:
        while history.spent < seconds:
            loss = step()
            if not loss < float("inf"):
                raise FloatingPointError(f"the loss of {problem.name} is {loss} after {history.spent:.1f} s of {method}")
            history.loss.append(loss)
            history.seconds.append(time.monotonic() - started)
            if not history.error or history.spent - history.error[-1][0] > seconds / 50:
                history.error.append((history.spent, problem.error(network)))
            if progress:
                progress(min(history.spent, seconds), seconds, loss)
            if checkpoint and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                _save(checkpoint, network, problem, method, history, step)
                saved = time.monotonic()
        history.error.append((history.spent, problem.error(network)))
    except KeyboardInterrupt:
        history.interrupted = True
    if checkpoint and not history.interrupted:  # within a step weights may be a trial's: the last checkpoint stays
        _save(checkpoint, network, problem, method, history, step)
    return history


def stepper(network: nn.Module, problem: Problem, method: Method, damping: float | None = None) -> Callable[[], float]:
    """One step of a method: () -> the loss."""
    if method == "levenberg-marquardt":
        return (LevenbergMarquardt(network, problem) if damping is None else LevenbergMarquardt(network, problem, damping)).step
    if method == "newton-krylov":
        newton = NewtonKrylov(network, curvature=ResidualGaussNewton(network, problem), memory=0.0, progress=0.0)  # type: ignore[arg-type]
        return lambda: newton.step(lambda: problem.loss(network))
    if method == "l-bfgs":
        optimizer = torch.optim.LBFGS(network.parameters(), history_size=50, line_search_fn="strong_wolfe", tolerance_change=0)
    elif method == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=ADAM_RATE)
    else:
        raise ValueError(f"method is {method!r}; expected 'levenberg-marquardt', 'newton-krylov', 'l-bfgs' or 'adam'")

    def closure() -> float:
        optimizer.zero_grad()
        loss = problem.loss(network)
        loss.backward()
        return float(loss.detach())

    return lambda: optimizer.step(closure)  # type: ignore[arg-type, return-value]


def _identity(network: nn.Module, problem: Problem, method: str) -> str:
    shapes = [list(p.shape) for p in network.parameters()]
    return json.dumps([problem.name, [len(c.points) for c in problem.conditions], method, shapes])


def _save(checkpoint: Path, network: nn.Module, problem: Problem, method: str, history: History, step: Callable) -> None:
    damping = getattr(getattr(step, "__self__", None), "damping", None)
    metadata = {
        "identity": _identity(network, problem, method), "damping": json.dumps(damping),
        "history": json.dumps({"seconds": history.seconds, "loss": history.loss, "error": history.error}),
    }  # fmt: skip
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_atomically(checkpoint, serialise(weights, metadata))


def _resume(checkpoint: Path, identity: str, network: nn.Module) -> tuple[History, float | None]:
    try:
        with safe_open(checkpoint, "pt") as archive:
            metadata = archive.metadata() or {}
            if metadata.get("identity") != identity:
                return History(), None
            network.load_state_dict({name: archive.get_tensor(name) for name in archive.keys()})
    except SafetensorError as error:
        raise ValueError(f"checkpoint {checkpoint} is corrupt ({error}); delete it to start the training over") from None
    return History(**json.loads(metadata["history"])), json.loads(metadata["damping"])
