"""Training: the loop resumes exactly and keeps the best; the autoencoder's metric is that of the time step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cases import small_beam
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import Autoencoder, pca, principal_directions
from hodsim.trainers.autoencoder import Training, identity, prepare, train_autoencoder
from hodsim.trainers.loop import fit

TRAINING = Training(dim=2, hidden=(8, 8), coordinates=8, stride=1, batch=16, epochs=60, learning_rate=3e-3)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    full = small_beam()
    cases = sweep(train=4, validation=2)
    return generate_snapshots(full, bending_loads(full), cases, dt=0.01, steps=20, directory=tmp_path_factory.mktemp("snapshots"))


class Toy:
    """A linear regression with noise-free data."""

    def __init__(self, tmp_path):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(50, 3, dtype=torch.float64, generator=generator)
        self.y = self.x @ torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        self.checkpoint = tmp_path / "checkpoint.safetensors"
        self.model = torch.nn.Linear(3, 1, dtype=torch.float64)
        torch.nn.init.zeros_(self.model.weight)
        torch.nn.init.zeros_(self.model.bias)

    def error(self, indices):
        return ((self.model(self.x[indices]) - self.y[indices]) ** 2).mean()

    def fit(self, epochs=20, *, identity="toy", **options):
        options.setdefault("validate", lambda: float(self.error(slice(None))))
        return fit(
            self.model, self.error, samples=50, optimizer=torch.optim.Adam(self.model.parameters()), rate=lambda done: 0.1 * (1 - done),
            epochs=epochs, batch=7, seed=3, checkpoint=self.checkpoint, identity=identity, **options,
        )  # fmt: skip


def test_the_loop_fits_a_linear_model(tmp_path):
    toy = Toy(tmp_path)
    toy.fit(150)
    np.testing.assert_allclose(toy.model.weight.detach(), [[1, 2, 3]], atol=1e-3)


def test_an_interrupted_training_ends_exactly_as_an_uninterrupted_one(tmp_path, monkeypatch):
    from hodsim.trainers import loop

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, cut = Toy(tmp_path / "a"), Toy(tmp_path / "b")
    whole.fit(20)

    def interrupt(done, total, best):
        if done == 8:
            raise KeyboardInterrupt

    first = cut.fit(20, progress=interrupt)
    assert first.interrupted and first.epochs == 8
    resumed = Toy(tmp_path / "b")
    second = resumed.fit(20)
    assert second.epochs == 20 and not second.interrupted
    torch.testing.assert_close(resumed.model.weight, whole.model.weight, rtol=0, atol=0)


def test_the_best_weights_are_kept_not_the_last(tmp_path):
    toy = Toy(tmp_path)
    losses = iter([3.0, 1.0, 2.0, 5.0])
    seen = []
    toy.fit(4, validate=lambda: (seen.append(toy.model.weight.detach().clone()), next(losses))[1])
    torch.testing.assert_close(toy.model.weight.detach(), seen[1], rtol=0, atol=0)


def test_a_checkpoint_of_other_settings_is_started_over(tmp_path):
    toy = Toy(tmp_path)
    toy.fit(5)
    assert toy.fit(5, identity="another").epochs == 5
    assert Toy(tmp_path).fit(6, identity="toy").epochs == 6


def test_a_corrupt_checkpoint_is_named(tmp_path):
    toy = Toy(tmp_path)
    toy.checkpoint.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is corrupt .* delete it"):
        toy.fit(2)


def test_a_loss_that_is_not_finite_ends_the_training_in_words(tmp_path):
    toy = Toy(tmp_path)
    toy.y[3] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss of epoch 1 is nan; try a smaller learning rate"):
        toy.fit(2)


def test_an_untrained_autoencoder_is_pca(snapshots):
    full, poses = small_beam(), snapshots.poses().astype(float)
    basis, energies = principal_directions(poses, 8, mass=full.mass)
    subspace = Autoencoder(torch.from_numpy(np.sqrt(energies)), 2, (8, 8)).fold(basis, mass=full.mass, name="untrained")
    reference = pca(poses, 2, mass=full.mass)
    expected = reference.decode(reference.encode(poses))
    np.testing.assert_allclose(subspace.decode(subspace.encode(poses)), expected, atol=1e-9 * np.abs(poses).max())


def test_the_rest_shape_is_the_origin_exactly(snapshots, tmp_path):
    subspace, _ = train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / "c.safetensors", device=torch.device("cpu"))
    np.testing.assert_allclose(subspace.decode(np.zeros(2)), 0, atol=1e-15)


def test_the_metric_is_the_growth_of_the_incremental_potential(snapshots):
    """e^T A e is, to second order, twice what an error e of the coordinates adds to |u|_M^2 / (2 dt^2) + V(u) beyond its slope."""
    full, dt = small_beam(), 0.01
    poses = snapshots.poses()[5:8]
    basis, _ = principal_directions(snapshots.poses(), 8, mass=full.mass)
    data = prepare(full, basis, poses, dt, device=torch.device("cpu"), tick=lambda: None)
    scale = np.mean(np.sum((poses @ (full.mass @ basis)) ** 2, axis=1)) / dt**2
    e = 1e-4 * np.random.default_rng(0).standard_normal(8)

    def potential(u):
        return u @ (full.mass @ u) / (2 * dt**2) + full.elastic_energy(u)

    for pose, metric in zip(poses.astype(float), data.metric.numpy(), strict=True):
        growth = potential(pose + basis @ e) + potential(pose - basis @ e) - 2 * potential(pose)
        np.testing.assert_allclose(e @ metric @ e * scale, growth, rtol=1e-4)


def test_data_of_another_sweep_are_told_apart_though_cases_have_the_same_names(snapshots):
    full = small_beam()
    other = replace(snapshots, cases=tuple(sweep(train=4, validation=2, seed=1)))
    assert [case.name for case in other.cases] == [case.name for case in snapshots.cases]
    assert identity(full, other, TRAINING) != identity(full, snapshots, TRAINING)
    assert identity(full, snapshots, TRAINING) == identity(full, snapshots, TRAINING)


def test_contractive_weights_are_relative_to_the_encoder_of_pca(snapshots, tmp_path):
    """Untrained, the encoder is PCA's: the terms add jacobian_weight times one and, it being linear, hessian_weight times zero."""
    full, still = small_beam(), replace(TRAINING, epochs=1, learning_rate=0.0)
    contractive = replace(still, jacobian_weight=0.3, hessian_weight=0.7)
    plain, penalised = (
        train_autoencoder(full, snapshots, t, checkpoint=tmp_path / f"{t.jacobian_weight}", device=torch.device("cpu"))[1].training[0]
        for t in (still, contractive)
    )
    assert penalised - plain == pytest.approx(0.3, rel=1e-9)
    assert identity(full, snapshots, still) != identity(full, snapshots, contractive)
    assert "jacobian_weight" not in identity(full, snapshots, still)  # a model from before there were weights is still up to date


def test_training_lowers_the_loss(snapshots, tmp_path):
    _, fitted = train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / "c.safetensors", device=torch.device("cpu"))
    assert fitted.epochs == 60
    assert fitted.training[-1] < 0.5 * fitted.training[0]  # it starts as PCA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_agrees_with_the_cpu(snapshots, tmp_path):
    best = [
        train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / f"{device}.safetensors", device=torch.device(device))[1].best
        for device in ("cpu", "cuda")
    ]
    assert best[1] == pytest.approx(best[0], rel=0.05)
