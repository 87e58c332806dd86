"""Trunks of every depth through the compiled step, against the multicomplex engine, and far outside what they were trained for."""

import numpy as np
import pytest
import torch

from cases import small_beam
from hodsim.reduced import CompiledStep, ReducedModel, kernel
from hodsim.subspace import Subspace, vibrations
from hodsim.subspace.autoencoder import Trunk
from hodsim.subspace.quadratic import Squares


@pytest.fixture(params=[(1, (5,)), (6, (32, 32)), (3, (8, 16, 4)), (20, (24, 24)), (1, "squares"), (4, "squares"), (6, "squares")], ids=str)
def reduced(request):
    dim, hidden = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = (Squares(dim) if hidden == "squares" else Trunk(dim, hidden)).requires_grad_(False)
    full = small_beam()
    modes, _ = vibrations(full, dim)
    basis = np.concatenate([modes, 1e-3 * np.random.default_rng(0).standard_normal((full.n_dofs, trunk.width - dim))], axis=1)
    return ReducedModel(full, Subspace("random", dim, np.zeros(full.n_dofs), basis, modes.T @ full.mass, trunk, None))


def evaluated(reduced, q, v0, a0, s1, s2):
    r = reduced.subspace.dim
    R, T = np.empty(r), np.empty((r, r))
    plan = CompiledStep(reduced, form="euler-lagrange").plan(0.01)
    kernel.evaluate(plan, kernel.Equation(kernel.EULER_LAGRANGE, s1, s2, v0, a0, np.zeros(len(plan.pull))), q, R, T)
    return R, T


@pytest.mark.parametrize("size", [0.0, 0.3, 3.0])
def test_residual_and_tangent_match_the_engine(reduced, size):
    q, v, a = size * np.random.default_rng(1).standard_normal((3, reduced.subspace.dim))
    force = np.zeros(reduced.subspace.width)
    for received, expected in zip(
        evaluated(reduced, q, v - 2 * q, a - 30 * q, 2.0, 30.0),
        (reduced.residual(q, v, a, force), reduced.tangent_matrix(q, v, a, 2.0, 30.0, force)),
        strict=True,
    ):
        np.testing.assert_allclose(received, expected, atol=1e-12 * max(1e-6, np.abs(expected).max()))


def test_saturated_units_have_no_nan(reduced):
    for sign in (-1, 1):
        R, T = evaluated(reduced, np.full(reduced.subspace.dim, sign * 1e4), *np.ones((2, reduced.subspace.dim)), 1.0, 1.0)
        assert np.isfinite(R).all() and np.isfinite(T).all()
