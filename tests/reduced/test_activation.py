"""The compiled activation against mpmath and against torch."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from numba import njit

from hodsim.reduced.kernel.activation import activate, silu
from hodsim.reduced.kernel.plan import NEURONS, SILU

EPS = np.finfo(float).eps


@njit
def activated(x, n, y, slopes):
    activate(SILU, x, n, y, slopes)


def values(x):
    n, room = len(x), np.pad(x, (0, -len(x) % NEURONS))
    y, slopes = np.zeros(len(room)), np.zeros((3, len(room)))
    activated(room, n, y, slopes)
    return np.stack([y, *slopes])[:, :n]


def test_silu_and_its_derivatives_to_rounding():
    x = np.concatenate([np.linspace(-40, 40, 401), [-1e-8, 0.5]])
    with mpmath.workdps(60):
        exact = np.array([mpmath.taylor(lambda t: t / (1 + mpmath.exp(-t)), mpmath.mpf(float(v)), 3) for v in x]).T.astype(float)
    exact *= np.array([[1], [1], [2], [6]])
    # terms cancel near the zeros of a derivative: errors are relative to the terms, of which the largest are about x e^-|x| there
    size = np.abs(exact) + (1 + np.abs(x)) * np.exp(-np.abs(x))
    worst = (np.abs(values(x) - exact) / size).max(axis=1) / EPS
    assert (worst < 40).all(), worst


def test_saturated_and_missing_numbers_are_as_those_of_torch():
    x = np.array([-1e4, -750.0, 750.0, 1e4, np.nan, -700.0, 700.0, 3.0])
    expected = torch.nn.functional.silu(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(values(x)[0], expected, rtol=1e-14, atol=1e-300)
    assert np.isfinite(values(x)[:, ~np.isnan(x)]).all()


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.7])
def test_the_formula_is_that_of_one_number_too(x: float):
    np.testing.assert_allclose(silu(x), values(np.full(4, x))[:, 0], rtol=1e-14, atol=1e-15)
