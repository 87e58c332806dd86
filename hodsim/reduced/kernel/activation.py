"""The activations, with the three derivatives that the equation of motion and its tangent ask for."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from hodsim.reduced.kernel.plan import NEURONS, SQUARE, compiled
from hodsim.reduced.kernel.vectors import INDEX, REAL, Vector, at, through


def silu(x):
    """s(x) = x sigmoid(x), s', s'' and s''' of a number or of a vector."""
    fading = np.exp(-x)
    sigmoid = 1 / (1 + fading)
    slope = fading * sigmoid * sigmoid  # exact where sigmoid is near one, too
    third = slope * (3 * (1 - 2 * sigmoid) + x * (1 - 6 * slope))
    return x * sigmoid, sigmoid + x * slope, slope * (2 + x * (1 - 2 * sigmoid)), third


@compiled
def activate(activation, x, n, y, slopes):
    """y = s(x) and slopes (3, w), s', s'' and s''' at the first n of x (w,), and up to the next multiple of NEURONS."""
    if activation == SQUARE:
        for i in range(n):
            y[i], slopes[0, i], slopes[1, i], slopes[2, i] = x[i] * x[i], 2 * x[i], 2.0, 0.0
    else:
        _write_silu(x.ctypes.data, y.ctypes.data, slopes.ctypes.data, n, slopes.shape[1])  # pyright: ignore[reportCallIssue]


@intrinsic
def _write_silu(typing, x, y, slopes, n, stride):
    def generate(context, builder, signature, arguments):
        x, y, slopes = (builder.inttoptr(address, REAL.as_pointer()) for address in arguments[:3])
        n, stride = arguments[3:]
        with through(builder, INDEX(0), n, NEURONS) as i:
            value, *derivatives = silu(Vector.load(builder, x, i, NEURONS))
            value.store(y, i)
            for k, slope in enumerate(derivatives):
                slope.store(slopes, at(builder, INDEX(k), stride, i))
        return context.get_dummy_value()

    return types.void(x, y, slopes, n, stride), generate
