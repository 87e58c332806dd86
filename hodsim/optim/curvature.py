"""The loss of one mini-batch as a function of the parameters, and its curvature: v -> H v or v -> G v by CSFD-BP (HoD-Net, eq. 9).

The point does not change while conjugate gradients run: it is visited once, and each product costs only what depends on v.

    H = D^2 f          exact Hessian, indefinite in general
    G = J^T H_L J      Gauss-Newton: J of the network's output, H_L of the loss by the output; positive where the loss is convex
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hodsim.multicomplex.linearised import Linearised

Closure = Callable[[], Any]  # the loss, or (output, loss of an output)
Product = Callable[[Tensor], Tensor]


class Batch:
    """f(w) on one mini-batch, w (n,) the trained parameters in a row.

    Every evaluation sees the same random numbers, and running statistics (batch norm) move once, by the first: H, g and the trial losses
    of a step belong to one function. close() ends its use."""

    def __init__(self, module: nn.Module, parameters: list[nn.Parameter], weight_decay: list[float], closure: Closure):
        self.module, self._parameters, self._closure = module, parameters, closure
        known = {id(p): name for name, p in module.named_parameters()}
        self.names = [known[id(p)] for p in parameters]
        self._decay = weight_decay
        self._random = torch.get_rng_state()
        self._random_cuda = torch.cuda.get_rng_state_all() if parameters[0].is_cuda else []
        owned = [(m, name, b) for m in module.modules() for name, b in m._buffers.items() if b is not None]
        self._buffers = owned  # owner, name and the tensor itself
        self._settled: list[Tensor] = []
        self.evaluations = self.products = 0

    def _repeat(self) -> None:
        torch.set_rng_state(self._random)
        if self._random_cuda:
            torch.cuda.set_rng_state_all(self._random_cuda)

    def _settle(self) -> None:
        """Running statistics as the first evaluation left them, in new tensors: a graph may hold the old ones."""
        if not self._settled:
            self._settled = [buffer.detach().clone() for _, _, buffer in self._buffers]
        for (owner, name, _), value in zip(self._buffers, self._settled, strict=True):
            owner._buffers[name] = value.clone()

    def close(self) -> None:
        """The module's own buffers again, moved once."""
        for (owner, name, buffer), value in zip(self._buffers, self._settled or [b for _, _, b in self._buffers], strict=True):
            owner._buffers[name] = buffer.copy_(value)

    def output(self, _: nn.Module | None = None) -> Any:
        """What the network puts out. Raises ValueError for a closure that returns the loss only."""
        self._repeat()
        result = self._closure()
        if not isinstance(result, tuple):
            raise ValueError("the closure returned the loss only; Gauss-Newton and Kronecker factors need (output, loss of an output)")
        return result[0]

    def criterion(self) -> Callable[[Any], Any]:
        """The loss as a function of the output."""
        with torch.no_grad():
            self._repeat()
            result = self._closure()
        self._settle()
        if not isinstance(result, tuple):
            raise ValueError("the closure returned the loss only; Gauss-Newton and Kronecker factors need (output, loss of an output)")
        return result[1]

    def _loss(self, _: nn.Module | None = None) -> Any:
        self._repeat()
        result = self._closure()
        return result[1](result[0]) if isinstance(result, tuple) else result

    def value(self) -> float:
        """f(w)."""
        with torch.no_grad():
            value = float(self._loss()) + self._decayed()
        self._settle()
        self.evaluations += 1
        return value

    def value_and_gradient(self) -> tuple[float, Tensor]:
        """f and its gradient (n,)."""
        with torch.enable_grad():
            loss = self._loss()
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise ValueError(f"the closure's loss is {tuple(loss.shape) if hasattr(loss, 'shape') else loss!r}; expected a scalar tensor")
            found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        self._settle()
        self.evaluations += 1
        gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, found, strict=True)]
        return float(loss.detach()) + self._decayed(), self._with_decay(flat(gradient), self.point())

    def linearised(self, *, gauss_newton: bool) -> tuple[float, Tensor, Product]:
        """f, gradient (n,) and v -> H v or v -> G v, for many v, from one pass."""
        self._repeat()
        at = Linearised(self._parameters, self._closure, gauss_newton=gauss_newton)
        self._settle()
        self.evaluations += 1

        def product(v: Tensor) -> Tensor:
            self.products += 1
            return self._with_decay(flat(at.product(self.pieces(v))), v)

        return float(at.value) + self._decayed(), self._with_decay(flat(at.gradient), self.point()), product

    def point(self) -> Tensor:
        """w (n,), a copy."""
        return flat([p.detach() for p in self._parameters])

    def move(self, w: Tensor) -> None:
        """Set the parameters to w (n,)."""
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self.pieces(w), strict=True):
                parameter.copy_(value)

    def pieces(self, v: Tensor) -> list[Tensor]:
        """v (n,) as tensors of the parameters' shapes."""
        parts = v.split([p.numel() for p in self._parameters])
        return [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]

    def named(self, v: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, self.pieces(v), strict=True))

    def _decayed(self) -> float:
        return sum(d / 2 * float((p.detach() ** 2).sum()) for p, d in zip(self._parameters, self._decay, strict=True) if d)

    def _with_decay(self, result: Tensor, v: Tensor) -> Tensor:
        if any(self._decay):
            result += flat([d * part for d, part in zip(self._decay, self.pieces(v), strict=True)])
        return result


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


class Curvature(Protocol):
    """Loss, gradient and products at a batch's point."""

    def at(self, batch: Batch) -> tuple[float, Tensor, Product]: ...


class Hessian:
    """The exact Hessian H."""

    def at(self, batch: Batch) -> tuple[float, Tensor, Product]:
        return batch.linearised(gauss_newton=False)


class GaussNewton:
    """The Gauss-Newton matrix G; the closure then returns (output, loss of an output)."""

    def at(self, batch: Batch) -> tuple[float, Tensor, Product]:
        return batch.linearised(gauss_newton=True)
