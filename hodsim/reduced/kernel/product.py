"""The products of the hot path: neurons and strains and their lanes, and what the strains do on the stresses and on their lanes.

Their factors are small and skinny, of a shape for which a library's matrix product takes two to four times as long (measured: 22 x 6 times
22 x 176 in 1.6 us where OpenBLAS takes 4.2), and of which a product with a vector is mostly the call. Sums stay in registers while what they
run over is read once, and strains lie in tiles of ROWS, one after the other: what is read next is what lies next.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hodsim.reduced.kernel.plan import LANES, NEURONS, compiled
from hodsim.reduced.kernel.vectors import INDEX, REAL, Vector, at, through

ROWS, GROUP = 16, 2  # strains come in pairs of tiles of ROWS, and their lanes are formed so many at a time
HALF, FEATURES = 8, 4  # rows and features at a time where stresses are projected
TILE, SIZE = (2, 4), 4  # lanes of either side at a time, and numbers of each, in products over strains


@compiled
def apply(matrix, x, out):
    """out = matrix @ x (n,) of a matrix (n, m) and x (m,)."""
    n, m = matrix.shape
    for i in range(n):
        total = 0.0
        for j in range(m):
            total += matrix[i, j] * x[j]
        out[i] = total


@compiled
def apply_transposed(matrix, x, out):
    """out = matrix^T @ x (m,) of a matrix (n, m) and x (n,)."""
    n, m = matrix.shape
    for j in range(m):
        out[j] = 0.0
    for i in range(n):
        for j in range(m):
            out[j] += matrix[i, j] * x[i]


@compiled
def strains_of(tiles, g, out):
    """out = sum_j g_j D_j (rows,), of strains D_j in tiles (rows / ROWS, m, ROWS), an even number of them, and g (m,)."""
    _weigh(tiles.ctypes.data, g.ctypes.data, out.ctypes.data, len(out), len(g))  # pyright: ignore[reportCallIssue]


@compiled
def project(tiles, stress, out):
    """out_j = D_j . stress (m,) for a stress (rows,)."""
    _project(tiles.ctypes.data, stress.ctypes.data, out.ctypes.data, len(stress), len(out))  # pyright: ignore[reportCallIssue]


@compiled
def lanes_of_strains(tiles, lanes, count, out):
    """out_k = sum_j lanes_jk D_j: the first `count` lanes, and up to the next multiple of GROUP, of out (L, rows) from lanes (m, L)."""
    m, L = lanes.shape
    _combine_strains(tiles.ctypes.data, lanes.ctypes.data, out.ctypes.data, out.shape[1], m, count, L)  # pyright: ignore[reportCallIssue]


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


def combine(width, group, tiled):
    """C_k = sum_j B_jk A_j of A (m, rows), or in tiles of `width` rows, B (m, stride) and C, for k = 0, 1, .. below count and to the end of the last
    group."""

    @intrinsic
    def write(typing, A, B, C, rows, m, count, stride):
        def generate(context, builder, signature, arguments):
            A, B, C = _pointers(builder, arguments)
            rows, m, count, stride = arguments[3:]
            with through(builder, INDEX(0), rows, width) as i, through(builder, INDEX(0), count, group) as k:
                column = (lambda j: _in_tile(builder, i, m, j)) if tiled else (lambda j: at(builder, j, rows, i))
                _combined(builder, A, B, C, rows, m, i, k, width, group, column, lambda j, row: at(builder, j, stride, row))
            return context.get_dummy_value()

        return types.void(A, B, C, rows, m, count, stride), generate

    return write


_combine_strains, _combine_neurons = combine(ROWS, GROUP, tiled=True), combine(LANES, NEURONS, tiled=False)


@intrinsic
def _weigh(typing, A, B, C, rows, m):
    """C = sum_j B_j A_j of A (m, rows) in tiles, two at a time, B (m,) and C (rows,)."""

    def generate(context, builder, signature, arguments):
        A, B, C = _pointers(builder, arguments)
        rows, m = arguments[3:]

        def terms(i, j):
            weight = Vector.spread(builder, B, j, ROWS)
            return [weight * Vector.load(builder, A, _in_tile(builder, _after(builder, i, k * ROWS), m, j), ROWS) for k in range(2)]

        with through(builder, INDEX(0), rows, 2 * ROWS) as i:
            for k, total in enumerate(_sums(builder, m, 1, 2, ROWS, lambda j: terms(i, j))):
                total.store(C, _after(builder, i, k * ROWS))
        return context.get_dummy_value()

    return types.void(A, B, C, rows, m), generate


@intrinsic
def _project(typing, A, B, C, rows, m):
    """C_j = A_j . B of A (m, rows) in tiles, B (rows,) and C (m,)."""

    def generate(context, builder, signature, arguments):
        A, B, C = _pointers(builder, arguments)
        rows, m = arguments[3:]

        def terms(i, j, group):
            found = []
            for k in range(0, ROWS, HALF):
                part = Vector.load(builder, B, _after(builder, i, k), HALF)
                found.append([
                    part * Vector.load(builder, A, _after(builder, _in_tile(builder, i, m, _after(builder, j, g)), k), HALF) for g in range(group)
                ])  # fmt: skip
            return [sum(halves[1:], start=halves[0]) for halves in zip(*found, strict=True)]

        whole = builder.sub(m, builder.srem(m, INDEX(FEATURES)))
        for start, stop, group in ((INDEX(0), whole, FEATURES), (whole, m, 1)):
            with through(builder, start, stop, group) as j:
                for g, total in enumerate(_sums(builder, rows, ROWS, group, HALF, lambda i, j=j, group=group: terms(i, j, group))):
                    builder.store(total.sum(), builder.gep(C, [_after(builder, j, g)]))
        return context.get_dummy_value()

    return types.void(A, B, C, rows, m), generate


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
                    column, factor = (lambda j: at(builder, j, rows, i)), (lambda j, row: at(builder, row, m, j))
                    _combined(builder, A, B, C, rows, m, i, k, LANES, group, column, factor)
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


def _combined(builder, A, B, C, rows, m, i, k, width, group, column, factor):
    """Write C_k[i : i + width] and so on for a group; A_j[i : i + width] is at A[column(j)], its factor at B[factor(j, k)]."""

    def terms(j):
        part = Vector.load(builder, A, column(j), width)
        return [part * Vector.spread(builder, B, factor(j, _after(builder, k, g)), width) for g in range(group)]

    for g, total in enumerate(_sums(builder, m, 1, group, width, terms)):
        total.store(C, at(builder, _after(builder, k, g), rows, i))


def _pointers(builder, arguments):
    return [builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3]]


def _in_tile(builder, i, m, j):
    """The offset of row i, the first of a tile, of column j of m."""
    return builder.add(builder.mul(i, m), builder.mul(j, INDEX(ROWS)))


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
