"""The parts of `hodsim bench simulation` that compute something of their own, on a small body."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.benchmarks.simulation import Truncated, endurance, multiply_adds
from hodsim.reduced import CompiledStep, Cubature, ReducedModel
from hodsim.snapshots import bending_loads
from hodsim.subspace import modal


@pytest.fixture
def curved():
    full = small_beam()
    return ReducedModel(full, curved_subspace(full))


def test_truncated_tangents_lack_what_their_name_says(curved):
    rng = np.random.default_rng(0)
    q, v, a = 0.3 * rng.standard_normal((3, 3))
    v, a, force = 10 * v, 100 * a, np.zeros(curved.subspace.width)
    arguments = q, v, a, 50.0, 2500.0, force
    exact, motion = curved.tangent_matrix(*arguments), curved.features.motion(q, v)
    third = motion.jacobian.T @ curved.mass @ motion.third
    assert np.abs(third).max() > 1e-6 * np.abs(exact).max()
    np.testing.assert_allclose(Truncated(curved, second=True).tangent(*arguments).matrix, exact - third, rtol=1e-12)
    first = Truncated(curved, second=False).tangent(*arguments).matrix
    np.testing.assert_allclose(first, first.T, atol=1e-10 * np.abs(first).max())  # what is left is that of a flat subspace
    assert np.abs(first - exact).max() > 1e-3 * np.abs(exact).max()
    flat = ReducedModel(curved.full, modal(curved.full, 3))
    arguments = q, v, a, 50.0, 2500.0, np.zeros(3)
    np.testing.assert_allclose(Truncated(flat, second=False).tangent(*arguments).matrix, flat.tangent_matrix(*arguments), rtol=1e-12)


def test_endurance_counts_every_step_and_every_failure(curved):
    lasting = endurance(curved, bending_loads(curved.full), 3.0)
    assert lasting["finite"] and lasting["steps"] == 300 and not lasting["failures"]
    assert lasting["largest_displacement_m"] > 0.01


def test_multiply_adds_grow_with_the_elements(curved):
    counts = []
    for n in (3, 6, 12):
        cubature = Cubature(curved.full, curved.subspace, np.arange(n), np.ones(n))
        counts.append(multiply_adds(CompiledStep(curved.with_elasticity(cubature)).plan(0.01)))
    steps = np.diff(np.array(counts), axis=0)
    np.testing.assert_allclose(steps[1], 2 * steps[0])  # linear: six more cost twice three more
    assert (steps > 0).all()
