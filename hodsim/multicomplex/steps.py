"""What a torch function does to a change x' of its inputs, and how its own curvature bends the gradient: the steps of `linearised.py`.

    linear map     y' = L x'                        no source
    function       y' = f'(x) x'                    s = f''(x) u x'
    product        y' = x' * w + x * w'             s_x = u *^T w',  s_w = u *^T x'
    anything else  y' by the rules of the algebra   s by backpropagation of u . y' through that one step

u is the adjoint of y. Layers and losses with closed forms are in `layer_steps.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.layout import Unit, layout
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.rules import apply, has_rule, tower_of


class Outer(NamedTuple):
    """The source left @ right, not formed yet: a layer's weight has room for it in its result."""

    left: Tensor
    right: Tensor


Change = Tensor | None  # None stands for zero
Along = Callable[..., tuple[tuple[Change, ...], tuple[Change | Outer, ...] | None]]  # changes of inputs -> those of outputs, sources
aten = torch.ops.aten


class Step(NamedTuple):
    """outputs = function of inputs. bind: adjoints of the outputs (None: no source is asked for) -> what changes do."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bind: Callable[..., Along]
    curved: bool = True
    several: bool = False  # the function returns a tuple


_STEPS: dict[Callable, Callable[..., Step]] = {}


def step(*functions: Callable) -> Callable:
    """Register how a function runs and what its step is; the maker takes the function and its arguments, and may return NotImplemented."""

    def register(maker):
        for function in functions:
            method = getattr(Tensor, getattr(function, "__name__", ""), None)
            _STEPS.update(dict.fromkeys({function, method} - {None}, maker))
        return maker

    return register


def step_of(function: Callable, args: tuple, kwargs: dict) -> tuple[Any, Step | None]:
    """Run a function; its result and its step, None where the result does not depend on what requires a gradient."""
    made = NotImplemented
    if function in _STEPS:
        made = _STEPS[function](function, *args, **kwargs)
    elif (tower := tower_of(function, args, kwargs)) is not None:
        made = _function(function, tower, args, kwargs)
    if made is NotImplemented:
        return _anything(function, args, kwargs)
    y = made.outputs[0]
    if made.several:
        return made.outputs, made
    return y, None if y is made.inputs[0] or not y.requires_grad else made  # a view of everything may be the tensor itself


def tensors_in(*values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(*value)
        elif isinstance(value, dict):
            yield from tensors_in(*value.values())


_IN_PLACE = frozenset(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "pow", "matmul"))


def out_of_place(function: Callable, kwargs: dict) -> tuple[Callable, bool]:
    """The same function out of place, and whether it was in place."""
    name = getattr(function, "__name__", "")
    if kwargs.get("inplace"):
        return function, True
    if name in _IN_PLACE:
        plain = name.replace("__i", "__")
    elif name.endswith("_") and not name.endswith("__"):
        plain = name[:-1]
    else:
        return function, False
    found = getattr(Tensor, plain, None) or getattr(torch, plain, None)
    if found is None or name in ("requires_grad_", "detach_", "copy_"):
        raise NotImplementedError(f"{name} on a result of the pass; expected the function out of place")
    return found, True


# -- linear maps and functions -----------------------------------------------------------------------------------------------


@step(torch.flatten, torch.reshape, Tensor.view, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, torch.sum, torch.mean,
      torch.neg, Tensor.contiguous, Tensor.expand, Tensor.__getitem__, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d,
      F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.pad, torch.clone, Tensor.to, Tensor.double, Tensor.float)  # fmt: skip
def _linear(function, x, *args, **kwargs):
    if any(t.requires_grad for t in tensors_in(args, kwargs)):
        return NotImplemented
    y = function(x, *args, **kwargs)
    return Step((x,), (y,), lambda u: lambda dx: ((function(dx, *args, **kwargs),), None), curved=False)


# functions whose slope torch has as a kernel of the value: f'(x) x', and f'' / f'; both by (.., y = f(x))
_BY_VALUE = {
    torch.tanh: (aten.tanh_backward, lambda y: -2 * y),
    torch.sigmoid: (aten.sigmoid_backward, lambda y: 1 - 2 * y),
    torch.relu: (lambda dx, y: aten.threshold_backward(dx, y, 0), None),
}  # fmt: skip
_BY_VALUE |= {Tensor.tanh: _BY_VALUE[torch.tanh], Tensor.sigmoid: _BY_VALUE[torch.sigmoid], F.relu: _BY_VALUE[torch.relu]}


@step(*_BY_VALUE)
def _function_by_value(function, input, **kwargs):
    slope, ratio = _BY_VALUE[function]
    y = function(input, **kwargs)
    value = y.detach()

    def bind(u):
        bend = None if u is None or ratio is None else ratio(value).mul_(u)

        def along(dx):
            dy = slope(dx, value)
            return (dy,), None if bend is None else (bend * dy,)

        return along

    return Step((input,), (y,), bind, curved=ratio is not None)


@step(torch.split, torch.split_with_sizes, torch.chunk, torch.unbind)
def _pieces(function, x, *args, **kwargs):
    return Step((x,), tuple(function(x, *args, **kwargs)), lambda *u: lambda dx: (tuple(function(dx, *args, **kwargs)), None), False, True)


def _function(function, tower, args, kwargs):
    x, y = args[0], function(*args, **kwargs)

    def bind(u):
        with torch.no_grad():
            _, *slopes = tower(x.detach(), 1 if u is None else 2)
            slope = slopes[0] if slopes else None
            bend = slopes[1] * u if len(slopes) > 1 else None

        def along(dx):
            return (None if slope is None else slope * dx,), None if bend is None else (bend * dx,)

        return along

    return Step((x,), (y,), bind)


@step(torch.add, torch.sub, Tensor.__add__, Tensor.__radd__, Tensor.__sub__, Tensor.__rsub__)
def _sum(function, x, w, *, alpha=1):
    if not isinstance(x, Tensor):
        return NotImplemented
    y = function(x, w) if alpha == 1 else function(x, w, alpha=alpha)
    name = function.__name__
    signs = (-1, 1) if "rsub" in name else (1, -alpha) if "sub" in name else (1, alpha)

    def along(*changes):
        total = None
        for change, sign in zip(changes, signs, strict=False):
            if change is not None:
                change = change if sign == 1 else change * sign
                total = change if total is None else total + change
        return (total if total.shape == y.shape else total.expand_as(y),), None

    return Step(tuple(t for t in (x, w) if isinstance(t, Tensor)), (y,), lambda u: along, curved=False)


@step(torch.mul, torch.matmul, torch.bmm, Tensor.__mul__, Tensor.__rmul__, Tensor.__matmul__)
def _product(function, x, w):
    """Elementwise, or of matrices (both at least that)."""
    if not isinstance(x, Tensor):
        return NotImplemented
    y = function(x, w)
    if not isinstance(w, Tensor):
        return Step((x,), (y,), lambda u: lambda dx: ((dx * w,), None), curved=False)
    elementwise = "mul" in function.__name__ and "matmul" not in function.__name__
    if not elementwise and min(x.dim(), w.dim()) < 2:
        return NotImplemented
    X, W = x.detach(), w.detach()

    def bind(u):
        def along(dx, dw):
            dy = None if dx is None else function(dx, W)
            if dw is not None:
                dy = function(X, dw) if dy is None else dy.add_(function(X, dw))
            if u is None:
                return (dy,), None
            s_x = (u * dw if elementwise else u @ dw.mT).sum_to_size(x.shape) if x.requires_grad and dw is not None else None
            s_w = (u * dx if elementwise else dx.mT @ u).sum_to_size(w.shape) if w.requires_grad and dx is not None else None
            return (dy,), (s_x, s_w)

        return along

    return Step((x, w), (y,), bind, curved=x.requires_grad and w.requires_grad)


@step(torch.cat, torch.concat)
def _joined(function, tensors, dim=0):
    y = function(tensors, dim)

    def along(*changes):
        return (function([torch.zeros_like(t) if c is None else c for t, c in zip(tensors, changes, strict=True)], dim),), None

    return Step(tuple(tensors), (y,), lambda u: along, curved=False)


# -- anything else -----------------------------------------------------------------------------------------------------------


def _anything(function: Callable, args: tuple, kwargs: dict) -> tuple[Any, Step | None]:
    """By the rule of the function: the step's own pass x + x' eps, and backpropagation of u . y' through it."""
    inputs = tuple({id(t): t for t in tensors_in(args, kwargs) if t.requires_grad}.values())
    if function is Tensor.__setitem__:
        raise NotImplementedError("an entry of a result of the pass is set; expected torch.where, cat or stack, which return a new tensor")
    result = function(*args, **kwargs)
    outputs = tuple(t for t in tensors_in(result) if t.requires_grad)
    if not outputs:
        return result, None

    def bind(*adjoints):
        asked = any(u is not None for u in adjoints)

        def along(*changes):
            points = [x.detach().requires_grad_(asked) for x in inputs]
            with torch.set_grad_enabled(asked):
                rows = [torch.stack([x, torch.zeros_like(x) if c is None else c]) for x, c in zip(points, changes, strict=True)]
                numbers = {id(x): Multicomplex(r, layout((Unit(0),)), 1) for x, r in zip(inputs, rows, strict=True)}
                moved = list(_numbers_in(_ruled(function, _replaced(args, numbers), _replaced(kwargs, numbers))))
                parts = [z.part(0) for z in moved]
                total = sum((u * d).sum() for u, d in zip(adjoints, parts, strict=True) if u is not None and d.requires_grad)
            changed = tuple(d.detach() for d in parts)
            return changed, torch.autograd.grad(total, points, allow_unused=True) if isinstance(total, Tensor) else None

        return along

    return result, Step(inputs, outputs, bind)


def _ruled(function: Callable, args: tuple, kwargs: dict) -> Any:
    """The function of numbers. Operators and attributes of a tensor arrive as methods, which a number has as its own."""
    name = getattr(function, "__name__", "")
    if name == "__get__":  # an attribute such as .T
        return getattr(args[0], function.__self__.__name__)  # type: ignore[attr-defined]
    if has_rule(function):
        return apply(function, args, kwargs)
    if function is Tensor.__rpow__:
        return args[1] ** args[0]
    plain = name.strip("_")
    if name.startswith("__") and hasattr(operator, plain):
        return getattr(operator, plain)(*args)
    return apply(getattr(torch, plain, function), args, kwargs)


def _replaced(value: Any, numbers: dict[int, Multicomplex]) -> Any:
    if isinstance(value, Tensor):
        return numbers.get(id(value), value)
    if isinstance(value, dict):
        return {name: _replaced(item, numbers) for name, item in value.items()}
    return type(value)(_replaced(item, numbers) for item in value) if type(value) in (tuple, list) else value


def _numbers_in(value: Any) -> Iterator[Multicomplex]:
    if isinstance(value, Multicomplex):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _numbers_in(item)
