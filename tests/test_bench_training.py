"""The ablation of the training: each part is a row, and a row that is done is not done again."""

from functools import partial

import numpy as np
import pytest

from cases import small_beam
from hodsim.benchmarks import training as ablation
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.trainers.autoencoder import Training


@pytest.fixture
def snapshots(tmp_path):
    full = small_beam()
    cases = sweep(train=4, validation=1, test=1)
    return generate_snapshots(full, bending_loads(full), cases, dt=0.01, steps=10, directory=tmp_path / "snapshots")


def reconstruction_error(full, snapshots, shapes, subspace) -> float:
    """In place of simulations, which would have to be compiled."""
    poses = np.asarray(snapshots.poses(), float)
    return float(np.linalg.norm(subspace.decode(subspace.encode(poses)) - poses) / np.linalg.norm(poses))


def test_every_part_has_a_row_that_is_kept(snapshots, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "Training", partial(Training, dim=2, hidden=(8, 8), coordinates=8, batch=16, stride=1))
    monkeypatch.setattr(ablation, "subspace_error", reconstruction_error)
    seen = []
    rows = ablation.compare(small_beam(), snapshots, tmp_path, True, lambda done, total: seen.append((done, total)))
    names = [row["name"] for row in rows]
    assert names[:5] == ["as it is", "Adam alone", "Adam for longer", "chosen by loss", "mass norm"]
    assert names[5:] == [f"with {term}" for term in ablation.TERMS]
    assert seen == [(i, len(rows)) for i in range(1, len(rows) + 1)]
    by_name = {row["name"]: row for row in rows}
    assert by_name["Adam alone"]["rounds"] == 0 < by_name["as it is"]["rounds"]
    text = ablation.table({"quick": True, "variants": rows})
    assert all(f"| {name} |" in text for name in names) and "Rough" in text
    assert ablation.figure({"variants": rows})[:4] == b"\x89PNG"

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "train_autoencoder", refuse)
    assert ablation.compare(small_beam(), snapshots, tmp_path, True) == rows
