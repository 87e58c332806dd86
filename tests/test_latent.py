"""The latent dimension that is chosen."""

import pytest
import torch

from cases import small_beam
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.trainers.autoencoder import Training
from hodsim.trainers.latent import Trial, choose, try_dimensions

TRAINING = Training(hidden=(8, 8), coordinates=6, stride=2, batch=16, epochs=3, rounds=1)


def trials(*errors: float) -> list[Trial]:
    return [Trial(dim, error, 10.0 * dim, 1.0) for dim, error in enumerate(errors, 2)]


def test_the_smallest_dimension_that_meets_the_target_is_chosen():
    assert choose(trials(0.5, 0.04, 0.009, 0.005), 0.01).dim == 4


def test_without_a_target_that_can_be_met_the_smallest_that_is_nearly_as_good_as_the_best():
    assert choose(trials(0.5, 0.04, 0.012, 0.01)).dim == 4
    assert choose(trials(0.5, 0.04, 0.012, 0.01), 0.001).dim == 4
    assert choose(trials(0.5, 0.04, 0.02, 0.01)).dim == 5


def test_each_dimension_is_trained_judged_and_timed_until_the_target_is_met(tmp_path):
    full = small_beam()
    shapes = bending_loads(full)
    torch.manual_seed(0)
    made = generate_snapshots(full, shapes, sweep(train=3, validation=1), dt=0.01, steps=20, directory=tmp_path / "snapshots")
    judged, told = [], []

    def judge(subspace):
        judged.append(subspace.dim)
        return {1: 0.3, 2: 0.05, 3: 0.01}[subspace.dim]

    def run(target=None, dimensions=(1, 2, 3, 6)):
        options = {"folder": tmp_path / "latent", "dimensions": dimensions, "target": target}
        return try_dimensions(full, made, shapes, TRAINING, judge, progress=lambda *seen: told.append(seen), **options)

    found = run()  # 6 are no fewer than the coordinates
    assert [(trial.dim, trial.error) for trial in found] == [(1, 0.3), (2, 0.05), (3, 0.01)]
    assert set(judged) == {1, 2, 3} and all(trial.microseconds > 0 for trial in found)
    assert [seen[0] for seen in told] == [1, 2, 3]
    assert [trial.dim for trial in run(target=0.1)] == [1, 2]
    assert choose(found).dim == 3
    with pytest.raises(ValueError, match="validation"):
        try_dimensions(full, made.split("train"), shapes, TRAINING, judge, folder=tmp_path / "none", dimensions=(1,))
