"""The products of the hot path: lanes of the strains, and what they do on lanes of the stresses.

Their factors are small and skinny, of a shape for which a library's matrix product takes two to four times as long (measured: 22 x 6 times
22 x 176 in 1.6 us where OpenBLAS takes 4.2). Sums stay in registers while what they run over is read once.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hodsim.reduced.kernel.plan import compiled
from hodsim.reduced.kernel.vectors import INDEX, REAL, Vector, through

ROWS, GROUP = 16, 2  # strains come in multiples of ROWS, lanes in multiples of GROUP
SIZE, TILE = 4, (2, 4)  # numbers at a time, and lanes of either side, in products over strains


@compiled
def lanes_of_strains(columns, lanes, count, out):
    """out_k = sum_j lanes_jk columns_j: the first `count` lanes, and up to the next multiple of GROUP, of out (L, rows) from columns (m, rows)
    and lanes (m, L)."""
    m, rows = columns.shape
    _multiply(columns.ctypes.data, lanes.ctypes.data, out.ctypes.data, rows, m, count, lanes.shape[1])  # pyright: ignore[reportCallIssue]


@compiled
def square_of_lanes(A, B, count, out):
    """out_ab = A_a . B_b of lanes (L, rows): the first `count` rows, and up to the next multiple of TILE[0], of out (L, L)."""
    _contract(A.ctypes.data, B.ctypes.data, out.ctypes.data, A.shape[1], count, len(A))  # pyright: ignore[reportCallIssue]


@intrinsic
def _multiply(typing, columns, lanes, out, rows, m, count, stride):
    def generate(context, builder, signature, arguments):
        A, B, C = (builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3])
        rows, m, count, stride = arguments[3:]

        def at(row, width, column):
            return builder.add(builder.mul(row, width), column)

        def terms(j, i, k):
            strains = Vector.load(builder, A, at(j, rows, i), ROWS)
            return [strains * Vector.spread(builder, B, at(j, stride, builder.add(k, INDEX(g))), ROWS) for g in range(GROUP)]

        with through(builder, rows, ROWS) as i, through(builder, count, GROUP) as k:
            for g, total in enumerate(_sums(builder, m, 1, GROUP, ROWS, lambda j: terms(j, i, k))):
                total.store(C, at(builder.add(k, INDEX(g)), rows, i))
        return context.get_dummy_value()

    return types.void(columns, lanes, out, rows, m, count, stride), generate


@intrinsic
def _contract(typing, A, B, out, rows, count, stride):
    def generate(context, builder, signature, arguments):
        A, B, C = (builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3])
        rows, count, stride = arguments[3:]

        def at(row, offset, width, column):
            return builder.add(builder.mul(builder.add(row, INDEX(offset)), width), column)

        def terms(i, a, b):
            left = [Vector.load(builder, A, at(a, k, rows, i), SIZE) for k in range(TILE[0])]
            right = [Vector.load(builder, B, at(b, k, rows, i), SIZE) for k in range(TILE[1])]
            return [x * y for x in left for y in right]

        with through(builder, count, TILE[0]) as a, through(builder, stride, TILE[1]) as b:
            for k, total in enumerate(_sums(builder, rows, SIZE, TILE[0] * TILE[1], SIZE, lambda i: terms(i, a, b))):
                builder.store(total.sum(), builder.gep(C, [at(a, k // TILE[1], stride, builder.add(b, INDEX(k % TILE[1])))]))
        return context.get_dummy_value()

    return types.void(A, B, out, rows, count, stride), generate


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
