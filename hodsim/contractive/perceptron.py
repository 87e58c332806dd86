"""A perceptron taken apart, so that the terms of eq. 10 and their gradient can be written by hand.

z_l = W_l h_(l-1) + b_l,  h_l = phi_l(z_l). The terms depend on the weights themselves and, through phi' and phi'', on every z_l.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hodsim.contractive.directions import Directions
from hodsim.contractive.gram import Passed, Shared, Slopes, meet
from hodsim.contractive.lanes import Chain, Weights, squares
from hodsim.multicomplex import derivatives

ELEMENTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign,
    nn.Tanh, nn.Tanhshrink,
)  # fmt: skip


GRAM_MATRICES = 26  # of the widest layer's size that are at work at once in gram.py


@dataclass(frozen=True)
class Request:
    """The factors of both terms in what is differentiated (hessian None: the first term alone), the bytes of lanes at work, whether to
    differentiate at all."""

    jacobian: float
    hessian: float | None
    budget: int
    gradient: bool


@dataclass
class Gradient:
    """By every weight directly, and by phi' and phi'' of every activation, (B, m_l)."""

    weights: list[Tensor]
    slopes: list[Tensor]
    curvatures: list[Tensor]


@dataclass(frozen=True)
class ValuePath:
    """The values h_(l-1) in front of each linear layer with an activation, and [phi', phi'', ..] there, (B, m_l) each."""

    values: list[Tensor]
    towers: list[list[Tensor]]

    @property
    def slopes(self) -> list[Tensor]:
        return [tower[0] for tower in self.towers]

    @property
    def curvatures(self) -> list[Tensor]:
        return [tower[1] for tower in self.towers]

    def pull_back(self, weights: list[Tensor], gradient: Gradient) -> list[Tensor]:
        """The gradient by x, all weights and all biases."""
        by_weights = list(gradient.weights)
        by_biases = [w.new_zeros(w.shape[0]) for w in weights]
        h_bar: Tensor | None = None
        for l in reversed(range(len(self.towers))):
            tower = self.towers[l]
            z_bar = gradient.slopes[l] * tower[1]
            if gradient.curvatures:
                z_bar = z_bar + gradient.curvatures[l] * tower[2]
            if h_bar is not None:
                z_bar = z_bar + h_bar * tower[0]
            by_weights[l] = by_weights[l] + z_bar.T @ self.values[l]
            by_biases[l] = z_bar.sum(0)
            h_bar = z_bar @ weights[l]
        assert h_bar is not None
        return [h_bar, *by_weights, *by_biases]


Way = Callable[[list[Tensor], ValuePath, Directions, Request], tuple[Tensor, "Gradient | None"]]


@dataclass(frozen=True)
class Perceptron:
    """Linear layers with an activation behind each, or each but the last."""

    linear: tuple[nn.Linear, ...]
    activations: tuple[nn.Module, ...]

    @classmethod
    def of(cls, encoder: nn.Module) -> Perceptron | None:
        """The encoder taken apart, None where it is anything else. Flatten at its front and Identity anywhere change nothing."""
        layers = [layer for layer in _sequence(encoder) if not isinstance(layer, nn.Identity)]
        while layers and isinstance(layers[0], nn.Flatten):
            layers = layers[1:]
        linear, activations = layers[0::2], layers[1::2]
        if not activations or any(type(l) is not nn.Linear for l in linear) or any(type(a) not in ELEMENTWISE for a in activations):
            return None
        hooked = any(l._forward_hooks or l._forward_pre_hooks for l in layers)
        return None if hooked else cls(tuple(linear), tuple(activations))  # type: ignore[arg-type]

    @property
    def ends_linear(self) -> bool:
        return len(self.activations) < len(self.linear)

    def inputs(self, x: Tensor) -> list[Tensor | None]:
        """What the terms are differentiated by."""
        return [x, *(layer.weight for layer in self.linear), *(layer.bias for layer in self.linear)]

    def terms(self, x: Tensor, directions: Directions, request: Request, *, exact: bool) -> tuple[Tensor, list[Tensor]]:
        """Sums (1,) or (2,) of the terms over the samples x (B, N), and the gradient by `inputs`."""
        path = self._values(x, order=1 + (request.hessian is not None) + request.gradient)
        weights = [layer.weight.detach() for layer in self.linear]
        if len(self.activations) == 1:
            way = one_activation
        elif request.hessian is None and exact:
            way = self._cheapest(weights, path, request)
        else:
            way = self._forward
        sums, gradient = way(weights, path, directions, request)
        return sums, path.pull_back(weights, gradient) if gradient is not None else []

    def _values(self, x: Tensor, order: int) -> ValuePath:
        h, values, towers = x, [], []
        for layer, activation in zip(self.linear, self.activations, strict=False):
            values.append(h)
            z = nn.functional.linear(h, layer.weight, layer.bias)
            one = torch.ones_like(z)
            jet = derivatives(activation, z, *(one,) * order)
            h, *tower = (jet.part(*range(k)).expand_as(z) for k in range(order + 1))
            towers.append(tower)
        return ValuePath(values, towers)

    def _cheapest(self, weights: list[Tensor], path: ValuePath, request: Request) -> Way:
        """Of the ways to all of the first term: lanes from the inputs, lanes from the outputs, Gram matrices, by their multiply-adds."""
        first, *between, last = weights
        count, ending = len(path.values[0]), self.ends_linear
        ways: list[tuple[int, Way]] = [
            (count * first.shape[1] * _lane(between if ending else [*between, last], last if ending else None), self._forward),
            (count * last.shape[0] * _lane(between, first.T), self._backward),
        ]
        widest = max(w.shape[0] for w in weights[:-1])
        alone = first.device.type == "cpu"  # one sample at a time leaves a GPU idle
        if alone and ending and len(between) in (1, 2) and GRAM_MATRICES * widest**2 * first.element_size() <= request.budget:
            by_gram = _ByGram.of(path)
            ways.append((by_gram.multiply_adds(weights), by_gram.terms))
        return min(ways, key=lambda way: way[0])[1]

    def _forward(self, weights: list[Tensor], path: ValuePath, directions: Directions, request: Request) -> tuple[Tensor, Gradient | None]:
        curved = request.hessian is not None
        last = weights[-1] if self.ends_linear else None
        matrices = weights[1 : len(self.activations)]
        bends = torch.stack([derivative != 0 for derivative in path.towers[0][1:]]).any(0) if curved else None
        chain = Chain(directions.seeds(weights[0]), path.slopes, matrices, path.curvatures if curved else None, last, bends=bends)
        first, second = Weights(directions.jacobian, request.jacobian), Weights(directions.hessian, request.hessian or 0.0)
        sums, found = squares(chain, first, second if curved else None, budget=request.budget, gradient=request.gradient)
        if found is None:
            return sums, None
        by_weights = [directions.pull(found.seeds, weights[0]), *found.matrices, *([] if found.last is None else [found.last])]
        return sums, Gradient(by_weights, found.slopes, found.curvatures)

    def _backward(self, weights: list[Tensor], path: ValuePath, _: Directions, request: Request) -> tuple[Tensor, Gradient | None]:
        """The same number by the transposed product, Df^T = W_1^T D_1 W_2^T .. W_L^T."""
        rows = None if self.ends_linear else path.slopes[-1]
        slopes = path.slopes[: len(weights) - 1]
        chain = Chain(weights[-1], slopes[::-1], [w.T for w in weights[-2:0:-1]], None, weights[0].T, rows)
        one = Weights(torch.ones_like(weights[-1][:, 0]), request.jacobian)
        sums, found = squares(chain, one, None, budget=request.budget, gradient=request.gradient)
        if found is None or found.last is None:
            return sums, None
        by_weights = [found.last.T, *(w.T for w in found.matrices[::-1]), found.seeds]
        return sums, Gradient(by_weights, found.slopes[::-1] + ([] if found.rows is None else [found.rows]), [])


def _lane(between: list[Tensor], last: Tensor | None) -> int:
    """Multiply-adds of one lane there and back, see `Chain`."""
    end = 0 if last is None else min(2 * last.shape[1] ** 2, 3 * last.numel())
    return 3 * sum(w.numel() for w in between) + end


@dataclass(frozen=True)
class _ByGram:
    """Two or three activations in front of a linear layer, see gram.py: slopes of the outer ones, of the one in the middle (B, m)."""

    outer: list[Slopes]
    middle: Tensor

    @classmethod
    def of(cls, path: ValuePath) -> _ByGram:
        inner, middle, *outer = path.towers
        return cls([Slopes.of(tower) for tower in (inner, *outer)], middle[0])

    def multiply_adds(self, weights: list[Tensor]) -> int:
        grams = sum(2 * w.numel() * min(w.shape) for w in (weights[0], weights[-1]))
        return grams + sum(slopes.multiply_adds(self.middle.shape[1]) for slopes in self.outer)

    def terms(self, weights: list[Tensor], path: ValuePath, _: Directions, request: Request) -> tuple[Tensor, Gradient | None]:
        first, second, *between, last = weights
        right = Passed(first @ first.T, second.T.contiguous(), self.outer[0])
        gram = last.T @ last
        left = Passed(gram, between[0], self.outer[1]) if between else Shared(gram)
        sums, middle_bar = meet(left, right, self.middle, scale=request.jacobian, gradient=request.gradient)
        if not request.gradient:
            return sums, None
        passed = [right, left] if isinstance(left, Passed) else [right]
        for side in passed:
            side.pull_shared()
        by_weights = [_twice(right.gram_bar) @ first, right.matrix_bar.T, *(side.matrix_bar for side in passed[1:]), last @ _twice(left.gram_bar)]
        inner, *outer = (side.slopes_bar for side in passed)
        return sums, Gradient(by_weights, [inner, middle_bar, *outer], [])


def _twice(gram_bar: Tensor) -> Tensor:
    """W~ = W (G~ + G~^T) for G = W^T W."""
    return gram_bar + gram_bar.T


def one_activation(weights: list[Tensor], path: ValuePath, directions: Directions, request: Request) -> tuple[Tensor, Gradient | None]:
    """Closed form, no lanes: with S the columns of W_1, G = W_2^T W_2 (I without a second layer) and * elementwise,

        |Df|^2 = phi' . (G * S^T S) phi',    sum_i |d_ii f|^2 = phi'' . (G * (S*S)^T (S*S)) phi''."""
    S = directions.seeds(weights[0])
    last = weights[1] if len(weights) > 1 else None
    gram = torch.eye(S.shape[1], dtype=S.dtype, device=S.device) if last is None else last.T @ last
    powers = [(S, directions.jacobian, request.jacobian)]
    if request.hessian is not None:
        powers.append((S * S, directions.hessian, request.hessian))
    sums, tower_bars = [], []
    seeds_bar, gram_bar = torch.zeros_like(S), torch.zeros_like(gram)
    for kind, (power, lanes, scale) in enumerate(powers):
        f, weighted = path.towers[0][kind], lanes[:, None] * power  # (B, m), (K, m)
        inner = power.T @ weighted
        pulled = f @ (gram * inner)
        sums.append(torch.linalg.vecdot(f, pulled).sum(dtype=torch.float64))
        tower_bars.append([2 * scale * pulled])
        outer = scale * (f.T @ f)
        gram_bar += outer * inner
        power_bar = 2 * weighted @ (outer * gram)
        seeds_bar += power_bar if kind == 0 else 2 * S * power_bar
    if not request.gradient:
        return torch.stack(sums), None
    by_weights = [directions.pull(seeds_bar, weights[0]), *([] if last is None else [2 * last @ gram_bar])]
    return torch.stack(sums), Gradient(by_weights, tower_bars[0], tower_bars[1] if len(tower_bars) > 1 else [])


def _sequence(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential:
        return [layer for child in module for layer in _sequence(child)]
    return [module]
