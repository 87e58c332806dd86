"""The contractive ratio of encoders whose ratio is known."""

import pytest
import torch
from torch import nn

from hodsim.contractive import contractive_ratio


def linear(matrix):
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = matrix
    return layer


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_a_multiple_of_a_rotation_has_ratio_one_at_every_radius(scale):
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    x, radii = torch.randn(20, 6, generator=generator, dtype=torch.float64), torch.tensor([0.1, 1.0, 10.0])
    found = contractive_ratio(linear(scale * rotation), x, radii, generator=generator)
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_an_encoder_that_ignores_directions_without_data_contracts_by_their_share():
    """Data in 4 of 400 dimensions, a projection onto them: |P u| has mean E|g_4| / E|g_400|, 0.094 (chi means: 1.880 and 19.987)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(500, 400, dtype=torch.float64)
    x[:, :4] = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    found = contractive_ratio(linear(torch.eye(4, 400, dtype=torch.float64)), x, torch.tensor([0.5]), draws=20, generator=generator)
    assert float(found) == pytest.approx(1.880 / 19.987, rel=0.02)  # 10 000 draws of relative deviation 0.36: 0.4 percent


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="x holds 1 sample"):
        contractive_ratio(linear(torch.eye(2, dtype=torch.float64)), torch.zeros(1, 2, dtype=torch.float64), torch.tensor([1.0]))
