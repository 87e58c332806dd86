"""The rule table: what a torch function does to a multicomplex number.

    @rule(torch.tanh)                    f(Z): the derivatives of f at the real part
    @elementwise
    def tanh(x, order): ...

    rule(torch.flip)(linear(torch.flip)) L(Z): applied to every part at once

    @rule(F.softmax)                     anything else: written with functions that have rules
    def softmax(z, dim): ...

A rule for torch.f or F.f serves the method Tensor.f too. Functions without a rule are refused, and so are keywords a rule does not know.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType

import torch
from torch import Tensor, nn

_RULES: dict[Callable, Callable] = {}
_PYTHON_METHODS: dict[str, Callable] = {}       # of Tensor, such as __rsub__, by name: torch.compile looks for these in _RULES and misses them
_KEYWORDS: dict[Callable, frozenset[str] | None] = {}     # None: passed on to torch, which refuses what it does not know


def rule(*functions: Callable) -> Callable[[Callable], Callable]:
    """Register a rule (z, ...) -> Multicomplex for torch functions, and for the tensor methods of the same names."""

    def register(handler: Callable) -> Callable:
        for function in functions:
            method = getattr(Tensor, getattr(function, "__name__", ""), None)
            for key in {function, method} - {None}:
                _RULES[key] = handler
            if isinstance(method, FunctionType):
                _PYTHON_METHODS[method.__name__] = handler
        _KEYWORDS[handler] = _keywords(handler)
        return handler

    return register


def elementwise(tower: Callable) -> Callable:
    """The rule of an elementwise function given by (x, order, **parameters) -> [f(x), f'(x), .., f^(order)(x)]."""

    count = len(inspect.signature(tower).parameters) - 2

    def handler(z, *args, inplace: bool = False, **kwargs):
        args, inplace = args[:count], inplace or any(args[count:])   # torch passes inplace after the parameters
        result = z.compose(partial(_call, tower, args, kwargs) if args or kwargs else tower)
        return z.assign(result) if inplace else result

    def bound(*args, inplace: bool = False, **kwargs):
        return partial(_call, tower, args[:count], kwargs)

    handler.__wrapped__, handler.bound = tower, bound
    handler.keywords = _keywords(tower) - {"x", "order"} | {"inplace"}
    return handler


def linear(function: Callable) -> Callable:
    """The rule of a function that is linear in its first argument; keyword and further arguments go to it unchanged."""

    def handler(z, *args, **kwargs):
        return z.map(torch.vmap(lambda part: function(part, *args, **kwargs)))

    handler.keywords = None
    return handler


def tower_of(function: Callable, args: tuple, kwargs: dict) -> Callable | None:
    """The derivative tower (x, order) -> [f(x), ..] that a call of an elementwise function uses; None for other functions."""
    bound = getattr(_RULES.get(function), "bound", None)
    return None if bound is None else bound(*args[1:], **kwargs)


def has_rule(function: Callable) -> bool:
    return function in _RULES


def apply(function: Callable, args: tuple, kwargs: dict):
    """Call a function's rule. Raises NotImplementedError where there is none."""
    in_graph = torch.compiler.is_compiling() and function.__name__ in _PYTHON_METHODS
    handler = _PYTHON_METHODS[function.__name__] if in_graph else _RULES.get(function)
    if handler is None:
        raise NotImplementedError(_missing(function))
    if kwargs:
        known = _KEYWORDS[handler]
        unknown = [] if known is None else [name for name, value in kwargs.items() if name not in known and value is not None]
        if unknown:
            raise NotImplementedError(f"the rule of {_name(function)} does not know {sorted(unknown)}; it knows {sorted(known or ())}")
        if known is not None:
            kwargs = {name: value for name, value in kwargs.items() if name in known}
    return handler(*args, **kwargs)


def _call(tower, args, kwargs, x, order):
    return tower(x, order, *args, **kwargs)


def _keywords(handler: Callable) -> frozenset[str] | None:
    if hasattr(handler, "keywords"):
        return handler.keywords
    parameters = inspect.signature(handler).parameters
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else frozenset(parameters)


def _missing(function: Callable) -> str:
    name = _name(function)
    return (f"no multicomplex rule for {name}{_calling_module()}; add one before the call: "
            f"@rule({name}) on a function (z, ...) written with functions that have rules, "
            f"rule({name})(elementwise(lambda x, order: [f, f', .., f^(order)])) or rule({name})(linear({name}))")


def _name(function: Callable) -> str:
    name = getattr(function, "__name__", repr(function))
    if name in ("__get__", "__set__"):
        return f"attribute {getattr(function, '__self__', function)}"
    if getattr(Tensor, name, None) is function:
        return f"torch.Tensor.{name}"
    module = getattr(function, "__module__", None) or "torch"
    if hasattr(nn.functional, name) and not hasattr(torch, name):
        return f"torch.nn.functional.{name}"
    return f"{'torch' if module.startswith('torch._C') else module}.{name}"


def _calling_module() -> str:
    """The innermost nn.Module on the call stack, in words; a graph does not know its stack."""
    if torch.compiler.is_compiling():
        return ""
    frame = sys._getframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return f", called by {type(owner).__module__}.{type(owner).__name__}"
        frame = frame.f_back
    return ""
