"""The HoD-Net autoencoder: z -> q -> z in the coordinates z of an M-orthonormal basis Phi (d, p) of the snapshots.

    encoder   q = S^-1 z[:r] + e(z)               skip by the whitened principal components
    decoder   z = L (g(q) - g(0)),  g(q) = [q, h(q)]   linear skip, linear last layer

h and e are multilayer perceptrons with a smooth activation: the latent equation of motion needs third derivatives of the decoder, which
ELU and ReLU do not have. Subtracting g(0) puts the rest shape, u = 0, at q = 0 exactly. Folded with Phi, the decoder is
u = u0 + W g(q) with W = Phi L and u0 = -W g(0): a `Subspace`.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn
from torch.nn import functional as F

from hodsim.subspace.subspace import Subspace


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers between the given widths, each but the last followed by SiLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def along(layers: nn.Sequential, x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f(x) (*B, m) and Df(x) d (*B, k, m) of a perceptron f, for x (*B, n) and k directions d (*B, k, n) each.

    In functions that hodsim.multicomplex knows, so that parameters may be perturbed meanwhile."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x, directions = layer(x), F.linear(directions, layer.weight)
        else:  # SiLU: x s, whose slope is s (1 + x (1 - s))
            s = torch.sigmoid(x)
            x, directions = x * s, directions * (s * (1 + x * (1 - s))).unsqueeze(-2)
    return x, directions


class Trunk(nn.Module):
    """g(q) = [q, h(q)]: R^r -> R^(r + hidden[-1]), h a perceptron that ends with its activation."""

    def __init__(self, dim: int, hidden: tuple[int, ...]):
        super().__init__()
        self.dim, self.hidden = dim, hidden
        self.h = nn.Sequential(*perceptron([dim, *hidden]), nn.SiLU())

    @property
    def width(self) -> int:
        return self.dim + self.hidden[-1]

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        return torch.cat([q, self.h(q)], -1)

    def along(self, q: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """g(q) (*B, m) and Dg(q) d (*B, k, m) for directions d (*B, k, r)."""
        value, changes = along(self.h, q, directions)
        return torch.cat([q, value], -1), torch.cat([directions, changes], -1)


class Encoder(nn.Module):
    """q = A z + e(z): R^p -> R^r, A the linear skip."""

    def __init__(self, width: int, hidden: tuple[int, ...], dim: int):
        super().__init__()
        self.width, self.hidden, self.dim = width, hidden, dim
        self.skip = nn.Linear(width, dim, bias=False, dtype=torch.float64)
        self.e = perceptron([width, *hidden, dim])

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.skip(z) + self.e(z)

    def along(self, z: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q (*B, r) and its changes (*B, k, r) along directions (*B, k, p)."""
        value, changes = along(self.e, z, directions)
        return self.skip(z) + value, F.linear(directions, self.skip.weight) + changes


class Autoencoder(nn.Module):
    """Encoder, trunk and linear last layer on coordinates z (*B, p); deviations (p,) whiten the first r of them."""

    def __init__(self, deviations: torch.Tensor, dim: int, hidden: tuple[int, ...] = (32, 32)):
        super().__init__()
        width = len(deviations)
        if not 0 < dim < width:
            raise ValueError(f"latent dimension is {dim}; expected 1 to {width - 1}, below the number of principal coordinates")
        self.encoder = Encoder(width, hidden[::-1], dim)
        self.trunk = Trunk(dim, hidden)
        self.last = nn.Linear(self.trunk.width, width, bias=False, dtype=torch.float64)
        with torch.no_grad():  # start as PCA: the skips invert one another, the perceptrons add nothing yet
            self.encoder.skip.weight.zero_()
            self.encoder.skip.weight[:, :dim] = torch.diag(1 / deviations[:dim])
            for parameter in self.encoder.e[-1].parameters():
                parameter.zero_()
            self.last.weight.zero_()
            self.last.weight[:dim, :dim] = torch.diag(deviations[:dim])

    def decode(self, q: torch.Tensor) -> torch.Tensor:
        """Coordinates z (*B, p) of the latent coordinates q (*B, r)."""
        return self.last(self.trunk(q) - self.trunk(q.new_zeros(self.trunk.dim)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encoder(z))

    def decode_along(self, q: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z (*B, p) of q (*B, r) and its changes (*B, k, p) along directions (*B, k, r): for the unit vectors, the Jacobian's columns."""
        value, changes = self.trunk.along(q, directions)
        return self.last(value - self.trunk(q.new_zeros(self.trunk.dim))), F.linear(changes, self.last.weight)

    def fold(self, basis: np.ndarray, *, mass: csr_matrix, name: str) -> Subspace:
        """The subspace u = u0 + W g(q) of displacements, for the basis Phi (d, p) with Phi^T M Phi = I."""
        trunk = copy.deepcopy(self.trunk).cpu().requires_grad_(False)
        encoder = copy.deepcopy(self.encoder).cpu().requires_grad_(False)
        weights = basis @ self.last.weight.detach().cpu().numpy()  # W (d, m)
        origin = -weights @ trunk(torch.zeros(trunk.dim, dtype=torch.float64)).numpy()
        return Subspace(name, trunk.dim, origin, weights, np.ascontiguousarray((mass @ basis).T), trunk, encoder)
