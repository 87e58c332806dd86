"""Checks of what a user hands in: each error names the thing, its value and what was expected.

Arrays may be numpy arrays or torch tensors; each check returns its argument, so that it can stand in an assignment.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

A = TypeVar("A", np.ndarray, "torch.Tensor")


def finite(name: str, array: A) -> A:
    """Return array; raise ValueError naming the first entry that is NaN or infinite."""
    of_torch = getattr(array, "isfinite", None)
    bad = ~(np.isfinite(array) if of_torch is None else of_torch())
    count = int(bad.sum())
    if count:
        first = np.argwhere(np.asarray(bad))[0]
        value = array[tuple(first)].item()
        index = ", ".join(map(str, first.tolist()))
        raise ValueError(f"{name} holds {count} value(s) that are not finite (first: {value} at index [{index}]); expected finite numbers")
    return array


def shape(name: str, array: A, expected: tuple[int | None, ...]) -> A:
    """Return array; raise ValueError unless its shape is the expected one, None standing for any length."""
    received = tuple(array.shape)
    if len(received) != len(expected) or any(e is not None and e != r for e, r in zip(expected, received, strict=True)):
        wanted = "(" + ", ".join("*" if e is None else str(e) for e in expected) + ("," if len(expected) == 1 else "") + ")"
        raise ValueError(f"{name} has shape {received}; expected {wanted}")
    return array


def positive(name: str, value: float) -> float:
    """Return value; raise ValueError unless it is finite and greater than zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; expected a finite number greater than 0")
    return value


def nonnegative(name: str, value: float) -> float:
    """Return value; raise ValueError unless it is finite and at least zero."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}; expected a finite number of at least 0")
    return value


def below_one(name: str, value: float) -> float:
    """Return value; raise ValueError unless 0 <= value < 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; expected at least 0 and less than 1")
    return value


def at_least_one(name: str, value: int) -> int:
    """Return value; raise ValueError unless it is at least 1."""
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
    return value


def indices(name: str, rows: np.ndarray, count: int) -> np.ndarray:
    """Return rows (N, k) of vertex indices; raise ValueError naming the first that holds one outside [0, count). name: of one row."""
    outside = ((rows < 0) | (rows >= count)).any(axis=1)
    if outside.any():
        first = int(outside.argmax())
        raise ValueError(f"{name} {first} has vertices {rows[first].tolist()}; expected indices from 0 to {count - 1}")
    return rows


def inside(name: str, value: float, low: float, high: float) -> float:
    """Return value; raise ValueError unless low < value < high."""
    if not low < value < high:
        raise ValueError(f"{name} is {value}; expected a number strictly between {low} and {high}")
    return value
