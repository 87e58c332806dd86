"""The compiled laws of the reduced step against the materials of the full one."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from hodsim.fem import NeoHookean, StableNeoHookean, StVK
from hodsim.fem.materials import Isotropic
from hodsim.reduced.kernel import ELEMENTS
from hodsim.reduced.kernel.laws import ENERGY, STRESS, VARIATION, compiled_law

EPS = np.finfo(float).eps
MATERIALS = pytest.mark.parametrize("material", [StVK(1e5, 0.4), NeoHookean(1e5, 0.4), StableNeoHookean(1e5, 0.4)], ids=lambda m: type(m).__name__)
SIZES = pytest.mark.parametrize("n", [ELEMENTS, 7 * ELEMENTS])


def call(law, F, dF, weights, material, out):
    """The compiled law of F (n, 3, 3) and dF (lanes, width)."""
    constants = np.array([*material.constants, 0.0])
    arrays = np.ascontiguousarray(F.transpose(1, 2, 0)), dF, weights, constants, out
    pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for array in arrays]
    compiled_law(type(material))[law].ctypes(*pointers, len(F), *dF.shape)
    return out


def deformed(n):
    rng = np.random.default_rng(n)
    return np.eye(3) + 0.2 * rng.standard_normal((n, 3, 3)), rng.standard_normal((5, 9 * n + 6)), rng.random(n)


@MATERIALS
@SIZES
def test_stress_is_that_of_the_material_times_the_weights(material: Isotropic, n: int):
    F, dF, weights = deformed(n)
    P = call(STRESS, F, dF, weights, material, np.empty((9, n)))
    expected = (weights[:, None, None] * material.stress(F)).reshape(n, 9).T
    np.testing.assert_allclose(P, expected, rtol=0, atol=100 * EPS * np.abs(expected).max())


@MATERIALS
@SIZES
def test_variation_is_the_weighted_stiffness_along_the_lanes(material: Isotropic, n: int):
    F, dF, weights = deformed(n)
    dP = call(VARIATION, F, dF, weights, material, np.full_like(dF, 7.0))
    expected = np.einsum("e,eijkl,akle->aije", weights, material.stiffness(F), dF[:, : 9 * n].reshape(5, 3, 3, n))
    np.testing.assert_allclose(dP[:, : 9 * n], expected.reshape(5, -1), rtol=0, atol=200 * EPS * np.abs(expected).max())
    assert (dP[:, 9 * n :] == 7.0).all()  # what comes after the elements is not the law's


@MATERIALS
def test_energy_is_that_of_the_material(material: Isotropic):
    F, dF, weights = deformed(2 * ELEMENTS)
    energy = call(ENERGY, F, dF, weights, material, np.empty(len(F)))
    np.testing.assert_allclose(energy, material.energy_density(F), rtol=1e-12, atol=1e-12 * 1e5)


def test_inverted_element_is_not_finite_under_neo_hooke():
    F = np.broadcast_to(np.diag([1.0, 1.0, -1.0]), (ELEMENTS, 3, 3))
    P = call(STRESS, F, np.zeros((1, 9 * ELEMENTS)), np.ones(ELEMENTS), NeoHookean(1e5, 0.4), np.empty((9, ELEMENTS)))
    assert np.isnan(P).any()
