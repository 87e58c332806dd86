"""Hyper-reduction: the sampled force is still the gradient of a potential, exact where it must be, close where it may not be."""

import tracemalloc

import numpy as np
import pytest
import scipy.optimize

from cases import curved_subspace, small_beam
from hodsim.dynamics import simulate
from hodsim.fem import NeoHookean, StableNeoHookean, StVK, gravity
from hodsim.reduced import Cubature, ExactElasticity, ReducedModel
from hodsim.reduced import cubature as module
from hodsim.reduced.cubature import sparse_fits
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


def test_residual_is_that_of_the_exact_forces(full):
    subspace, samples = curved_subspace(full), 0.2 * poses(full)  # small: reconstructions must not be inverted
    features = ReducedModel(full, subspace).features
    cubature = Cubature.select(full, subspace, samples[:20], elements=5)
    for target in ("true", "manifold"):
        squares = []
        for u in samples[20:]:
            q = subspace.encode(u)
            J = subspace.basis @ features.motion(q, np.zeros_like(q)).jacobian
            u = subspace.decode(q) if target == "manifold" else u
            forces, exact = full.generalized_element_forces(u, J), J.T @ full.internal_force(u)
            squares.append(np.sum((forces[:, cubature.chosen] @ cubature.weights - exact) ** 2) / np.sum(exact**2))
        assert cubature.residual(samples[20:], target=target) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-10)


def test_residual_is_the_one_at_which_the_selection_ended():
    full = small_beam()
    subspace, samples = curved_subspace(full), poses(full)
    for target in ("true", "manifold"):
        cubature = Cubature.select(full, subspace, samples, tolerance=0.05, target=target)
        without_one = Cubature.select(full, subspace, samples, elements=len(cubature.chosen) - 1, target=target)
        assert cubature.residual(samples, target=target) <= 0.05 * (1 + 1e-6) < without_one.residual(samples, target=target)


def test_a_path_improves_with_size_and_ends_where_select_does():
    full = small_beam()
    subspace, samples = curved_subspace(full), poses(full)
    path = Cubature.path(full, subspace, samples, sizes=(2, 3, 5, 8))
    assert [len(cubature.chosen) for cubature in path] == [2, 3, 5, 8]
    residuals = [cubature.residual(samples) for cubature in path]
    assert all(later < earlier for earlier, later in zip(residuals, residuals[1:], strict=False))
    alone = Cubature.select(full, subspace, samples, tolerance=1e-12, elements=8)
    np.testing.assert_array_equal(path[-1].chosen, alone.chosen)
    np.testing.assert_array_equal(path[-1].weights, alone.weights)


def test_a_path_ends_where_no_element_helps_any_more():
    full = small_beam()
    path = Cubature.path(full, modal(full, 2), poses(full, 2), sizes=(1, 3, 1000))  # 4 equations: 4 elements are enough
    assert len(path) == 3 and len(path[-1].chosen) <= 4
    assert path[-1].residual(poses(full, 2)) < 1e-5  # the forces are kept in single precision


def test_the_targets_agree_on_the_manifold_and_not_off_it():
    full = small_beam()
    subspace = modal(full, 4)
    on = subspace.decode(subspace.encode(poses(full)))
    one, other = (Cubature.select(full, subspace, on, elements=6, target=target) for target in ("true", "manifold"))
    np.testing.assert_array_equal(one.chosen, other.chosen)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-4)  # single precision, and neighbours that are nearly the same
    off = on + 1e-2 * np.random.default_rng(1).standard_normal(on.shape)
    cubature = Cubature.select(full, subspace, off, tolerance=1e-3, target="manifold")
    assert cubature.residual(off, target="manifold") <= 1e-3 * (1 + 1e-6) < 0.01 < cubature.residual(off)


def test_forces_too_large_for_memory_give_the_same_elements_from_a_file(monkeypatch):
    full = small_beam()
    subspace = curved_subspace(full)
    in_memory = Cubature.select(full, subspace, poses(full), elements=6)
    monkeypatch.setattr(module, "LARGEST_IN_MEMORY", 0)
    from_file = Cubature.select(full, subspace, poses(full), elements=6)
    np.testing.assert_array_equal(from_file.chosen, in_memory.chosen)
    np.testing.assert_array_equal(from_file.weights, in_memory.weights)


def last(fits):
    *_, fit = fits
    return fit


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(30, 12), (40, 400)])
def test_sparse_fits_run_to_the_end_agree_with_scipy(seed, shape):
    rng = np.random.default_rng(seed)
    G = rng.standard_normal(shape) + 0.1
    b = G.sum(axis=1) + rng.standard_normal(shape[0]) * np.sqrt(shape[1])
    try:
        reference, residual = scipy.optimize.nnls(G, b)
    except RuntimeError as error:  # of SciPy 1.12, on wide matrices
        pytest.skip(f"SciPy {scipy.__version__} does not get to its own end: {error}")
    fit = last(sparse_fits(G, b))
    assert (fit.weights > 0).all()
    x = np.zeros(shape[1])
    x[fit.columns] = fit.weights
    assert np.linalg.norm(G @ x - b) == pytest.approx(residual, rel=1e-8, abs=1e-9 * np.linalg.norm(b))
    if shape[0] > shape[1]:  # else the solution is not unique
        np.testing.assert_allclose(x, reference, atol=1e-6)


def test_sparse_fits_lower_the_residual_at_each_step_and_are_the_best_on_their_columns():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((60, 500)) ** 3 + 0.2
    b, before = G.sum(axis=1), np.inf
    for fit in sparse_fits(G, b):
        assert fit.residual < before
        before = fit.residual
        best, residual = scipy.optimize.nnls(G[:, fit.columns], b)
        np.testing.assert_allclose(fit.weights, best, rtol=1e-6, atol=1e-6 * best.max())
        assert fit.residual == pytest.approx(residual / np.linalg.norm(b), rel=1e-6, abs=1e-9)


def test_sparse_fits_find_a_sparse_solution():
    rng = np.random.default_rng(0)
    G = rng.random((50, 200))
    truth = np.zeros(200)
    truth[[3, 77, 150]] = [1.0, 2.0, 0.5]
    fit = next(fit for fit in sparse_fits(G, G @ truth) if fit.residual < 1e-8)
    x = np.zeros(200)
    x[fit.columns] = fit.weights
    np.testing.assert_allclose(x, truth, atol=1e-6)


def test_sparse_fits_copy_only_the_columns_in_use():
    rng = np.random.default_rng(0)
    G = rng.standard_normal((100, 50_000)).astype(np.float32)  # 20 MB; G^T G would take 10 GB
    b = G[:, ::50].sum(axis=1).astype(float)
    tracemalloc.start()
    fit = next(fit for fit in sparse_fits(G, b) if len(fit.columns) == 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fit.residual < 1
    assert peak < 2e6  # the slope along each column and a few small arrays


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
    with pytest.raises(ValueError, match="none of the 3 poses is deformed"):
        Cubature.select(full, subspace, poses(full)).residual(np.zeros((3, full.n_dofs)))
    with pytest.raises(ValueError, match="target is 'both'; expected 'true' or 'manifold'"):
        Cubature.select(full, subspace, poses(full), target="both")  # type: ignore[arg-type]
    for sizes in ((), (0, 2), (3, 3)):
        with pytest.raises(ValueError, match="expected whole numbers of at least 1 in increasing order"):
            Cubature.path(full, subspace, poses(full), sizes=sizes)
