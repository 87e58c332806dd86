"""Fields that colour a body: a value at each visible vertex, and the value that the brightest colour stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hodsim.reduced import Cubature
from hodsim.viewer.body import Body
from hodsim.viewer.player import Player


@dataclass(frozen=True)
class Field:
    """values (n,) of a body among a player's; scale, what the brightest colour stands for."""

    values: Callable[[Player, Body], np.ndarray]
    scale: Callable[[Player], float]


def displacement(player: Player, body: Body) -> np.ndarray:
    """Distance from the shape at rest [m]."""
    return np.linalg.norm(body.positions - body.full.mesh.vertices[body.vertices], axis=1)


def error(player: Player, body: Body) -> np.ndarray:
    """Distance from where the full model is [m]; zero if it is not shown."""
    truth = player.truth
    return np.zeros(len(body.vertices)) if truth is None else np.linalg.norm(body.positions - truth.positions, axis=1)


def von_mises_stress(player: Player, body: Body) -> np.ndarray:
    """sqrt(3/2) |dev sigma| [Pa] of the Cauchy stress sigma = P F^T / det F, the mean over the elements around each vertex."""
    full = body.full
    field = full.full_displacement(body.decode(body.state.q))
    edges = (full.mesh.vertices + field)[full.mesh.tetrahedra]
    rest = full.mesh.vertices[full.mesh.tetrahedra]
    F = np.swapaxes(np.linalg.solve(rest[:, 1:] - rest[:, :1], edges[:, 1:] - edges[:, :1]), 1, 2)  # F (x_i - x_0) = (y_i - y_0)
    sigma = full.material.stress(F) @ np.swapaxes(F, 1, 2) / np.linalg.det(F)[:, None, None]
    deviator = sigma - np.trace(sigma, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    stress = np.sqrt(1.5) * np.linalg.norm(deviator, axis=(1, 2))
    corners, count = full.mesh.tetrahedra.ravel(), len(full.mesh.vertices)
    total = np.bincount(corners, np.repeat(stress, 4), count)
    return (total / np.bincount(corners, minlength=count))[body.vertices]


def cubature_weights(player: Player, body: Body) -> np.ndarray:
    """How much of the elastic energy is sampled at the elements around each vertex, over the most; zero where every element counts."""
    total = np.zeros(len(body.full.mesh.vertices))
    elasticity = getattr(body.model, "elasticity", None)
    if isinstance(elasticity, Cubature):
        corners = body.full.mesh.tetrahedra[elasticity.chosen]
        np.add.at(total, corners.ravel(), np.repeat(elasticity.weights, 4))
    return total[body.vertices] / max(total.max(), 1e-300)


def _stress_scale(player: Player) -> float:
    """A twentieth of the modulus of longitudinal strain of the stiffest material: that of strains which are large for the materials here."""
    return 0.05 * max(float(material.stiffness(np.eye(3))[0, 0, 0, 0]) for material in player.full.material.constituents)


FIELDS = {
    "displacement": Field(displacement, lambda player: 0.8 * player.length),
    "error": Field(error, lambda player: 0.1 * player.length),
    "cubature weights": Field(cubature_weights, lambda player: 1.0),
    "von Mises stress": Field(von_mises_stress, _stress_scale),
}
