"""Hyper-reduction: the sampled force is still the gradient of a potential, exact where it must be, close where it may not be."""

import numpy as np
import pytest
import scipy.optimize

from cases import curved_subspace, small_beam
from hodsim.dynamics import simulate
from hodsim.fem import NeoHookean, StableNeoHookean, StVK, gravity
from hodsim.reduced import Cubature, ExactElasticity, ReducedModel
from hodsim.reduced.cubature import sparse_nnls
from hodsim.subspace import modal

MATERIALS = [cls(youngs_modulus=1e5, poisson_ratio=0.3) for cls in (StVK, NeoHookean, StableNeoHookean)]


@pytest.fixture(params=MATERIALS, ids=lambda material: type(material).__name__)
def full(request):
    return small_beam(material=request.param)


def poses(full, number=40):
    """Random combinations of the lowest modes, (number, d)."""
    modes = modal(full, 4).basis
    return 0.05 * np.random.default_rng(0).standard_normal((number, 4)) @ modes.T / np.abs(modes).max()


def test_every_element_with_weight_one_is_exact(full):
    subspace = curved_subspace(full)
    everything = np.arange(len(full.mesh.tetrahedra))
    sampled, exact = Cubature(full, subspace, everything, np.ones(len(everything))), ExactElasticity(full, subspace)
    model = ReducedModel(full, subspace)
    for q in 0.3 * np.random.default_rng(0).standard_normal((3, subspace.dim)):
        g, J = model.features.value(q), model.features.motion(q, q).jacobian
        assert sampled.energy(g) == pytest.approx(exact.energy(g), rel=1e-12)
        np.testing.assert_allclose(sampled.force(g), exact.force(g), atol=1e-12 * np.abs(exact.force(g)).max())
        K = exact.stiffness(g, J)
        np.testing.assert_allclose(sampled.stiffness(g, J), K, atol=1e-12 * np.abs(K).max())


def test_force_is_the_gradient_of_a_potential_and_stiffness_its_derivative(full):
    subspace = curved_subspace(full)
    cubature = Cubature.select(full, subspace, poses(full), elements=6)
    identity, step = np.eye(subspace.width), 1e-6
    g = ReducedModel(full, subspace).features.value(np.array([0.2, -0.1, 0.3]))
    slope = [(cubature.energy(g + step * e) - cubature.energy(g - step * e)) / (2 * step) for e in identity]
    np.testing.assert_allclose(cubature.force(g), slope, atol=1e-7 * np.abs(slope).max())
    derivative = np.stack([(cubature.force(g + step * e) - cubature.force(g - step * e)) / (2 * step) for e in identity], axis=1)
    np.testing.assert_allclose(cubature.stiffness(g, identity), derivative, atol=1e-6 * np.abs(derivative).max())


def test_weights_meet_the_tolerance_on_the_poses_with_fewer_elements(full):
    subspace, samples = modal(full, 4), poses(full)
    cubature = Cubature.select(full, subspace, samples, tolerance=0.02)
    exact = ExactElasticity(full, subspace)
    g = subspace.encode(samples)
    defects = [np.linalg.norm(cubature.force(x) - exact.force(x)) / np.linalg.norm(exact.force(x)) for x in g]
    assert np.sqrt(np.mean(np.square(defects))) <= 0.02 * 1.001
    assert len(cubature.chosen) < len(full.mesh.tetrahedra)
    assert (cubature.weights > 0).all()


def test_the_motion_it_was_chosen_on_is_close_to_the_exact_one():
    full = small_beam()
    exact = ReducedModel(full, modal(full, 4))
    force = exact.generalized_force(0.2 * gravity(full))

    def run(model):
        return np.array([state.q for state in simulate(model, model.state(), 0.01, force=force, steps=40)])

    motion = run(exact)
    cubature = Cubature.select(full, exact.subspace, exact.subspace.decode(motion[::4]), tolerance=1e-3)
    assert len(cubature.chosen) < len(full.mesh.tetrahedra)
    assert np.linalg.norm(run(ReducedModel(full, exact.subspace, elasticity=cubature)) - motion) < 0.01 * np.linalg.norm(motion)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_nnls_run_to_the_end_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    G, b = rng.standard_normal((30, 12)), rng.standard_normal(30)
    reference, residual = scipy.optimize.nnls(G, b)
    x = sparse_nnls(G, b, tolerance=1e-12, most=12)
    assert (x >= 0).all()
    assert np.linalg.norm(G @ x - b) == pytest.approx(residual, rel=1e-8)
    np.testing.assert_allclose(x, reference, atol=1e-6)


def test_sparse_nnls_finds_a_sparse_solution_and_keeps_to_a_limit():
    rng = np.random.default_rng(0)
    G = rng.random((50, 200))
    truth = np.zeros(200)
    truth[[3, 77, 150]] = [1.0, 2.0, 0.5]
    x = sparse_nnls(G, G @ truth, tolerance=1e-8, most=200)
    np.testing.assert_allclose(x, truth, atol=1e-6)
    assert np.count_nonzero(sparse_nnls(G, rng.random(50), tolerance=1e-8, most=4)) <= 4


def test_bad_input_is_refused():
    full = small_beam()
    subspace = modal(full, 2)
    with pytest.raises(ValueError, match="weights has shape"):
        Cubature(full, subspace, np.array([1, 2]), np.ones(3))
    with pytest.raises(ValueError, match="none negative"):
        Cubature(full, subspace, np.array([1, 2]), np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="tolerance is 0"):
        Cubature.select(full, subspace, poses(full), tolerance=0.0)
    with pytest.raises(ValueError, match="none of the 3 poses is deformed"):
        Cubature.select(full, subspace, np.zeros((3, full.n_dofs)))
    with pytest.raises(ValueError, match="poses has shape"):
        Cubature.select(full, subspace, np.zeros((3, 7)))
