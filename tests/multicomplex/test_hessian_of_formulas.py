"""Hessians of formulas that index and multiply entries of x, in every mode, against nested torch.func (found wrong by the core author:
mode="backward" and "auto" lose the products of indexed entries and the batch axis)."""

import pytest
import torch

from hodsim.multicomplex import hessian

FORMULAS = {
    "product": lambda x: (x[..., 0] * x[..., 1]).unsqueeze(-1),
    "triple product": lambda x: (x[..., 0] * (x[..., 1] * x[..., 2] - x[..., 3] * x[..., 4])).unsqueeze(-1),
    "log of a product": lambda x: torch.log(x[..., 0] * x[..., 4]).unsqueeze(-1),
    "squared norm": lambda x: (x.reshape(*x.shape[:-1], 3, 3) ** 2).sum((-2, -1)).unsqueeze(-1),
    "log of a norm": lambda x: torch.log((x * x).sum(-1, keepdim=True) + 1),
    "Green strain": lambda x: _strain_energy(x.reshape(*x.shape[:-1], 3, 3)).unsqueeze(-1),
}


def _strain_energy(F):
    E = F.transpose(-1, -2) @ F - torch.eye(3, dtype=F.dtype)
    return (E * E).sum((-2, -1))


@pytest.mark.parametrize("mode", ["forward", "backward", "auto"])
@pytest.mark.parametrize("name", FORMULAS)
def test_matches_nested_differentiation(name, mode):
    f = FORMULAS[name]
    x = torch.eye(3, dtype=torch.float64).reshape(9) + 0.1 * torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.func.vmap(torch.func.hessian(f))(x)
    H = hessian(f, x, mode=mode).detach()
    assert H.shape == expected.shape
    torch.testing.assert_close(H, expected, rtol=1e-13, atol=1e-13)
