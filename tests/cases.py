"""Small bodies and subspaces that several test files share."""

from functools import lru_cache

import numpy as np
import torch

from bodies import small_beam  # noqa: F401
from hodsim.fem import FullModel
from hodsim.subspace import Autoencoder, Subspace, quadratic, vibrations


@lru_cache
def curved_subspace(full: FullModel, dim: int = 3, *, seed: int = 0, strength: float = 0.3) -> Subspace:
    """An untrained network subspace around the lowest modes, strongly curved: q of order one is a displacement of order 0.1 m."""
    modes, _ = vibrations(full, 2 * dim + 2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Autoencoder(torch.full((modes.shape[1],), 0.02, dtype=torch.float64), dim, (8, 8))
        torch.nn.init.normal_(network.last.weight[:, dim:], std=0.02 * strength)
        for layer in network.trunk.h:
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=1.0)
    return network.fold(modes / np.sqrt(np.diag(modes.T @ (full.mass @ modes))), mass=full.mass, name="curved")


@lru_cache
def quadratic_subspace(full: FullModel, dim: int = 3) -> Subspace:
    """A quadratic manifold through poses that bend as the square of their modes."""
    modes, _ = vibrations(full, 2 * dim)
    q = np.random.default_rng(0).standard_normal((200, dim)) * 2.0 ** -np.arange(dim)
    poses = 0.02 * np.concatenate([q, 0.5 * q**2], axis=1) @ (modes / np.abs(modes).max(axis=0)).T
    return quadratic(poses[:150], dim, mass=full.mass, validation=poses[150:])
