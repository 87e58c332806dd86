"""What the tests of the viewer share: a model file of a small body."""

from pathlib import Path

import pytest

from cases import curved_subspace, small_beam
from hodsim.subspace import Model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    full = small_beam()
    return Model(full, curved_subspace(full), {"dt": 0.01}).save(tmp_path_factory.mktemp("model") / "beam.hod")
