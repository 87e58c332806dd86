"""Vectors of numbers in registers: arithmetic on them writes instructions in LLVM's language.

A compiler does not find vectors in scalar loops that read and write dozens of streams, since it cannot tell that none of these overlap. Here they
are said outright, and a formula for a matrix of vectors is an ordinary one of numpy, for arrays of objects.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

FAST = ("contract", "reassoc", "nsz")
REAL, INDEX, LANE = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
LOG_2, LOG2_E = 0.6931471805599453, 1.4426950408889634
EXPONENT = 1.5 * 2.0**52 + 1023  # the last bits of k + EXPONENT are the exponent of 2^k


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

    def exp(self) -> Vector:
        """2^k e^t with |t| <= log(2)/2 and e^t = 1 + 2 P/(Q - P) (Moshier, Methods and Programs for Mathematical Functions, 1989), to a relative
        error of (1 + |x|) eps; exponents of more than 700 in size are cut to that."""
        x = self._where("<", -700.0, self._where(">", 700.0, self))
        k = (x * LOG2_E)._rounded()
        t = x - k * LOG_2
        square = t * t
        P = t * ((1.26177193074810590878e-4 * square + 3.02994407707441961300e-2) * square + 9.99999999999999999910e-1)
        Q = 3.00198505138664455042e-6 * square + 2.52448340349684104192e-3
        Q = (Q * square + 2.27265548208155028766e-1) * square + 2.00000000000000000009
        whole = ir.VectorType(INDEX, self.value.type.count)
        bits = self.builder.bitcast((k + EXPONENT).value, whole)
        power = self.builder.bitcast(self.builder.shl(bits, whole([52] * whole.count)), self.value.type)
        return (1 + 2 * P / (Q - P)) * Vector(self.builder, power)

    def log(self) -> Vector:
        function = self.builder.module.declare_intrinsic("llvm.log", [REAL])
        value = self.value
        for i in range(value.type.count):
            number = self.builder.extract_element(self.value, LANE(i))
            value = self.builder.insert_element(value, self.builder.call(function, [number]), LANE(i))
        return Vector(self.builder, value)

    def _where(self, comparison: str, bound: float, other: Vector) -> Vector:
        """The bound where the comparison with it holds, elsewhere another's number, which may be no number."""
        limit = self._constant(bound)
        return Vector(self.builder, self.builder.select(self.builder.fcmp_ordered(comparison, self.value, limit), limit, other.value))

    def _rounded(self) -> Vector:
        """To whole numbers."""
        kind = self.value.type
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind]), f"llvm.nearbyint.v{kind.count}f64")
        return Vector(self.builder, self.builder.call(function, [self.value]))

    def _constant(self, number: float):
        return self.value.type([float(number)] * self.value.type.count)

    def __add__(self, other):
        return self if _is_number(other) and other == 0 else self._written(self.builder.fadd, self, other)

    def __neg__(self):
        return 0.0 - self

    def __sub__(self, other):
        return self._written(self.builder.fsub, self, other)

    def __rsub__(self, other):
        return self._written(self.builder.fsub, other, self)

    def __mul__(self, other) -> Any:
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
        a, b = (x.value if isinstance(x, Vector) else self._constant(x) for x in (a, b))
        return Vector(self.builder, instruction(a, b, flags=FAST))


@contextmanager
def through(builder: ir.IRBuilder, start, stop, step: int):
    """A loop over start, start + step, .. below stop."""
    with cgutils.for_range_slice(builder, start, stop, INDEX(step), INDEX) as (i, _):
        yield i


def at(builder: ir.IRBuilder, row, width, column):
    """The offset of [row, column] in an array of so many columns."""
    return builder.add(builder.mul(row, width), column)


def _is_number(x) -> bool:
    return isinstance(x, int | float)


def _address(builder, base, offset, size):
    return builder.bitcast(builder.gep(base, [offset]), ir.VectorType(REAL, size).as_pointer())


def _spread(builder, number, size):
    undefined = ir.Constant(ir.VectorType(REAL, size), ir.Undefined)
    first = builder.insert_element(undefined, number, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.VectorType(LANE, size)([0] * size))
