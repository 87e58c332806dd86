"""The optimisers that `hodsim bench finetune` compares, and a race of one of them from Adam's plateau.

An epoch is a gradient's worth of passes over the training data: a Hessian product counts as one of its batch, new Kronecker factors as
one, an evaluation of the loss as a third. The clock stands while losses are evaluated for the curve.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hodsim.benchmarks.finetune_problems import SPLITS, Closure, Problem
from hodsim.optim import GaussNewton, Hessian, KroneckerFactored, NewtonKrylov
from hodsim.optim.curvature import Curvature

POINTS = 16  # of a curve
PLATEAU_RATE, PLATEAU_CHECKS, PLATEAU_GAIN = 3e-3, 3, 0.02  # Adam's; checks without such a relative gain in validation end the first stage

Curve = list[dict[str, float]]


@dataclass(frozen=True)
class Budget:
    """So many seconds, or so many epochs."""

    kind: str  # "seconds" or "epochs"
    amount: float

    def __str__(self) -> str:
        return f"{self.amount:g} {self.kind}"


@dataclass(frozen=True)
class Method:
    """make: the optimiser of a net at a rate (of second-order methods, the first damping). cosine: the rate decays. batch: the
    problem's samples of a step."""

    name: str
    rates: tuple[float, ...]
    make: Callable[[nn.Module, float, Problem], torch.optim.Optimizer]
    cosine: bool = False
    batch: Callable[[Problem], int] = lambda problem: problem.batch


def methods() -> list[Method]:
    dampings = (1e-2, 1e-4, 1e-6)

    def large(problem: Problem) -> int:
        return problem.large

    def factored(problem: Problem) -> int:
        return problem.factored.batch

    found = [
        Method("Adam", (3e-4, 1e-3, 3e-3, 1e-2), _adam, cosine=True),
        Method("AdaGrad", (3e-3, 1e-2), lambda net, rate, _: torch.optim.Adagrad(net.parameters(), rate)),
        Method("L-BFGS", (0.3, 1.0), lambda net, rate, _: torch.optim.LBFGS(
            net.parameters(), rate, max_iter=10, history_size=50, line_search_fn="strong_wolfe"), batch=large),
        Method("Hessian-free", dampings, _hessian_free, batch=large),
        Method("Gauss-Newton + KFAC", dampings, _factored(GaussNewton()), batch=factored),
        Method("Algorithm 1 + KFAC", dampings, _factored(Hessian()), batch=factored),
    ]  # fmt: skip
    try:
        import pytorch_optimizer as library
    except ImportError:
        return found
    return [
        *found,
        Method("SOAP", (1e-3, 3e-3, 1e-2), lambda net, rate, _: library.SOAP(net.parameters(), lr=rate, weight_decay=0.0), cosine=True),
        Method("Shampoo", (1e-3, 3e-3, 1e-2), lambda net, rate, _: library.Shampoo(
            net.parameters(), lr=rate, preconditioning_compute_steps=10), cosine=True),
    ]  # fmt: skip


def package(name: str) -> Any:
    """None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _adam(net: nn.Module, rate: float, _: Problem | None = None) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99))


def _hessian_free(net: nn.Module, damping: float, problem: Problem) -> NewtonKrylov:
    return NewtonKrylov(net, curvature=GaussNewton(), damping=damping, adaptation=0.5, memory=0.0, iterations=problem.iterations)


def _factored(curvature: Curvature) -> Callable[[nn.Module, float, Problem], NewtonKrylov]:
    def make(net: nn.Module, damping: float, problem: Problem) -> NewtonKrylov:
        way = problem.factored
        M = KroneckerFactored(every=way.every, memory=way.memory)
        return NewtonKrylov(net, curvature=curvature, preconditioner=M, damping=damping, adaptation=way.adaptation, memory=0.0, decay=way.decay,
                            iterations=way.iterations)  # fmt: skip

    return make


def plateau(problem: Problem, seed: int) -> nn.Module:
    """A net that Adam has trained at a constant rate, until validation gains no more or the problem's first epochs are over."""
    net, best, checks = problem.make(seed), float("inf"), 0
    optimizer, batches = _adam(net, PLATEAU_RATE), shuffled(problem.samples, problem.batch, seed)
    each = max(1, problem.first_epochs // 20)
    for _ in range(0, problem.first_epochs, each):
        for _ in range(each * math.ceil(problem.samples / problem.batch)):
            step(optimizer, problem.closure(net, next(batches)))
        validation = problem.loss(net, "validation")
        checks = 0 if validation < (1 - PLATEAU_GAIN) * best else checks + 1
        best = min(best, validation)
        if checks == PLATEAU_CHECKS:
            break
    return net


def race(problem: Problem, method: Method, rate: float, budget: Budget, start: nn.Module, seed: int) -> tuple[Curve, nn.Module]:
    """The curve of a training from `start`, and the net where validation was least."""
    net = deepcopy(start)
    optimizer = method.make(net, rate, problem)
    spent = {"seconds": 0.0, "epochs": 0.0}
    curve: Curve = []
    best, least = net, float("inf")
    batches = shuffled(problem.samples, method.batch(problem), seed)
    while True:
        done = spent[budget.kind] / budget.amount
        if done >= len(curve) / POINTS:
            losses = problem.losses(net)
            curve.append({**spent, **losses})
            if losses["validation"] < least:
                best, least = deepcopy(net), losses["validation"]
            if done >= 1 or not math.isfinite(losses["train"]):
                break
        begun = clock()
        indices = next(batches)
        closure = problem.closure(net, indices)
        if method.cosine:
            for group in optimizer.param_groups:
                group["lr"] = rate * cosine(done)
        try:
            passes = step(optimizer, closure)
        except (FloatingPointError, torch.linalg.LinAlgError):  # at this rate it has left the finite numbers
            curve.append({**spent, **dict.fromkeys(SPLITS, math.inf)})
            break
        spent["seconds"] += clock() - begun
        spent["epochs"] += passes * len(indices) / problem.samples
    return [{key: value if math.isfinite(value) else float("inf") for key, value in point.items()} for point in curve], best


def clock() -> float:
    """Seconds: of this thread's own time where it is alone, so that other work on the machine does not count; else of the wall clock."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def cosine(done: float) -> float:
    """Up over the first twentieth, then down half a cosine, as `hodsim train` has it."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def step(optimizer: torch.optim.Optimizer, closure: Closure) -> float:
    """One step; returns the gradient's worth of passes over its batch."""
    if isinstance(optimizer, NewtonKrylov):
        optimizer.step(closure)
        assert optimizer.last is not None
        every = optimizer.preconditioner.every
        return 1 + optimizer.last.products + (1 / every if every else 0) + (optimizer.last.evaluations - 1) / 3
    calls = 0

    def evaluate() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        output, criterion = closure()
        loss = criterion(output)
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.step(evaluate)  # type: ignore[arg-type]
    else:
        evaluate()
        optimizer.step()
    return calls


def shuffled(samples: int, batch: int, seed: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(samples, generator=generator).split(batch)
