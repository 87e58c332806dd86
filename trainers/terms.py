"""The terms of the autoencoder's loss, each a residual whose squares are summed over the coordinates and averaged over the poses.

With z the coordinates of a pose, z' those of its velocity, q = e(z) its code, z^ = f(q) the reconstruction, J = Df(q), K = Phi^T K(u) Phi
the pose's stiffness, and z0, z'0 and omega^2 the root mean squares of |z| and |z'| and the mean z^T K z over the mean |z|^2 in the training poses:

    pose         e^T (I / dt^2 + elastic K) e / (z0 / dt)^2     e = z^ - z: the growth of the incremental potential, see `autoencoder`
    velocity     |e'|^2 / z'0^2                                 e' = J De(z) z' - z': what the subspace makes of the velocity, less the velocity
    force        |P e|^2 / z0^2                                 P = J (J^T (K + omega^2) J)^-1 J^T K
    tangent      |P e'|^2 / z'0^2
    contractive  |De(z) diag(spread)|_F^2 / r                   spread the root mean squares of the coordinates

The force of the decoder's pose is that of the true one plus K e to first order, so that J^T K e is the spurious force along the subspace,
and P e the displacement by which it shifts a body at rest. J^T K e' is likewise how much faster that force changes along the motion than the
true one does: where it vanishes the reduced tangent J^T K J of the decoder acts on the latent velocity as K acts on the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch

from hodsim.subspace import Autoencoder


@dataclass(frozen=True)
class Weights:
    """Of each term beside that of the pose; elastic of its second part. 0 leaves a term out."""

    elastic: float = 1.0
    velocity: float = 0.0
    force: float = 0.0
    tangent: float = 0.0
    contractive: float = 0.0

    @property
    def stiff(self) -> bool:
        """Whether any term asks for the stiffnesses of the poses."""
        return bool(self.elastic or self.force or self.tangent)

    @property
    def moving(self) -> bool:
        """Whether any term asks for velocities."""
        return bool(self.velocity or self.tangent)

    @property
    def further(self) -> dict[str, float]:
        """Those of the terms beside that of the pose that are not left out, by name."""
        return {f.name: weight for f in fields(self) if f.name != "elastic" and (weight := getattr(self, f.name))}


USUAL = Weights()


class Poses(NamedTuple):
    """Coordinates z (n, p) of poses and lower triangular roots C (n, p, p) of the metric A = C C^T of the pose term; velocities z' (n, p)
    and stiffnesses K (n, p, p)."""

    coordinates: torch.Tensor
    roots: torch.Tensor
    velocities: torch.Tensor
    stiffnesses: torch.Tensor

    def at(self, indices: torch.Tensor) -> Poses:
        return Poses(*(field[indices] for field in self))

    def to(self, dtype: torch.dtype) -> Poses:
        return Poses(*(field.to(dtype) for field in self))


def poses_of(z: torch.Tensor, dz: torch.Tensor, K: torch.Tensor, *, dt: float, elastic: float) -> Poses:
    """With the roots of their metrics, in which the mean pose, by its mass norm, has length one."""
    A = elastic * K + torch.eye(z.shape[1], dtype=z.dtype, device=z.device) / dt**2
    return Poses(z, torch.linalg.cholesky(A / (z.square().sum(1).mean() / dt**2)), dz, K)


@dataclass(frozen=True)
class Scales:
    """Root mean squares of |z|, of |z'| and of each coordinate (p,), and omega^2, of the training poses."""

    pose: float
    speed: float
    spread: torch.Tensor
    frequency_squared: float

    @classmethod
    def of(cls, poses: Poses) -> Scales:
        z, dz, _, K = poses
        mass, elastic = float(z.square().sum(1).mean()), float(torch.einsum("ni,nij,nj->n", z, K, z).mean())
        return cls(mass**0.5, float(dz.square().sum(1).mean().sqrt()), z.square().mean(0).sqrt(), elastic / mass)


class Errors(NamedTuple):
    """What the residuals are made of: e (n, p), e' (n, p), the decoder's Jacobian transposed J^T (n, r, p), and De^T (n, p, r) of the encoder,
    (n, 0, r) where no term asks for it."""

    pose: torch.Tensor
    velocity: torch.Tensor
    jacobian: torch.Tensor
    encoder_jacobian: torch.Tensor


class Residuals(torch.nn.Module):
    """An autoencoder's residuals on poses: called with the fields of `Poses` it gives (n, k), whose squares sum to the loss of each pose."""

    def __init__(self, model: Autoencoder, weights: Weights, scales: Scales):
        super().__init__()
        self.model, self.weights, self.scales = model, weights, scales

    def forward(self, *fields: torch.Tensor) -> torch.Tensor:
        poses, wanted = Poses(*fields), self.weights.further
        z = poses.coordinates
        if not wanted:
            with torch.autocast(z.device.type, torch.bfloat16, enabled=z.dtype == torch.float32):
                reconstructed = self.model(z)
            return self._pose(reconstructed.to(z.dtype) - z, poses)
        errors = self._errors(poses, contracted="contractive" in wanted)
        return torch.cat([self._pose(errors.pose, poses), *(w**0.5 * TERMS[name](errors, poses, self.scales) for name, w in wanted.items())], 1)

    def _pose(self, e: torch.Tensor, poses: Poses) -> torch.Tensor:
        """C^T e."""
        return torch.bmm(e[:, None], poses.roots)[:, 0]

    def _errors(self, poses: Poses, *, contracted: bool) -> Errors:
        """One pass that carries the velocities, and all coordinate axes if the encoder's Jacobian is asked for."""
        z, dz, r = poses.coordinates, poses.velocities, self.model.trunk.dim
        directions = torch.cat([dz[:, None], _axes(z, z.shape[1])], 1) if contracted else dz[:, None]
        q, changes = self.model.encoder.along(z, directions)
        reconstructed, J = self.model.decode_along(q, _axes(z, r))
        return Errors(reconstructed - z, torch.bmm(changes[:, :1], J)[:, 0] - dz, J, changes[:, 1:])


def _axes(z: torch.Tensor, number: int) -> torch.Tensor:
    """Unit vectors (n, number, number), the same for each of the rows of z (n, p)."""
    return torch.eye(number, dtype=z.dtype, device=z.device).expand(len(z), -1, -1)


def _velocity(errors: Errors, poses: Poses, scales: Scales) -> torch.Tensor:
    return errors.velocity / scales.speed


def _force(errors: Errors, poses: Poses, scales: Scales) -> torch.Tensor:
    return shift(errors.jacobian, poses.stiffnesses, errors.pose, scales.frequency_squared) / scales.pose


def _tangent(errors: Errors, poses: Poses, scales: Scales) -> torch.Tensor:
    return shift(errors.jacobian, poses.stiffnesses, errors.velocity, scales.frequency_squared) / scales.speed


def _contractive(errors: Errors, poses: Poses, scales: Scales) -> torch.Tensor:
    slopes = errors.encoder_jacobian
    return (slopes * scales.spread.to(slopes.dtype)[:, None] / slopes.shape[-1] ** 0.5).flatten(1)


TERMS: dict[str, Callable[[Errors, Poses, Scales], torch.Tensor]] = {
    "velocity": _velocity, "force": _force, "tangent": _tangent, "contractive": _contractive,
}  # fmt: skip


def shift(JT: torch.Tensor, K: torch.Tensor, e: torch.Tensor, frequency_squared: float) -> torch.Tensor:
    """P e = J (J^T (K + omega^2) J)^-1 J^T K e (n, p) for J^T (n, r, p), K (n, p, p) and e (n, p)."""
    stiff = torch.bmm(JT, K)
    system = torch.bmm(stiff + frequency_squared * JT, JT.mT)  # (n, r, r)
    force = torch.bmm(stiff, e[..., None])
    return torch.bmm(solved(system, force).mT, JT)[:, 0]


def solved(A: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A^-1 b (n, r, k) by Gauss and Jordan's elimination without pivoting, for positive definite A (n, r, r), b (n, r, k).

    In functions that hodsim.multicomplex knows, which torch.linalg.solve is not."""
    r = A.shape[-1]
    units = torch.eye(r, dtype=b.dtype, device=b.device)
    M = torch.cat([A, b], -1)
    for j in range(r):
        row = M[:, j : j + 1] / M[:, j : j + 1, j : j + 1]
        M = M - torch.bmm(M[:, :, j : j + 1] - units[:, j : j + 1], row)  # row j becomes the pivot's, the others lose their column j
    return M[:, :, r:]
