"""The product of the hot path, lanes of the strains: out_k = sum_j lanes_jk columns_j.

Its factors are small and skinny, of a shape for which a library's matrix product takes two to three times as long (measured: 22 x 6 times
22 x 176 in 1.6 us where OpenBLAS takes 4.2). Sums of two lanes by sixteen strains stay in registers while the features are run through; the vectors
are written out in LLVM's own language, since a compiler does not find them in scalar loops.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hodsim.reduced.kernel.plan import compiled

ROWS, GROUP = 16, 2  # strains come in multiples of ROWS, lanes in multiples of GROUP
FAST = ("contract", "reassoc", "nsz")
REAL, INDEX, LANE = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(REAL, ROWS)


@compiled
def lanes_of_strains(columns, lanes, count, out):
    """Write the first `count` lanes to out (L, rows), and up to the next multiple of GROUP, from columns (m, rows) and lanes (m, L)."""
    m, rows = columns.shape
    _multiply(columns.ctypes.data, lanes.ctypes.data, out.ctypes.data, rows, m, count, lanes.shape[1])  # pyright: ignore[reportCallIssue]


@intrinsic
def _multiply(typing, columns, lanes, out, rows, m, count, stride):
    def generate(context, builder, signature, arguments):
        A, B, C = (builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3])
        rows, m, count, stride = arguments[3:]
        zero, one = INDEX(0), INDEX(1)
        with (
            cgutils.for_range_slice(builder, zero, rows, INDEX(ROWS), INDEX) as (i, _),
            cgutils.for_range_slice(builder, zero, count, INDEX(GROUP), INDEX) as (k, _),
        ):
            before, loop, after = builder.block, builder.append_basic_block("features"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            j, sums = builder.phi(INDEX), [builder.phi(VECTOR) for _ in range(GROUP)]
            strains = builder.load(_vector(builder, A, builder.add(builder.mul(j, rows), i)), align=8)
            added = []
            for g, total in enumerate(sums):
                lane = builder.load(builder.gep(B, [builder.add(builder.mul(j, stride), builder.add(k, INDEX(g)))]))
                added.append(builder.fadd(total, builder.fmul(strains, _spread(builder, lane), flags=FAST), flags=FAST))
            following = builder.add(j, one)
            for phi, start, end in ((j, zero, following), *((s, VECTOR([0.0] * ROWS), a) for s, a in zip(sums, added, strict=True))):
                phi.add_incoming(start, before)
                phi.add_incoming(end, loop)
            builder.cbranch(builder.icmp_signed("<", following, m), loop, after)
            builder.position_at_end(after)
            for g, total in enumerate(added):
                lane = builder.mul(builder.add(k, INDEX(g)), rows)
                builder.store(total, _vector(builder, C, builder.add(lane, i)), align=8)
        return context.get_dummy_value()

    return types.void(columns, lanes, out, rows, m, count, stride), generate


def _vector(builder, base, offset):
    """The address of ROWS numbers from base[offset] on."""
    return builder.bitcast(builder.gep(base, [offset]), VECTOR.as_pointer())


def _spread(builder, number):
    """A vector of the same number."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.VectorType(LANE, ROWS)([0] * ROWS))
