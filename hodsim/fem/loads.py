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
    return full.restrict(_gathered(full, triangles, _areas(full, triangles)[:, None] / 3 * _vector("traction", traction)))


def group_traction(full: FullModel, name: str, pull: Sequence[float]) -> np.ndarray:
    """A force per area (3,) [Pa] on the triangles of a group, or on those whose vertices all lie in it or on a side of the body, (d,) [N].

    Raises ValueError for a name that the mesh does not have, and where all that is loaded is pinned."""
    return _acting("traction", name, traction(full, _surface_of(full, name, "traction"), pull), pull)


def group_force(full: FullModel, name: str, force: Sequence[float]) -> np.ndarray:
    """A force (3,) [N] in all, spread evenly over the volume of a region, the triangles of a group or a side, or the vertices of one that has
    neither, as (d,) [N]. What falls to pinned vertices is lost. Raises ValueError as `group_traction` does."""
    mesh, total = full.mesh, _vector("force", force)
    triangles, group = _surface_of(full, name, "force"), mesh.groups.get(name)
    if group is not None and len(group.tetrahedra):
        weights = _gathered(full, mesh.tetrahedra[group.tetrahedra], mesh.volumes[group.tetrahedra, None])
    elif len(triangles):
        weights = _gathered(full, triangles, _areas(full, triangles)[:, None])
    else:
        weights = np.tile(mesh.select(name)[:, None], (1, 3))
    return _acting("force", name, full.restrict(weights / weights[:, 0].sum() * total), force)


def _surface_of(full: FullModel, name: str, wanted: str) -> np.ndarray:
    """The triangles (S, 3) of a group, or those of the surface whose vertices all lie in it or on a side."""
    mask, group = full.mesh.select(name, wanted=wanted), full.mesh.groups.get(name)
    return full.mesh.surface[mask[full.mesh.surface].all(axis=1)] if group is None or not len(group.triangles) else group.triangles


def _acting(what: str, name: str, nodal: np.ndarray, given: Sequence[float]) -> np.ndarray:
    if np.any(given) and not nodal.any():
        raise ValueError(f"a {what} on {name!r} does nothing: every vertex of it is pinned; load another group or side, or pin another")
    return nodal


def _areas(full: FullModel, triangles: np.ndarray) -> np.ndarray:
    x = full.mesh.vertices[triangles]
    return np.linalg.norm(np.cross(x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]), axis=1) / 2


def _vector(name: str, value: Sequence[float]) -> np.ndarray:
    return checks.finite(name, checks.shape(name, np.asarray(value, float), (3,)))


def _gathered(full: FullModel, simplices: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The field (V, 3) in which each simplex gives its share (S, 3) to each of its vertices."""
    field = np.zeros(full.mesh.vertices.shape)
    np.add.at(field, simplices, share[:, None, :])
    return field
