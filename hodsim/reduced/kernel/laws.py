"""The materials by address: the kernel calls the one at hand, so that a law is compiled by itself, when it is first used, and the kernel is not
compiled with all of them in it.

Every law has the same arguments: F (9, n), its lanes dF (lanes, width), of which the first 9 n are used, weights (n,), constants, and what is
written: the weighted stress (9, n), its variation (lanes, width), or the energy density (n,), which no weight multiplies. n is a multiple of
ELEMENTS: so many are done at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types  # pyright: ignore[reportPrivateImportUsage]
from numba.extending import intrinsic

from hodsim.fem import kernels
from hodsim.fem.materials import Material, NeoHookean, StableNeoHookean, StVK
from hodsim.reduced.kernel import stresses, vectors
from hodsim.reduced.kernel.plan import digest
from hodsim.reduced.kernel.vectors import INDEX, Vector, at, through

ADDRESS, COUNT = types.CPointer(types.float64), types.intp
SIGNATURE = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, COUNT)
STRESS, VARIATION, ENERGY = 0, 1, 2
ELEMENTS = 4


def stress_written(stress) -> Callable[..., None]:
    """The weighted stress(F, constants), as an intrinsic with the arguments of a law."""

    @intrinsic
    def write(typing, F, dF, weights, c, P, n, lanes, width):
        def generate(context, builder, signature, arguments):
            F, _, weights, c, P, n, *_ = arguments
            constants = _constants(builder, c)
            with through(builder, INDEX(0), n, ELEMENTS) as e:
                _store(builder, P, n, e, Vector.load(builder, weights, e, ELEMENTS) * stress(_matrix(builder, F, n, e), *constants))
            return context.get_dummy_value()

        return types.void(F, dF, weights, c, P, n, lanes, width), generate

    return cast(Callable[..., None], write)


def variation_written(variation) -> Callable[..., None]:
    """The weighted variation(F, dF, constants) of each lane, as an intrinsic with the arguments of a law."""

    @intrinsic
    def write(typing, F, dF, weights, c, dP, n, lanes, width):
        def generate(context, builder, signature, arguments):
            F, dF, weights, c, dP, n, lanes, width = arguments
            constants = _constants(builder, c)
            with through(builder, INDEX(0), n, ELEMENTS) as e:
                deformed, weight = _matrix(builder, F, n, e), Vector.load(builder, weights, e, ELEMENTS)
                with through(builder, INDEX(0), lanes, 1) as k:
                    lane = at(builder, k, width, e)
                    _store(builder, dP, n, lane, weight * variation(deformed, _matrix(builder, dF, n, lane), *constants))
            return context.get_dummy_value()

        return types.void(F, dF, weights, c, dP, n, lanes, width), generate

    return cast(Callable[..., None], write)


def _constants(builder, c):
    return [Vector.spread(builder, c, INDEX(i), ELEMENTS) for i in range(3)]


def _matrix(builder, base, n, e):
    """Of ELEMENTS elements from the e-th on, (3, 3) vectors of the entries."""
    entries = [Vector.load(builder, base, at(builder, INDEX(i), n, e), ELEMENTS) for i in range(9)]
    return np.array(entries, dtype=object).reshape(3, 3)


def _store(builder, base, n, e, matrix):
    for i, entry in enumerate(matrix.ravel()):
        entry.store(base, at(builder, INDEX(i), n, e))


write_stvk_stress, write_stvk_variation = stress_written(stresses.stvk), variation_written(stresses.stvk_variation)
write_neo_hookean_stress, write_neo_hookean_variation = stress_written(stresses.neo_hookean), variation_written(stresses.neo_hookean_variation)
write_stable_stress, write_stable_variation = stress_written(stresses.stable_neo_hookean), variation_written(stresses.stable_neo_hookean_variation)


def laws(sources):
    """Of each material the functions to compile; they close over a digest of all that goes into them, for numba's cache on disk."""

    def stvk_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        write_stvk_stress(F, dF, weights, c, P, n, lanes, width)

    def stvk_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        write_stvk_variation(F, dF, weights, c, dP, n, lanes, width)

    def stvk_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.stvk_energy(carray(F, (3, 3, n)), c[0], c[1], carray(energy, n))

    def neo_hookean_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        write_neo_hookean_stress(F, dF, weights, c, P, n, lanes, width)

    def neo_hookean_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        write_neo_hookean_variation(F, dF, weights, c, dP, n, lanes, width)

    def neo_hookean_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.neo_hookean_energy(carray(F, (3, 3, n)), c[0], c[1], carray(energy, n))

    def stable_neo_hookean_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        write_stable_stress(F, dF, weights, c, P, n, lanes, width)

    def stable_neo_hookean_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        write_stable_variation(F, dF, weights, c, dP, n, lanes, width)

    def stable_neo_hookean_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.stable_neo_hookean_energy(carray(F, (3, 3, n)), c[0], c[1], c[2], carray(energy, n))

    return {
        StVK: (stvk_stress, stvk_variation, stvk_energy),
        NeoHookean: (neo_hookean_stress, neo_hookean_variation, neo_hookean_energy),
        StableNeoHookean: (stable_neo_hookean_stress, stable_neo_hookean_variation, stable_neo_hookean_energy),
    }


LAWS = laws(digest(kernels.__file__, stresses.__file__, vectors.__file__, __file__))


@lru_cache
def compiled_law(material: type[Material]) -> tuple:
    """The compiled stress, variation and energy of a material that LAWS names; their addresses hold as long as they do, that is for good."""
    return tuple(cfunc(SIGNATURE, cache=True)(function) for function in LAWS[material])


def addresses(material: type[Material]) -> np.ndarray:
    return np.array([function.address for function in compiled_law(material)], dtype=np.int64)


@intrinsic
def call(typing, address, F, dF, weights, constants, out, n, lanes, width):
    """Call the law at an address; the arrays are addresses, too."""

    def generate(context, builder, signature, arguments):
        kinds = [context.get_value_type(kind) for kind in SIGNATURE.args]
        function = builder.inttoptr(arguments[0], ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        values = [builder.inttoptr(a, kind) if isinstance(kind, ir.PointerType) else a for a, kind in zip(arguments[1:], kinds, strict=True)]
        builder.call(function, values)
        return context.get_dummy_value()

    return types.void(*[types.intp] * (1 + len(SIGNATURE.args))), generate
