"""The terms of the autoencoder's loss: what each is, by a second way, and that both stages of a training can lower it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from cases import small_beam
from hodsim.multicomplex import derivative, jacobian
from hodsim.multicomplex.parameters import gauss_newton_vector_product
from hodsim.project import Project, Settings
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import Autoencoder, principal_directions
from hodsim.trainers.autoencoder import Training, loss, prepare, train_autoencoder
from hodsim.trainers.terms import TERMS, Poses, Residuals, Scales, Weights, poses_of, shift, solved

P, R, N = 7, 3, 5
ALONE = [Weights(elastic=0.0), Weights(), *(Weights(**{name: 1.0}) for name in TERMS)]
NAMES = ["mass", "elastic", *TERMS]


def positive(generator, *shape):
    A = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return A @ A.mT + torch.eye(shape[-1], dtype=torch.float64)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def poses(generator) -> Poses:
    z, dz = torch.randn(2, N, P, dtype=torch.float64, generator=generator)
    return poses_of(z, dz, positive(generator, N, P, P), dt=0.5, elastic=1.0)


@pytest.fixture
def model(generator) -> Autoencoder:
    """With weights that no start has left at zero."""
    net = Autoencoder(torch.ones(P, dtype=torch.float64), R, (6, 5))
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return net


def test_directions_are_carried_as_the_derivative_engine_carries_them(model, poses):
    z, dz = poses.coordinates, poses.velocities
    q, dq = model.encoder.along(z, dz[:, None])
    torch.testing.assert_close(q, model.encoder(z))
    torch.testing.assert_close(dq[:, 0], derivative(model.encoder, z, dz))
    axes = torch.eye(R, dtype=torch.float64).expand(N, -1, -1)
    decoded, JT = model.decode_along(q, axes)
    torch.testing.assert_close(decoded, model.decode(q))
    torch.testing.assert_close(JT.mT, jacobian(model.decode, q))


def test_elimination_solves_as_lapack_does(generator):
    A, b = positive(generator, N, R, R), torch.randn(N, R, 2, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(solved(A, b), torch.linalg.solve(A, b))


def test_the_shift_keeps_what_lies_along_the_subspace_whatever_its_coordinates(generator, poses):
    """P is the K-orthogonal projection onto the range of J where omega vanishes."""
    K = poses.stiffnesses
    JT, B = torch.randn(N, R, P, dtype=torch.float64, generator=generator), positive(generator, N, R, R)
    e = torch.randn(N, P, dtype=torch.float64, generator=generator)
    along = torch.bmm(e[:, None, :R], JT)[:, 0]
    torch.testing.assert_close(shift(JT, K, along, 0.0), along)
    rest = e - shift(JT, K, e, 0.0)
    torch.testing.assert_close(torch.bmm(torch.bmm(JT, K), rest[..., None]), torch.zeros(N, R, 1, dtype=torch.float64))
    torch.testing.assert_close(shift(B @ JT, K, e, 0.7), shift(JT, K, e, 0.7))


@pytest.mark.parametrize("weights", [w for w in ALONE if not w.contractive], ids=[n for n in NAMES if n != "contractive"])
def test_a_subspace_that_holds_the_motion_costs_nothing(poses, weights):
    """The untrained network is PCA: exact for motions in its first r coordinates."""
    z, dz, K = poses.coordinates.clone(), poses.velocities.clone(), poses.stiffnesses
    z[:, R:], dz[:, R:] = 0, 0
    held = poses_of(z, dz, K, dt=0.5, elastic=weights.elastic)
    residuals = Residuals(Autoencoder(torch.arange(1.0, P + 1).double(), R, (6, 5)), weights, Scales.of(held))
    assert float(loss(residuals(*held)).detach()) < 1e-28


@pytest.mark.parametrize("weights", ALONE, ids=NAMES)
def test_gradients_match_central_differences(model, poses, weights):
    residuals = Residuals(model, weights, Scales.of(poses))
    parameters = list(model.parameters())
    gradient = parameters_to_vector(torch.autograd.grad(loss(residuals(*poses)), parameters))
    w = parameters_to_vector(parameters).detach()
    v = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step, values = 1e-6, []
    for signed in (step, -step):
        vector_to_parameters(w + signed * v, parameters)
        values.append(float(loss(residuals(*poses)).detach()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient @ v), rel=1e-7)


@pytest.mark.parametrize("weights", ALONE, ids=NAMES)
def test_gauss_newton_products_of_all_residuals_are_those_of_their_jacobian(model, poses, weights):
    """What the second stage needs: parameters may be perturbed beneath each term."""
    residuals = Residuals(model, weights, Scales.of(poses))
    parameters = dict(model.named_parameters())
    v = {name: torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for name, p in parameters.items()}
    product = gauss_newton_vector_product(lambda _: residuals(*poses), loss, model, v)

    def rows(values):
        with torch.no_grad():
            for p, value in zip(parameters.values(), values, strict=True):
                p.copy_(value)
        return residuals(*poses)

    point, h = [p.detach().clone() for p in parameters.values()], 1e-6
    moved = [rows([w + s * h * d for w, d in zip(point, v.values(), strict=True)]).detach() for s in (1, -1)]
    change = (moved[0] - moved[1]) / (2 * h)
    expected = torch.autograd.grad(rows(point), list(parameters.values()), 2 * change / N)
    for found, wanted in zip(product.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_the_contractive_term_is_the_square_of_the_encoders_jacobian(model, poses):
    scales = Scales.of(poses)
    rows = Residuals(model, Weights(contractive=1.0), scales)(*poses)[:, P:]
    expected = (jacobian(model.encoder, poses.coordinates) * scales.spread).square().sum((1, 2)) / R
    torch.testing.assert_close(rows.square().sum(1), expected)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    full = small_beam()
    cases = sweep(train=4, validation=2)
    return generate_snapshots(full, bending_loads(full), cases, dt=0.01, steps=20, directory=tmp_path_factory.mktemp("snapshots"))


def test_a_pose_in_error_is_pushed_along_the_subspace_by_what_the_force_term_reads(snapshots):
    """J^T (f_int(u + Phi e) - f_int(u)) = J^T K e + O(e^2): halving e quarters the difference."""
    full = small_beam()
    basis, _ = principal_directions(snapshots.poses(), P, mass=full.mass)
    pose, = snapshots.poses()[9:10].astype(float)
    prepared = prepare(full, basis, pose[None], 0.01, device=torch.device("cpu"), tick=lambda: None)
    rng = np.random.default_rng(0)
    J, e = basis @ rng.standard_normal((P, R)), 1e-4 * rng.standard_normal(P)

    def missed(e):
        spurious = J.T @ (full.internal_force(pose + basis @ e) - full.internal_force(pose))
        return np.linalg.norm(spurious - (J.T @ full.mass @ basis) @ (prepared.stiffnesses[0].numpy() @ e))

    assert missed(e) / missed(e / 2) == pytest.approx(4, rel=0.05)


def test_both_stages_lower_the_loss_of_all_terms(snapshots, tmp_path):
    weights = Weights(velocity=0.1, force=0.1, tangent=0.1, contractive=1e-3)
    training = Training(dim=2, hidden=(8, 8), coordinates=8, stride=1, batch=16, epochs=20, rounds=1, weights=weights)
    _, fitted, refined = train_autoencoder(small_beam(), snapshots, training, checkpoint=tmp_path / "c.safetensors")
    assert fitted.training[-1] < 0.7 * fitted.training[0]
    assert refined.training[-1] < 0.7 * fitted.training[0]  # from the epoch of the best validation loss, an early one of so few poses


def test_velocities_that_a_term_asks_for_must_be_given(snapshots):
    full = small_beam()
    basis, _ = principal_directions(snapshots.poses(), P, mass=full.mass)
    with pytest.raises(ValueError, match="ask for velocities"):
        prepare(full, basis, snapshots.poses()[:2], 0.01, weights=Weights(velocity=1.0), device=torch.device("cpu"), tick=lambda: None)


def test_a_project_switches_terms(tmp_path):
    project = Project(Settings.model_validate_json('{"mesh": "a.msh", "training": {"terms": {"tangent": 0.5, "elastic": 0}}}'), tmp_path)
    assert Training.of(project).weights == replace(Weights(), tangent=0.5, elastic=0.0)
