"""The cubic polynomial force of StVK against the elements that it replaces."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.fem import StableNeoHookean
from hodsim.reduced import CubicForce, ExactElasticity
from hodsim.subspace import modal


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_is_the_exact_elasticity(kind):
    full = small_beam()
    subspace = modal(full, 5) if kind == "linear" else curved_subspace(full)
    exact, cubic = ExactElasticity(full, subspace), CubicForce(full, subspace)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        q = 5 * rng.standard_normal(subspace.dim)
        g, J = subspace.features(q), rng.standard_normal((subspace.width, 3))
        u = subspace.decode(q)
        assert np.abs(u).max() > 0.05  # far from small strain
        force, stiffness = exact.force(g), exact.stiffness(g, J)
        np.testing.assert_allclose(cubic.energy(g), exact.energy(g), rtol=1e-11)
        np.testing.assert_allclose(cubic.force(g), force, atol=1e-11 * np.abs(force).max())
        np.testing.assert_allclose(cubic.stiffness(g, J), stiffness, atol=1e-11 * np.abs(stiffness).max())


def test_another_material_is_refused():
    full = small_beam(material=StableNeoHookean(youngs_modulus=1e5, poisson_ratio=0.3))
    with pytest.raises(ValueError, match="StableNeoHookean is no polynomial; CubicForce expects StVK"):
        CubicForce(full, modal(full, 3))
