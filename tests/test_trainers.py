"""Training: the loop resumes exactly and keeps the best; the autoencoder's metric is that of the time step."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cases import small_beam
from hodsim.optim import GaussNewton, KroneckerFactored, NewtonKrylov
from hodsim.project import Project
from hodsim.snapshots import Snapshots, bending_loads, generate_snapshots, sweep
from hodsim.subspace import Autoencoder, pca, principal_directions
from hodsim.trainers.autoencoder import Training, checkpoint_file, identity, prepare, train_autoencoder
from hodsim.trainers.loop import fit, refine
from hodsim.trainers.team import Team
from hodsim.trainers.terms import Weights

TRAINING = Training(dim=2, hidden=(8, 8), coordinates=8, stride=1, batch=16, epochs=60, learning_rate=3e-3, rounds=1)


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


    def refine(self, rounds, **options):
        optimizer = NewtonKrylov(self.model, curvature=GaussNewton(), preconditioner=KroneckerFactored(), damping=1e-3, memory=0.0, iterations=2)
        return refine(
            self.model, lambda: (self.model(self.x), lambda out: ((out - self.y) ** 2).mean()), optimizer=optimizer, rounds=rounds, steps=1,
            checkpoint=self.checkpoint, identity="toy", **{"validate": lambda: float(self.error(slice(None))), **options},
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


def test_an_interrupted_refinement_ends_exactly_as_an_uninterrupted_one(tmp_path, monkeypatch):
    from hodsim.trainers import loop

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, cut = Toy(tmp_path / "a"), Toy(tmp_path / "b")
    reached = whole.refine(7)
    assert reached.best < 1e-3 * float((whole.y**2).mean())  # from weights of zero

    def interrupt(done, total, best):
        if done == 4:
            raise KeyboardInterrupt

    assert cut.refine(7, progress=interrupt).interrupted
    resumed = Toy(tmp_path / "b")
    assert resumed.refine(7).training == reached.training
    torch.testing.assert_close(resumed.model.weight, whole.model.weight, rtol=0, atol=0)


def test_a_refinement_that_does_not_help_leaves_the_model_as_it_was(tmp_path):
    toy = Toy(tmp_path)
    before = toy.model.weight.detach().clone()
    losses = iter([1.0, 2.0, 3.0, 2.5, 0.0])  # the first is that of the model as it is given
    assert toy.refine(9, validate=lambda: next(losses)).epochs == 3  # it gives up two rounds after the best
    torch.testing.assert_close(toy.model.weight.detach(), before, rtol=0, atol=0)


def test_the_second_stage_keeps_the_subspace_that_its_judge_prefers(snapshots, tmp_path):
    seen, verdicts = [], iter([3.0, 1.0, 2.0, 2.0])

    def judge(subspace):
        seen.append(subspace.decode(np.array([0.5, -0.5])))
        return next(verdicts)

    checkpoint = tmp_path / "c.safetensors"
    subspace, _, refined = train_autoencoder(small_beam(), snapshots, replace(TRAINING, rounds=5), checkpoint=checkpoint, judge=judge)
    assert refined.validation == [1.0, 2.0, 2.0]
    np.testing.assert_array_equal(subspace.decode(np.array([0.5, -0.5])), seen[1])


def test_the_mass_norm_is_the_elastic_metric_of_a_body_without_stiffness(snapshots):
    full = small_beam()
    basis, _ = principal_directions(snapshots.poses(), 8, mass=full.mass)
    data = prepare(full, basis, snapshots.poses()[:3], 0.01, weights=Weights(elastic=0.0), device=torch.device("cpu"), tick=lambda: None)
    roots = data.roots.numpy() / data.roots[0, 0, 0].item()
    np.testing.assert_array_equal(roots, np.broadcast_to(np.eye(8), (3, 8, 8)))
    assert data.coordinates.square().sum(1).mean() * data.roots[0, 0, 0] ** 2 == pytest.approx(1.0)


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
    full, poses = small_beam(), np.asarray(snapshots.poses(), float)
    basis, energies = principal_directions(poses, 8, mass=full.mass)
    subspace = Autoencoder(torch.from_numpy(np.sqrt(energies)), 2, (8, 8)).fold(basis, mass=full.mass, name="untrained")
    reference = pca(poses, 2, mass=full.mass)
    expected = reference.decode(reference.encode(poses))
    np.testing.assert_allclose(subspace.decode(subspace.encode(poses)), expected, atol=1e-9 * np.abs(poses).max())


def test_the_rest_shape_is_the_origin_exactly(snapshots, tmp_path):
    subspace, *_ = train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / "c.safetensors", device=torch.device("cpu"))
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

    for pose, root in zip(poses.astype(float), data.roots.numpy(), strict=True):
        growth = potential(pose + basis @ e) + potential(pose - basis @ e) - 2 * potential(pose)
        np.testing.assert_allclose(np.sum((e @ root) ** 2) * scale, growth, rtol=1e-4)


def test_data_of_another_sweep_are_told_apart_though_cases_have_the_same_names(snapshots):
    full = small_beam()
    other = replace(snapshots, cases=tuple(sweep(train=4, validation=2, seed=1)))
    assert [case.name for case in other.cases] == [case.name for case in snapshots.cases]
    assert identity(full, other, TRAINING) != identity(full, snapshots, TRAINING)
    assert identity(full, snapshots, TRAINING) == identity(full, snapshots, TRAINING)


def test_each_stage_lowers_the_loss(snapshots, tmp_path):
    _, fitted, refined = train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / "c.safetensors", device=torch.device("cpu"))
    assert fitted.epochs == 60 and refined.epochs == 1
    assert fitted.training[-1] < 0.5 * fitted.training[0]  # it starts as PCA
    assert refined.training[-1] < fitted.training[int(np.argmin(fitted.validation))]  # which the second stage starts from


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_agrees_with_the_cpu(snapshots, tmp_path):
    best = [
        train_autoencoder(small_beam(), snapshots, TRAINING, checkpoint=tmp_path / f"{device}.safetensors", device=torch.device(device))[1].best
        for device in ("cpu", "cuda")
    ]
    assert best[1] == pytest.approx(best[0], rel=0.05)


def torchrun(project, processes, *changes):
    """The best validation loss of a training by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "hodsim.trainers.autoencoder", str(project), *(word for change in changes for word in ("--set", change))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    said = re.search(r"validation loss (\S+) after (\d+) epochs in (\d+) processes", run.stdout)
    assert said and int(said[3]) == processes
    return float(said[1]), int(said[2])


def test_two_processes_reach_the_loss_of_one(tmp_path):
    small_beam().mesh.save(tmp_path / "body.msh")
    content = """
mesh = "body.msh"
simulation.steps = 20
sweep = {train = 4, validation = 2, test = 1}
subspace = {latent = 2, hidden = [8, 8], coordinates = 8}
training = {epochs = 7, batch = 15, stride = 1, rounds = 0}
"""
    (tmp_path / "body.toml").write_text(content)
    project = Project.open(tmp_path / "body.toml")
    snapshots = project.generate(workers=1)
    alone = train_autoencoder(project.full, snapshots, Training.of(project), checkpoint=tmp_path / "c.safetensors", device=torch.device("cpu"))[1]
    # 80 poses in batches of 15: the last is of 5, of which one process has 3; six digits are told
    assert torchrun(tmp_path / "body.toml", 2)[0] == pytest.approx(alone.best, rel=1e-6)
    resumed = checkpoint_file(project, 2)
    again = train_autoencoder(project.full, snapshots, Training.of(project), checkpoint=resumed, device=torch.device("cpu"))[1]
    assert again.epochs == 7  # all of them by the two processes: what `hodsim train` finds is done
    np.testing.assert_allclose(again.training, alone.training, rtol=1e-9)


def test_shares_of_a_batch_average_to_its_mean():
    losses = torch.rand(7, dtype=torch.float64)
    for size in (1, 2, 3, 9):
        means = []
        for rank in range(size):
            mine, factor = Team(rank, size).share(torch.arange(7))
            means.append(factor * float(losses[mine].mean()))
        assert np.mean(means) == pytest.approx(float(losses.mean()), rel=1e-12)


def test_mixed_precision_trains_as_well(snapshots, tmp_path):
    best = [
        train_autoencoder(
            small_beam(), snapshots, replace(TRAINING, precision=precision), checkpoint=tmp_path / precision, device=torch.device("cpu")
        )[1].best
        for precision in ("float64", "mixed")
    ]
    assert best[1] == pytest.approx(best[0], rel=0.3)


def test_training_streams_poses_that_stay_in_their_files(snapshots, tmp_path):
    """Arrays that are not kept in memory give the same subspace."""
    full = small_beam()
    streamed = Snapshots.load(snapshots.displacements.sources[0].path.parent, full, memory=0)
    assert not any(source.keep for source in streamed.displacements.sources)
    best = [train_autoencoder(full, data, replace(TRAINING, epochs=3), checkpoint=tmp_path / str(i), device=torch.device("cpu"))[1].best
            for i, data in enumerate((snapshots, streamed))]  # fmt: skip
    assert best[0] == best[1]
