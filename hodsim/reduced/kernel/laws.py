"""The materials by address: the kernel calls the one at hand, so that a law is compiled by itself, when it is first used, and the kernel is not
compiled with all of them in it.

Every law has the same arguments: F (9, n), its lanes dF (lanes, width), of which the first 9 n are used, weights (n,), constants, and what is
written: the stress (9, n), its weighted variation (lanes, width), or the energy density (n,).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types  # pyright: ignore[reportPrivateImportUsage]
from numba.extending import intrinsic

from hodsim.fem import kernels
from hodsim.fem.materials import Material, NeoHookean, StableNeoHookean, StVK
from hodsim.reduced.kernel.plan import digest

ADDRESS, COUNT = types.CPointer(types.float64), types.intp
SIGNATURE = types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS, COUNT, COUNT, COUNT)
STRESS, VARIATION, ENERGY = 0, 1, 2


def laws(sources):
    """Of each material the functions to compile; they close over a digest of all that goes into them, for numba's cache on disk."""

    def stvk_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        kernels.stvk_stress(carray(F, (3, 3, n)), c[0], c[1], carray(P, (3, 3, n)))

    def stvk_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        d, p = carray(dF, (lanes, width)), carray(dP, (lanes, width))
        kernels.stvk_variation(carray(F, (3, 3, n)), d, carray(weights, n), c[0], c[1], p)

    def stvk_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.stvk_energy(carray(F, (3, 3, n)), c[0], c[1], carray(energy, n))

    def neo_hookean_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        kernels.neo_hookean_stress(carray(F, (3, 3, n)), c[0], c[1], carray(P, (3, 3, n)))

    def neo_hookean_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        d, p = carray(dF, (lanes, width)), carray(dP, (lanes, width))
        kernels.neo_hookean_variation(carray(F, (3, 3, n)), d, carray(weights, n), c[0], c[1], p)

    def neo_hookean_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.neo_hookean_energy(carray(F, (3, 3, n)), c[0], c[1], carray(energy, n))

    def stable_neo_hookean_stress(F, dF, weights, c, P, n, lanes, width):
        _ = sources
        kernels.stable_neo_hookean_stress(carray(F, (3, 3, n)), c[0], c[1], c[2], carray(P, (3, 3, n)))

    def stable_neo_hookean_variation(F, dF, weights, c, dP, n, lanes, width):
        _ = sources
        d, p = carray(dF, (lanes, width)), carray(dP, (lanes, width))
        kernels.stable_neo_hookean_variation(carray(F, (3, 3, n)), d, carray(weights, n), c[0], c[1], c[2], p)

    def stable_neo_hookean_energy(F, dF, weights, c, energy, n, lanes, width):
        _ = sources
        kernels.stable_neo_hookean_energy(carray(F, (3, 3, n)), c[0], c[1], c[2], carray(energy, n))

    return {
        StVK: (stvk_stress, stvk_variation, stvk_energy),
        NeoHookean: (neo_hookean_stress, neo_hookean_variation, neo_hookean_energy),
        StableNeoHookean: (stable_neo_hookean_stress, stable_neo_hookean_variation, stable_neo_hookean_energy),
    }


LAWS = laws(digest(kernels.__file__, __file__))


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
