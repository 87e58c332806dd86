"""Newton-Krylov training (HoD-Net, Algorithm 1), as it is read in the table below.

    line    here
    2, 3    the loop over mini-batches, and 47, 48, is the caller's: one `step` for each
    1, 46   the global gradient: set_global_gradient, or the running mean of the batches' gradients
    4       the batch's gradient, from the pass that all products of the step share
    5-8     skip a batch against the global gradient, where that is more than noise: |mean|^2 > its variance (Fig. 5)
    9-11    start from the last step, decayed, if the model is negative there
    12-27   `conjugate_gradients`, on C + lambda with a preconditioner; C = H (line 13) or G
    28-30   x <- (1 - cos(x, global gradient)) x where x would raise the global loss; refused if it is no descent of the batch's
    31-44   eta, which the paper leaves undefined, is the actual over the predicted decrease at gamma = 1; eta~ is an interval of it, 1/4 to
            3/4 (lines 33 to 36); gamma is halved (37) until the loss (42) has fallen by Armijo's share of its slope; a stretched step
            (lines 34 and 39 to 41) is the business of lambda, which eta moves: the loop of lines 35 to 43 as printed can cycle
    45      w <- w + gamma x

lambda is Levenberg and Marquardt's damping: times `adaptation` where eta > 3/4, divided by it where eta < 1/4, times 4 after a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from hodsim import checks
from hodsim.optim.conjugate_gradients import Solution, conjugate_gradients
from hodsim.optim.curvature import Batch, Closure, Curvature, Hessian, Product
from hodsim.optim.preconditioners import Identity, Preconditioner

ARMIJO = 1e-4  # share of the slope's promise that a step must keep
HALVINGS = 12
SHRINK_ON_TRUST, GROW_ON_DOUBT, GROW_ON_REFUSAL = 0.75, 0.25, 4.0  # of eta, of eta, of lambda


class Outcome(Enum):
    """What became of a step."""

    STEPPED = "stepped"
    SKIPPED = "skipped: the batch's gradient is against the global one"
    NO_DESCENT = "refused: the corrected step would raise the batch's loss"
    NO_DECREASE = "refused: no step along the direction lowers the loss"
    CONVERGED = "converged: the gradient is zero"


@dataclass(frozen=True)
class Step:
    """What the last step did: loss before and after [f(w), weight decay included], eta, gamma, lambda after it, iterations of conjugate
    gradients and why they ended, and its cost in products and in evaluations of the loss (search included)."""

    outcome: Outcome
    before: float
    after: float
    decrease_ratio: float = float("nan")
    step_size: float = 0.0
    damping: float = 0.0
    iterations: int = 0
    reason: str = ""
    products: int = 0
    evaluations: int = 0


class NewtonKrylov(torch.optim.Optimizer):
    """Newton's method by conjugate gradients for the loss of a module, with exact Hessian or Gauss-Newton products.

        optimizer = NewtonKrylov(net, curvature=GaussNewton(), preconditioner=KroneckerFactored())
        optimizer.step(lambda: (net(x), lambda output: F.mse_loss(output, y)))

    In small batches, whose curvature is mostly noise, one iteration with the factors of several batches gained most (`hodsim bench finetune`):

        NewtonKrylov(net, curvature=GaussNewton(), preconditioner=KroneckerFactored(every=4, memory=0.8), memory=0, iterations=1, decay=0,
                     damping=1e-4, adaptation=0.95)

    The closure of `step` evaluates the module and returns its loss, or (output, loss of an output); it does not call backward, and may be
    called with perturbed parameters: it consists of functions that hodsim.multicomplex knows.

    params: the trained parameters (default: those of the module that require a gradient) or groups of them, each with its weight_decay.
    damping: the first lambda; 0 stays 0 until a step is refused. adaptation: factor of lambda after a trusted step, in (0, 1).
    memory: decay of the running mean of gradients; 0 in full batch. decay: of the last step as first guess (zeta); 0 saves its product.
    tolerance, progress, iterations: when conjugate gradients end. seed: of the preconditioner's probes.
    All state is in `state`, as tensors, so that state_dict resumes exactly. `last` is the Step that was taken.

    Raises ValueError for parameters that are not the module's and for settings outside their range."""

    last: Step | None = None

    def __init__(
        self,
        module: nn.Module,
        params: Iterable[Any] | None = None,
        *,
        curvature: Curvature | None = None,
        preconditioner: Preconditioner | None = None,
        damping: float = 1e-2,
        adaptation: float = 2 / 3,
        memory: float = 0.9,
        decay: float = 0.9,
        tolerance: float = 1e-2,
        progress: float = 5e-4,
        iterations: int = 50,
        weight_decay: float = 0.0,
        seed: int = 0,
    ):
        checks.nonnegative("damping", damping)
        checks.inside("adaptation", adaptation, 0, 1)
        checks.nonnegative("tolerance", tolerance)
        checks.nonnegative("progress", progress)
        checks.below_one("memory", memory)
        checks.below_one("decay", decay)
        checks.at_least_one("iterations", iterations)
        self.module = module
        self.curvature, self.preconditioner = curvature or Hessian(), preconditioner or Identity()
        self.adaptation, self.memory, self.decay = adaptation, memory, decay
        self.tolerance, self.progress, self.iterations, self.seed = tolerance, progress, iterations, seed
        trained = [p for p in module.parameters() if p.requires_grad] if params is None else params
        super().__init__(trained, {"weight_decay": weight_decay})
        self.damping = damping

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        own = {id(p) for p in self.module.parameters()}
        group = self.param_groups[-1]
        strangers = [tuple(p.shape) for p in group["params"] if id(p) not in own]
        if strangers:
            raise ValueError(f"parameters of shapes {strangers} are not the {type(self.module).__name__}'s; expected its own")
        checks.nonnegative("weight_decay", group["weight_decay"])

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def _shared(self) -> dict[str, Any]:
        """State that belongs to no parameter; it lies with the first."""
        return self.state[self._parameters[0]]

    def _set(self, **values: float) -> None:
        """Keep numbers as state, in the parameters' dtype: that is how load_state_dict returns them."""
        self._shared.update({name: torch.tensor(float(value), dtype=self._parameters[0].dtype) for name, value in values.items()})

    @property
    def damping(self) -> float:
        """lambda."""
        return float(self._shared["damping"])

    @damping.setter
    def damping(self, value: float) -> None:
        self._set(damping=value)

    def set_global_gradient(self, closure: Closure) -> float:
        """Take the gradient of this closure, the loss of all data, as the global one (line 1); returns the loss."""
        batch = self._batch(closure)
        value, g = batch.value_and_gradient()
        batch.close()
        self._keep(batch, "mean_gradient", g)
        self._set(weight=1.0, square=float(g @ g))
        return value

    def step(self, closure: Closure) -> float:  # type: ignore[override]
        """One step on the closure's batch; returns the loss before it. What became of it is in `last`."""
        batch = self._batch(closure)
        try:
            return self._step(batch)
        finally:
            batch.close()

    def _step(self, batch: Batch) -> float:
        previous = self._kept(batch, "direction")
        start = None if previous is None else self.decay * previous  # line 9
        before, g, product = self.curvature.at(batch)  # line 4; line 10's product follows from the same pass
        if not (before < float("inf") and bool(torch.isfinite(g).all())):
            raise FloatingPointError(f"the loss is {before}, its gradient has norm {float(g.norm())}; expected finite numbers")
        count = int(self._shared.get("count", 0))
        self._set(count=count + 1)
        overall, is_signal = self._global(batch, g)  # lines 1, 46
        if float(g.norm()) == 0:
            return self._finish(batch, Step(Outcome.CONVERGED, before, before))
        if is_signal and float(g @ overall) < 0:  # line 5
            return self._finish(batch, Step(Outcome.SKIPPED, before, before))  # line 7
        found = self._solve(batch, g, start, product, count)
        x, cosine = found.x, float(found.x @ overall) / max(float(found.x.norm() * overall.norm()), torch.finfo(g.dtype).tiny)
        scale = 1 - cosine if cosine > 0 else 1.0  # lines 28 and 29
        slope = scale * float(g @ x)
        if not slope < 0:
            self._keep(batch, "direction", torch.zeros_like(x))
            return self._finish(batch, Step(Outcome.NO_DESCENT, before, before, iterations=found.iterations, reason=found.reason))
        predicted = slope + scale**2 * found.curvature / 2
        return self._search(batch, before, scale * x, slope, predicted, found)

    def _batch(self, closure: Closure) -> Batch:
        decays = [group["weight_decay"] for group in self.param_groups for _ in group["params"]]
        return Batch(self.module, self._parameters, decays, closure)

    def _keep(self, batch: Batch, key: str, v: Tensor) -> None:
        for parameter, piece in zip(self._parameters, batch.pieces(v), strict=True):
            self.state[parameter][key] = piece

    def _kept(self, batch: Batch, key: str) -> Tensor | None:
        if key not in self._shared:
            return None
        return torch.cat([self.state[p].get(key, torch.zeros_like(p)).reshape(-1) for p in self._parameters])

    def _global(self, batch: Batch, g: Tensor) -> tuple[Tensor, bool]:
        """The running mean of gradients, and whether its square exceeds the variance of such a mean."""
        keep, shared = self.memory, self._shared
        mean = self._kept(batch, "mean_gradient")
        weight, square = float(shared.get("weight", 0.0)), float(shared.get("square", 0.0))
        known = weight > 0 and keep > 0
        mean = keep * mean + (1 - keep) * g if mean is not None and keep else (1 - keep) * g
        weight, square = keep * weight + 1 - keep, keep * square + (1 - keep) * float(g @ g)
        if keep:
            self._keep(batch, "mean_gradient", mean)
            self._set(weight=weight, square=square)
        overall = mean / weight
        signal = float(overall @ overall)
        noise = (square / weight - signal) * (1 - keep) / (1 + keep)  # of an exponential mean of independent gradients
        return overall, known and signal > noise

    def _solve(self, batch: Batch, g: Tensor, start: Tensor | None, product: Product, count: int) -> Solution:
        damping = self.damping
        store = {name: self.state[p] for name, p in zip(batch.names, self._parameters, strict=True)}
        M = self.preconditioner
        if M.every and (count % M.every == 0 or "refreshed" not in self._shared):
            M.refresh(batch, product, store, torch.Generator().manual_seed(self.seed + count))
            self._set(refreshed=count)

        def solve(v: Tensor) -> Tensor:
            if not M.every:
                return v
            solved = M.solve(batch.named(v), store, damping)
            return torch.cat([solved[name].reshape(-1) for name in batch.names])

        def damped(v: Tensor) -> Tensor:
            return product(v).add_(v, alpha=damping)

        warm = None
        if start is not None and bool(start.any()):
            warm = start, damped(start)  # line 10
        return conjugate_gradients(
            damped, g, solve=solve, start=warm, damping=damping,
            tolerance=self.tolerance, progress=self.progress, most=self.iterations,
        )  # fmt: skip

    def _search(self, batch: Batch, before: float, x: Tensor, slope: float, predicted: float, found: Solution) -> float:
        """Lines 31 to 45."""
        w, gamma, ratio = batch.point(), 1.0, float("nan")  # line 31
        for halving in range(HALVINGS + 1):
            batch.move(w + gamma * x)
            after = batch.value()  # line 42
            if halving == 0:
                ratio = (after - before) / predicted  # line 32: eta
            if after <= before + ARMIJO * gamma * slope and after < before:  # line 35
                break
            gamma /= 2  # line 37
        else:
            batch.move(w)
            after, gamma = before, 0.0
        if gamma:  # line 45: the parameters are there
            self._keep(batch, "direction", x)
            if ratio > SHRINK_ON_TRUST:
                self.damping *= self.adaptation
            elif not ratio >= GROW_ON_DOUBT:
                self.damping /= self.adaptation
        else:
            self._keep(batch, "direction", torch.zeros_like(x))
            self.damping = GROW_ON_REFUSAL * max(self.damping, torch.finfo(x.dtype).eps * abs(found.scale))
        outcome = Outcome.STEPPED if gamma else Outcome.NO_DECREASE
        return self._finish(batch, Step(outcome, before, after, ratio, gamma, iterations=found.iterations, reason=found.reason))

    def _finish(self, batch: Batch, step: Step) -> float:
        self.last = Step(**{**vars(step), "damping": self.damping, "products": batch.products, "evaluations": batch.evaluations})
        return step.before
