"""The products of the hot path: lanes of neurons and of strains, and what these do on lanes of the stresses.

Their factors are small and skinny, of a shape for which a library's matrix product takes two to four times as long (measured: 22 x 6 times
22 x 176 in 1.6 us where OpenBLAS takes 4.2). Sums stay in registers while what they run over is read once.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hodsim.reduced.kernel.plan import LANES, NEURONS, compiled
from hodsim.reduced.kernel.vectors import INDEX, REAL, Vector, at, through

ROWS, GROUP = 16, 2  # strains come in multiples of ROWS, and are formed for so many lanes at a time
TILE, SIZE = (2, 4), 4  # lanes of either side at a time, and numbers of each, in products over strains


@compiled
def lanes_of_strains(columns, lanes, count, out):
    """out_k = sum_j lanes_jk columns_j: the first `count` lanes, and up to the next multiple of GROUP, of out (L, rows) from columns (m, rows)
    and lanes (m, L)."""
    m, rows = columns.shape
    _combine_strains(columns.ctypes.data, lanes.ctypes.data, out.ctypes.data, rows, m, count, lanes.shape[1])  # pyright: ignore[reportCallIssue]


@compiled
def lanes_of_neurons(weights, lanes, out):
    """out = weights @ lanes (n, L) of weights (n, m) and lanes (m, L)."""
    n, m = weights.shape
    _multiply(lanes.ctypes.data, weights.ctypes.data, out.ctypes.data, lanes.shape[1], m, n)  # pyright: ignore[reportCallIssue]


@compiled
def square_of_neurons(A, B, count, out):
    """out = A^T B: the first `count` rows, and up to the next multiple of NEURONS, of out (L, L) from A and B (n, L)."""
    n, L = A.shape
    _combine_neurons(B.ctypes.data, A.ctypes.data, out.ctypes.data, L, n, count, L)  # pyright: ignore[reportCallIssue]


@compiled
def square_of_lanes(A, B, count, out):
    """out = A B^T: the first `count` rows, and up to the next multiple of TILE[0], of out (L, L) from A and B (L, rows)."""
    _contract(A.ctypes.data, B.ctypes.data, out.ctypes.data, A.shape[1], count, len(A))  # pyright: ignore[reportCallIssue]


def combine(width, group):
    """C_k = sum_j B_jk A_j of A (m, rows), B (m, stride) and C, for k = 0, 1, .. below count and to the end of the last group."""

    @intrinsic
    def write(typing, A, B, C, rows, m, count, stride):
        def generate(context, builder, signature, arguments):
            A, B, C = _pointers(builder, arguments)
            rows, m, count, stride = arguments[3:]
            with through(builder, INDEX(0), rows, width) as i, through(builder, INDEX(0), count, group) as k:
                _combined(builder, A, B, C, rows, m, i, k, width, group, lambda j, row: at(builder, j, stride, row))
            return context.get_dummy_value()

        return types.void(A, B, C, rows, m, count, stride), generate

    return write


_combine_strains, _combine_neurons = combine(ROWS, GROUP), combine(LANES, NEURONS)


@intrinsic
def _multiply(typing, A, B, C, rows, m, count):
    """C_k = sum_j B_kj A_j of A (m, rows), B (count, m) and C (count, rows)."""

    def generate(context, builder, signature, arguments):
        A, B, C = _pointers(builder, arguments)
        rows, m, count = arguments[3:]
        whole = builder.sub(count, builder.srem(count, INDEX(NEURONS)))
        with through(builder, INDEX(0), rows, LANES) as i:
            for start, stop, group in ((INDEX(0), whole, NEURONS), (whole, count, 1)):
                with through(builder, start, stop, group) as k:
                    _combined(builder, A, B, C, rows, m, i, k, LANES, group, lambda j, row: at(builder, row, m, j))
        return context.get_dummy_value()

    return types.void(A, B, C, rows, m, count), generate


@intrinsic
def _contract(typing, A, B, out, rows, count, stride):
    """C_ab = A_a . B_b of A (count, rows), B (stride, rows) and C (count, stride)."""

    def generate(context, builder, signature, arguments):
        A, B, C = _pointers(builder, arguments)
        rows, count, stride = arguments[3:]

        def terms(i, a, b):
            left = [Vector.load(builder, A, at(builder, _after(builder, a, k), rows, i), SIZE) for k in range(TILE[0])]
            right = [Vector.load(builder, B, at(builder, _after(builder, b, k), rows, i), SIZE) for k in range(TILE[1])]
            return [x * y for x in left for y in right]

        with through(builder, INDEX(0), count, TILE[0]) as a, through(builder, INDEX(0), stride, TILE[1]) as b:
            for k, total in enumerate(_sums(builder, rows, SIZE, TILE[0] * TILE[1], SIZE, lambda i: terms(i, a, b))):
                row, column = _after(builder, a, k // TILE[1]), _after(builder, b, k % TILE[1])
                builder.store(total.sum(), builder.gep(C, [at(builder, row, stride, column)]))
        return context.get_dummy_value()

    return types.void(A, B, out, rows, count, stride), generate


def _combined(builder, A, B, C, rows, m, i, k, width, group, place):
    """Write C_k[i : i + width] and so on for a group; the factor of A_j is B[place(j, k)]."""

    def terms(j):
        column = Vector.load(builder, A, at(builder, j, rows, i), width)
        return [column * Vector.spread(builder, B, place(j, _after(builder, k, g)), width) for g in range(group)]

    for g, total in enumerate(_sums(builder, m, 1, group, width, terms)):
        total.store(C, at(builder, _after(builder, k, g), rows, i))


def _pointers(builder, arguments):
    return [builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3]]


def _after(builder, index, more):
    return builder.add(index, INDEX(more))


def _sums(builder, stop, step, count, size, terms):
    """So many sums over j = 0, step, .. < stop of terms(j), a list of vectors; stop is not 0."""
    before, loop, after = builder.block, builder.append_basic_block("terms"), builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    kind = ir.VectorType(REAL, size)
    j, sums = builder.phi(INDEX), [builder.phi(kind) for _ in range(count)]
    added = [Vector(builder, total) + term for total, term in zip(sums, terms(j), strict=True)]
    following = builder.add(j, INDEX(step))
    for phi, start, end in ((j, INDEX(0), following), *((s, kind([0.0] * size), a.value) for s, a in zip(sums, added, strict=True))):
        phi.add_incoming(start, before)
        phi.add_incoming(end, loop)
    builder.cbranch(builder.icmp_signed("<", following, stop), loop, after)
    builder.position_at_end(after)
    return added
