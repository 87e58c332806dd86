"""Nodal forces (d,) [N] of loads on a body, by the principle of virtual work: f_a = integral of N_a b over the volume, or N_a t over the surface.

A `Load` is a force that varies in time: fixed shapes times amplitudes, f(t) = shapes c(t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hodsim import checks
from hodsim.fem.model import FullModel


@dataclass(frozen=True)
class Load:
    """shapes (d, k) [N] times amplitude(time [s]) -> (k,): load(t) is the force (d,) at time t."""

    shapes: np.ndarray
    amplitude: Callable[[float], np.ndarray]

    def __post_init__(self):
        checks.finite("load shapes", checks.shape("load shapes", self.shapes, (None, None)))

    def __call__(self, time: float) -> np.ndarray:
        amplitudes = np.asarray(self.amplitude(time), float)
        return self.shapes @ checks.finite(f"load amplitude at {time:.6g} s", checks.shape("load amplitude", amplitudes, self.shapes.shape[1:]))

    def at_steps(self, dt: float, steps: int) -> np.ndarray:
        """The force at the end of each step of dt [s] from time 0, (steps, d)."""
        return np.array([self(index * dt) for index in range(1, steps + 1)])

    def project(self, basis: np.ndarray) -> Load:
        """The generalised force W^T f of the same load, for a basis W (d, m): shapes (m, k)."""
        return Load(basis.T @ self.shapes, self.amplitude)


def gravity(full: FullModel, acceleration: Sequence[float] = (0.0, 0.0, -9.81)) -> np.ndarray:
    """The weight of the body in a gravity field [m/s^2], (d,) [N]."""
    return full.restrict(full.vertex_mass[:, None] * _vector("acceleration", acceleration))


def body_load(full: FullModel, force_density: np.ndarray) -> np.ndarray:
    """A force per volume [N/m^3], one vector (3,) or one for each element (T, 3), as (d,) [N]."""
    mesh = full.mesh
    density = checks.finite("force_density", np.asarray(force_density, float))
    if density.shape != (3,):
        checks.shape("force_density", density, (len(mesh.tetrahedra), 3))
    share = np.broadcast_to(mesh.volumes[:, None] / 4 * density, (len(mesh.volumes), 3))
    return full.restrict(_gathered(full, mesh.tetrahedra, share))


def point_load(full: FullModel, vertex: int, force: Sequence[float]) -> np.ndarray:
    """A force (3,) [N] on one free vertex, (d,)."""
    if not 0 <= vertex < len(full.mesh.vertices):
        raise ValueError(f"vertex is {vertex}; expected 0 to {len(full.mesh.vertices) - 1}")
    if full.pinned[vertex]:
        raise ValueError(f"vertex {vertex} is pinned: a force on it does nothing; choose a free vertex")
    field = np.zeros(full.mesh.vertices.shape)
    field[vertex] = _vector("force", force)
    return full.restrict(field)


def traction(full: FullModel, where: np.ndarray, traction: Sequence[float]) -> np.ndarray:
    """A force per area (3,) [Pa], on triangles (S, 3) or on the surface triangles whose vertices a mask (V,) holds, as (d,) [N]."""
    mesh, where = full.mesh, np.asarray(where)
    if where.dtype == bool:
        triangles = mesh.surface[checks.shape("where", where, mesh.vertices.shape[:1])[mesh.surface].all(axis=1)]
    else:
        triangles = checks.shape("where", where, (None, 3))
    if len(triangles) == 0:
        raise ValueError("the traction acts on no triangle; expected a mask that holds all vertices of some surface triangles")
    x = mesh.vertices[triangles]
    areas = np.linalg.norm(np.cross(x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]), axis=1) / 2
    return full.restrict(_gathered(full, triangles, areas[:, None] / 3 * _vector("traction", traction)))


def _vector(name: str, value: Sequence[float]) -> np.ndarray:
    return checks.finite(name, checks.shape(name, np.asarray(value, float), (3,)))


def _gathered(full: FullModel, simplices: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The field (V, 3) in which each simplex gives its share (S, 3) to each of its vertices."""
    field = np.zeros(full.mesh.vertices.shape)
    np.add.at(field, simplices, share[:, None, :])
    return field
