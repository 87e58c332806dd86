"""Vectors of numbers in registers: arithmetic on them writes instructions in LLVM's language.

A compiler does not find vectors in scalar loops that read and write dozens of streams, since it cannot tell that none of these overlap. Here they
are said outright, and a formula for a matrix of vectors is an ordinary one of numpy, for arrays of objects.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from llvmlite import ir
from numba.core import cgutils

FAST = ("contract", "reassoc", "nsz")
REAL, INDEX, LANE = ir.DoubleType(), ir.IntType(64), ir.IntType(32)


class Vector:
    """Numbers side by side. Numbers of Python take part where they are constants; what multiplies by 0 or 1, or adds 0, costs nothing."""

    def __init__(self, builder: ir.IRBuilder, value):
        self.builder, self.value = builder, value

    @classmethod
    def load(cls, builder: ir.IRBuilder, base, offset, size: int) -> Vector:
        """base[offset : offset + size]"""
        return cls(builder, builder.load(_address(builder, base, offset, size), align=8))

    @classmethod
    def spread(cls, builder: ir.IRBuilder, base, offset, size: int) -> Vector:
        """The same number, base[offset], everywhere."""
        return cls(builder, _spread(builder, builder.load(builder.gep(base, [offset])), size))

    def store(self, base, offset) -> None:
        self.builder.store(self.value, _address(self.builder, base, offset, self.value.type.count), align=8)

    def sum(self):
        """Of its numbers, as one."""
        numbers = [self.builder.extract_element(self.value, LANE(i)) for i in range(self.value.type.count)]
        while len(numbers) > 1:
            half = len(numbers) // 2
            pairs = zip(numbers[:half], numbers[half:], strict=True)
            numbers = [self.builder.fadd(a, b, flags=FAST) for a, b in pairs]  # pyright: ignore[reportCallIssue]
        return numbers[0]

    def log(self) -> Vector:
        function = self.builder.module.declare_intrinsic("llvm.log", [REAL])
        value = self.value
        for i in range(value.type.count):
            number = self.builder.extract_element(self.value, LANE(i))
            value = self.builder.insert_element(value, self.builder.call(function, [number]), LANE(i))
        return Vector(self.builder, value)

    def __add__(self, other):
        return self if _is_number(other) and other == 0 else self._written(self.builder.fadd, self, other)

    def __sub__(self, other):
        return self._written(self.builder.fsub, self, other)

    def __rsub__(self, other):
        return self._written(self.builder.fsub, other, self)

    def __mul__(self, other):
        if _is_number(other) and other in (0, 1):
            return self if other else 0.0
        return self._written(self.builder.fmul, self, other)

    def __truediv__(self, other):
        return self._written(self.builder.fdiv, self, other)

    def __rtruediv__(self, other):
        return self._written(self.builder.fdiv, other, self)

    __radd__, __rmul__ = __add__, __mul__

    def _written(self, instruction, a, b):
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            return NotImplemented  # numpy goes through its entries, then
        a, b = (x.value if isinstance(x, Vector) else self.value.type([float(x)] * self.value.type.count) for x in (a, b))
        return Vector(self.builder, instruction(a, b, flags=FAST))


@contextmanager
def through(builder: ir.IRBuilder, start, stop, step: int):
    """A loop over start, start + step, .. below stop."""
    with cgutils.for_range_slice(builder, start, stop, INDEX(step), INDEX) as (i, _):
        yield i


def _is_number(x) -> bool:
    return isinstance(x, int | float)


def _address(builder, base, offset, size):
    return builder.bitcast(builder.gep(base, [offset]), ir.VectorType(REAL, size).as_pointer())


def _spread(builder, number, size):
    undefined = ir.Constant(ir.VectorType(REAL, size), ir.Undefined)
    first = builder.insert_element(undefined, number, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.VectorType(LANE, size)([0] * size))
