"""The compiled features against the multicomplex engine, and against a deep network's nested differentiation."""

import numpy as np
import pytest
import torch

from hodsim.reduced.features import NetworkFeatures
from hodsim.reduced.kernel import CompiledFeatures
from hodsim.subspace.autoencoder import Trunk


@pytest.fixture(params=[(1, (5,)), (6, (32, 32)), (3, (8, 16, 4)), (20, (24, 24))], ids=str)
def trunk(request):
    dim, hidden = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trunk(dim, hidden).requires_grad_(False)


@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
def test_compiled_features_match_the_engine(trunk, size):
    rng = np.random.default_rng(0)
    q, v = size * rng.standard_normal((2, trunk.dim))
    reference, compiled = NetworkFeatures(trunk, trunk.dim), CompiledFeatures(trunk)

    def assert_equal(received, expected):
        # a sum of up to 64 rounded products in another order
        np.testing.assert_allclose(received, expected, rtol=1e-12, atol=1e-13 * max(1, np.abs(expected).max()))

    assert_equal(compiled.value(q), reference.value(q))
    assert_equal(compiled.hessian(q), reference.hessian(q))
    for received, expected in zip(vars(compiled.motion(q, v)).values(), vars(reference.motion(q, v)).values(), strict=True):
        assert_equal(received, expected)


def test_saturated_units_have_no_nan(trunk):
    features = CompiledFeatures(trunk)
    motion = features.motion(np.full(trunk.dim, 1e4), np.ones(trunk.dim))
    assert all(np.isfinite(value).all() for value in vars(motion).values())
    assert np.isfinite(features.hessian(np.full(trunk.dim, -1e4))).all()
