"""Hessian and Gauss-Newton products of a loss at one point, which is visited once (CSFD-BP at h = 0; HoD-Net, eq. 9).

Along a direction every number of the pass is x + x' eps, and every adjoint u + u' eps. For a step y = f(x)

    y' = Df x'        u_x' = Df^T u_y' + s,   s = D(Df^T u_y) x'

with the source s of the step's own curvature. x, u and Df do not depend on the direction: one pass and one backpropagation find them,
with the loss and its gradient. A product is the pass of the x', and one backpropagation of all sources at once through the first graph:

    H v = sum over all steps of (dx/dw)^T s
    G v = the same sum over the steps of the criterion alone, J^T H_L J v (Gauss-Newton)

Functions are seen as they are called (TorchFunctionMode); `steps.py` and `layer_steps.py` say what y' and s are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hodsim.multicomplex import layer_steps  # noqa: F401  (it fills the table of steps)
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.steps import Along, Outer, Step, out_of_place, step_of, tensors_in

Evaluation = Callable[[], Any]  # the loss, or (output, loss of an output)


class Linearised:
    """The loss at the parameters, its gradient by each of them, and products of its Hessian or Gauss-Newton matrix.

    evaluate calls the module and returns its loss, or (output, loss of an output), which gauss_newton needs. gradient=False spares what
    the gradient costs beyond the adjoints of the steps, and leaves it empty.
    Raises ValueError for a loss that is not a scalar of the parameters, NotImplementedError for a function without a rule."""

    def __init__(self, parameters: Sequence[Tensor], evaluate: Evaluation, *, gauss_newton: bool = False, gradient: bool = True):
        self.parameters = list(parameters)
        record = Record(self.parameters)
        linear = 0  # so many steps count without their curvature
        with torch.enable_grad(), record:
            loss = evaluate()
            if isinstance(loss, tuple):
                output, criterion = loss
                linear = len(record.steps) if gauss_newton else 0
                loss = criterion(output)
            elif gauss_newton:
                raise ValueError("the closure returned the loss only; Gauss-Newton and Kronecker factors need (output, loss of an output)")
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            shape = tuple(loss.shape) if hasattr(loss, "shape") else type(loss).__name__
            raise ValueError(f"the loss is {shape}; expected a scalar that depends on the parameters")
        self.value = loss.detach()
        curved = [y for step in record.steps[linear:] if step.curved for y in step.outputs]
        asked = self.parameters if gradient else []
        found = torch.autograd.grad(loss, [*asked, *curved], retain_graph=True, allow_unused=True) if asked or curved else ()
        self.gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(asked, found, strict=False)]
        adjoints = {id(y): u for y, u in zip(curved, found[len(asked) :], strict=True)}
        del found
        self._moves: list[_Move] | None = list(_moves(self.parameters, record.steps, linear, adjoints))  # None after the last product

    def product(self, v: Sequence[Tensor | None], *, last: bool = False) -> list[Tensor]:
        """H v or G v, by parameter, for a direction of each parameter (None: zero).

        last: let go on the way of what products share; a further one raises RuntimeError."""
        if self._moves is None:
            raise RuntimeError("the last product has been taken; expected last=False before it")
        changes: list[Tensor | None] = [d for d in v]
        places: list[Tensor] = []
        sources: list[Tensor] = []
        weights: list[tuple[int, Outer]] = []  # of parameters: added into their results
        with torch.no_grad():
            for move in self._taken() if last else self._kept():
                given = [None if place < 0 else changes[place] for place in move.inputs]
                if all(change is None for change in given):
                    changes += [None] * move.outputs
                    continue
                moved, bent = move.along(*given)
                changes += moved
                for x, place, s in zip(move.step.inputs, move.inputs, bent or (), strict=False):
                    if isinstance(s, Outer) and 0 <= place < len(self.parameters):
                        weights.append((place, s))
                    elif s is not None and x.requires_grad:
                        places.append(x)
                        sources.append(s.left @ s.right if isinstance(s, Outer) else s)
                for place in move.last:
                    changes[place] = None
            if places:
                found = list(torch.autograd.grad(places, self.parameters, sources, retain_graph=not last, allow_unused=True))
            else:
                found = [None] * len(self.parameters)
            for place, s in weights:
                known = found[place]
                found[place] = s.left @ s.right if known is None else known.addmm_(s.left, s.right)
        return [torch.zeros_like(p) if s is None else s for p, s in zip(self.parameters, found, strict=True)]

    def _kept(self) -> list[_Move]:
        """The moves in order, bound from now on."""
        for index, move in enumerate(self._moves):
            self._moves[index] = move.bound()
        return self._moves

    def _taken(self) -> Iterator[_Move]:
        """The same, each bound when its turn comes, and kept by nobody."""
        moves, self._moves = self._moves[::-1], None
        while moves:
            yield moves.pop().bound()


class _Move(NamedTuple):
    """A step with the adjoints of its outputs (None: no source is asked for) until it is bound, places of its inputs among the changes (-1:
    constant), number of outputs, and places that nobody reads later; bound, with what it does along directions."""

    step: Step
    adjoints: list[Tensor | None]
    inputs: list[int]
    outputs: int
    last: list[int]
    along: Along | None = None

    def bound(self) -> _Move:
        return self if self.along else self._replace(along=self.step.bind(*self.adjoints), adjoints=[])


def _moves(parameters: list[Tensor], steps: list[Step], linear: int, adjoints: dict[int, Tensor | None]):
    places = {id(p): place for place, p in enumerate(parameters)}
    inputs = []
    for step in steps:
        inputs.append([places.get(id(x), -1) for x in step.inputs])
        for y in step.outputs:
            places[id(y)] = len(places)
    read = {place: index for index, given in enumerate(inputs) for place in given}  # the last step that reads it
    for index, (step, given) in enumerate(zip(steps, inputs, strict=True)):
        known = [adjoints.pop(id(y), None) if index >= linear and step.curved else None for y in step.outputs]
        last = [place for place in set(given) if place >= len(parameters) and read[place] == index]
        yield _Move(step, known, given, len(step.outputs), last)


class Record(TorchFunctionMode):
    """Notes the steps of a pass that depend on some leaves. A function in place on one of their results is run out of place, and later
    uses of its argument are those of the result; it is refused where views of the same memory would not follow."""

    def __init__(self, leaves: list[Tensor]):
        super().__init__()
        self.steps: list[Step] = []
        self._known = {id(leaf) for leaf in leaves}
        self._viewed: set[int] = set()  # of these there are views
        self._fixed: dict[int, Tensor] = {}  # results that depend on other leaves only
        self._renewed: dict[int, tuple[Tensor, Tensor]] = {}  # by id: what a function changed in place, and into what

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if any(issubclass(kind, Multicomplex) for kind in types):  # a derivative within the loss: its own steps are noted
            with self:
                return Multicomplex.__torch_function__(function, types, args, kwargs)
        if self._renewed:
            args, kwargs = self._newest(args), self._newest(kwargs)
        if not torch.is_grad_enabled() or not any([self._depends(t) for t in tensors_in(args, kwargs)]):
            result = function(*args, **kwargs)
            self._fixed |= {id(t): t for t in tensors_in(result) if t.grad_fn is not None}
            return result
        pure, changed = out_of_place(function, kwargs)
        if changed and (id(args[0]) in self._viewed or (args[0]._base is not None and id(args[0]._base) in self._known)):
            raise NotImplementedError(f"{function.__name__} in place on a tensor that shares memory with another; expected it out of place")
        result, step = step_of(pure, args, {name: value for name, value in kwargs.items() if name != "inplace"} if changed else kwargs)
        if step is not None:
            self.steps.append(step)
            self._known.update(id(y) for y in step.outputs)
            self._viewed.update(id(y._base) for y in step.outputs if y._base is not None)
        if changed:
            self._renewed[id(args[0])] = (args[0], result)
        return result

    def _newest(self, value):
        if isinstance(value, Tensor):
            while id(value) in self._renewed:
                value = self._renewed[id(value)][1]
            return value
        if isinstance(value, dict):
            return {name: self._newest(item) for name, item in value.items()}
        return type(value)(map(self._newest, value)) if type(value) in (tuple, list) else value

    def _depends(self, t: Tensor) -> bool:
        if id(t) in self._known:
            return True
        if t.grad_fn is not None and id(t) not in self._fixed:
            raise NotImplementedError(f"a tensor of shape {tuple(t.shape)} came from {type(t.grad_fn).__name__} unseen; expected the loss to be "
                                      "computed from the parameters within the closure, by functions of torch")
        return False
