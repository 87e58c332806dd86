"""Tetrahedral meshes: vertices (V, 3) [m] and tetrahedra (T, 4), positively oriented: det[x1 - x0, x2 - x0, x3 - x0] = 6 volume > 0.

A mesh is read-only and is refused when an element is inverted or degenerate or a vertex belongs to none: nothing is repaired silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import meshio
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hodsim import checks
from hodsim.mesh import files
from hodsim.mesh.groups import Group

FACES = ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1))  # outward, each opposite its own vertex
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
SIDES = ("x-min", "x-max", "y-min", "y-max", "z-min", "z-max")
DEGENERATE = 1e-6  # quality below which the shape gradients have lost about half of their digits


@dataclass(frozen=True, eq=False)
class TetMesh:
    """vertices (V, 3) float64 [m] and tetrahedra (T, 4), rows of vertex indices; groups by name, which no other property depends on.

    Raises ValueError naming the first element that is inverted, degenerate or out of range, the first vertex that is not finite, or
    the vertices that no tetrahedron uses (their mass would be zero).
    """

    vertices: np.ndarray
    tetrahedra: np.ndarray
    groups: Mapping[str, Group] = field(default_factory=dict)

    def __post_init__(self):
        vertices, tetrahedra = np.array(self.vertices, np.float64), np.asarray(self.tetrahedra)
        checks.finite("vertices", checks.shape("vertices", vertices, (None, 3)))
        checks.shape("tetrahedra", tetrahedra, (None, 4))
        if not np.issubdtype(tetrahedra.dtype, np.integer):
            raise ValueError(f"tetrahedra have dtype {tetrahedra.dtype}; expected integers, indices of vertices")
        if len(tetrahedra) == 0:
            raise ValueError("the mesh has no tetrahedra; expected at least one (a closed surface is filled by `hodsim mesh fill`)")
        tetrahedra = tetrahedra.astype(np.int64)
        for name, array in (("vertices", vertices), ("tetrahedra", tetrahedra)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "groups", dict(self.groups))
        self._check_indices()
        self._check_elements()

    def _check_indices(self) -> None:
        count = len(self.vertices)
        checks.indices("tetrahedron", self.tetrahedra, count)
        unused = np.setdiff1d(np.arange(count), self.tetrahedra)
        if len(unused):
            listed = ", ".join(map(str, unused[:5])) + (", ..." if len(unused) > 5 else "")
            raise ValueError(
                f"{len(unused)} of {count} vertices belong to no tetrahedron ({listed}); they would have no mass. "
                "Remove them, e.g. by `hodsim mesh tidy`"
            )

    def _check_elements(self) -> None:
        bad = (self.volumes <= 0) | (self.quality < DEGENERATE)
        if bad.any():
            first = int(bad.argmax())
            volume, vertices = self.volumes[first], self.tetrahedra[first].tolist()
            fault, way_out = "degenerate", "remove it or improve the mesh"
            if volume < 0 and -self.quality[first] >= DEGENERATE:
                fault, way_out = "inverted", "swap two of its vertices"
            raise ValueError(
                f"tetrahedron {first} (vertices {vertices}) is {fault}: volume {volume:.3g} m^3, one of {int(bad.sum())}; "
                f"expected a positive volume; {way_out}"
            )

    def _check_places(self) -> None:
        first = near_duplicates(self.vertices)
        if len(doubled := np.flatnonzero(first != np.arange(len(first)))):
            place = ", ".join(f"{value:.6g}" for value in self.vertices[doubled[0]])
            raise ValueError(
                f"vertices {first[doubled[0]]} and {doubled[0]} lie in one place, ({place}) m, and so do {len(doubled) - 1} more; "
                "elements on either side would come apart. Join them, e.g. by `hodsim mesh tidy`"
            )

    @classmethod
    def box(cls, size: Sequence[float], divisions: Sequence[int], *, corner: Sequence[float] = (0.0, 0.0, 0.0)) -> TetMesh:
        """A box of size (3,) [m] whose lowest corner is `corner`, cut into cells of five tetrahedra, mirrored from cell to cell.

        Vertices are numbered with z fastest, then y, then x."""
        for axis, length, number in zip("xyz", size, divisions, strict=True):
            checks.positive(f"size along {axis}", length)
            if number != int(number) or number < 1:
                raise ValueError(f"divisions along {axis} is {number}; expected a whole number of at least 1")
        counts = np.asarray(divisions, int)
        lattice = np.indices(tuple(counts + 1)).reshape(3, -1).T  # (V, 3)
        cells = np.indices(tuple(counts)).reshape(3, -1).T
        odd = cells.sum(axis=1) % 2 == 1
        corners = cells[:, None, None] + np.where(odd[:, None, None, None], MIRRORED_CELL, CELL)  # (C, 5, 4, 3)
        tetrahedra = np.ravel_multi_index(np.moveaxis(corners, -1, 0), tuple(counts + 1)).reshape(-1, 4)
        return cls(np.asarray(corner) + np.asarray(size) * lattice / counts, tetrahedra)

    @classmethod
    def load(cls, path: Path | str) -> TetMesh:
        """Read the tetrahedra [m] and the groups of a mesh file: .msh, .vtu, .vtk, .mesh, .inp, .xdmf, .node or .ele.

        Quadratic tetrahedra are reduced to linear ones, with a MeshNotice. Raises FileNotFoundError, or ValueError naming the file and what is
        wrong with it, among that vertices in one place."""
        content = files.read(path)
        try:
            mesh = cls(content.vertices, content.tetrahedra, content.groups)
            mesh._check_places()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return mesh

    @classmethod
    def tidy(cls, path: Path | str, *, scale: float = 1.0) -> tuple[TetMesh, dict[str, int]]:
        """Read a file and mend what `load` refuses and what has one answer; say how often each was done.

        Vertices in one place become one, vertices that no tetrahedron uses and tetrahedra without volume are left out, inverted tetrahedra are
        turned. Coordinates are multiplied by scale. Groups are kept where nothing was mended."""
        content = files.read(path)
        x = checks.finite("vertices", np.asarray(content.vertices, float)) * checks.positive("scale", scale)
        together = near_duplicates(x)
        tetrahedra = together[content.tetrahedra]
        volumes, quality = shapes(x[tetrahedra])
        flat, turned = np.abs(quality) < DEGENERATE, volumes < 0
        tetrahedra[turned] = tetrahedra[turned][:, [1, 0, 2, 3]]
        used, numbers = np.unique(tetrahedra[~flat], return_inverse=True)
        doubled = int((together != np.arange(len(x))).sum())
        done = {
            "vertices joined": doubled,
            "unused vertices left out": len(x) - doubled - len(used),
            "tetrahedra without volume left out": int(flat.sum()),
            "inverted tetrahedra turned": int((turned & ~flat).sum()),
        }
        untouched = len(used) == len(x) and not flat.any()
        return cls(x[used], numbers.reshape(-1, 4), content.groups if untouched else {}), done

    def save(self, path: Path | str, displacement: np.ndarray | None = None) -> Path:
        """Write the mesh in the format of the file's ending; a displacement (V, 3) [m] becomes a field of that name on the vertices.

        Groups are not written. Raises ValueError for an unknown ending, OSError when the file cannot be written; what was there before is
        then unchanged."""
        fields = {}
        if displacement is not None:
            fields["displacement"] = checks.finite("displacement", checks.shape("displacement", displacement, self.vertices.shape))
        return files.write(path, meshio.Mesh(self.vertices, [("tetra", self.tetrahedra)], point_data=fields))

    def group(self, name: str) -> Group:
        """The group of this name. Raises ValueError listing those there are."""
        if name not in self.groups:
            raise ValueError(f"the mesh has no group {name!r}; {self._listed_groups()}")
        return self.groups[name]

    def select(self, name: str, *, wanted: str = "pin") -> np.ndarray:
        """Mask (V,) of the vertices on a side of the bounding box, x-min, x-max, y-min, .., or of a group; a group's name comes first.

        Raises ValueError, which calls it what it is wanted for, saying what there is to choose from."""
        mask = np.zeros(len(self.vertices), bool)
        if name in self.groups:
            mask[self.groups[name].vertices] = True
            return mask
        if name not in SIDES:
            raise ValueError(f"{wanted} is {name!r}; expected one of {', '.join(SIDES)}, or a group of the mesh: {self._listed_groups()}")
        coordinate = self.vertices[:, "xyz".index(name[0])]
        extreme = coordinate.min() if name.endswith("min") else coordinate.max()
        return np.abs(coordinate - extreme) < 1e-6 * np.ptp(self.vertices, axis=0).max()

    def per_element(self, values: Mapping[str, float], *, default: float | None = None) -> np.ndarray:
        """One number of each element (T,), from those of regions by name; default where no region is. What densities of regions become.

        Raises ValueError for a group without tetrahedra, regions that share an element but no value, elements without one."""
        found = np.full(len(self.tetrahedra), np.nan)
        for name, value in values.items():
            rows = self.group(name).tetrahedra
            if not len(rows):
                raise ValueError(f"group {name!r} has no tetrahedra; expected a region, such as one of {self._regions()}")
            if (clash := rows[~np.isnan(found[rows]) & (found[rows] != value)]).size:
                other = next(region for region in values if clash[0] in self.group(region).tetrahedra)
                raise ValueError(f"group {name!r} shares element {clash[0]} with {other!r}, which is not like it; expected regions apart or alike")
            found[rows] = value
        bare = np.isnan(found)
        if default is None and bare.any():
            raise ValueError(f"{int(bare.sum())} elements, the first {int(bare.argmax())}, lie in no region of {', '.join(values)}; give a default")
        return np.where(bare, 0.0 if default is None else default, found)

    def _regions(self) -> str:
        return ", ".join(repr(name) for name, group in self.groups.items() if len(group.tetrahedra)) or "none"

    def _listed_groups(self) -> str:
        return f"it has {', '.join(map(repr, sorted(self.groups)))}" if self.groups else "it has none"

    @cached_property
    def volumes(self) -> np.ndarray:
        """Signed volumes of the elements [m^3], (T,)."""
        return shapes(self.vertices[self.tetrahedra])[0]

    @cached_property
    def quality(self) -> np.ndarray:
        """Mean ratio of each element, 12 (3 volume)^(2/3) / (sum of squared edges): 1 for a regular one, 0 for a flat one, (T,)."""
        return shapes(self.vertices[self.tetrahedra])[1]

    @cached_property
    def components(self) -> np.ndarray:
        """Number of the connected part that each vertex belongs to, from 0, (V,)."""
        corners, count = self.tetrahedra, len(self.vertices)
        rows, columns = np.repeat(corners[:, 0], 3), corners[:, 1:].ravel()
        return connected_components(coo_matrix((np.ones(len(rows), bool), (rows, columns)), (count, count)), directed=False)[1]

    @cached_property
    def edge_length(self) -> float:
        """Mean length of the edges [m]."""
        pairs = np.sort(self.tetrahedra[:, EDGES].reshape(-1, 2))
        first, second = np.divmod(np.unique(pairs @ [len(self.vertices), 1]), len(self.vertices))  # a pair as one number sorts faster
        return float(np.linalg.norm(self.vertices[first] - self.vertices[second], axis=1).mean())

    @cached_property
    def surface(self) -> np.ndarray:
        """Triangles that bound the mesh, counter-clockwise seen from outside, (S, 3)."""
        faces = self.tetrahedra[:, FACES].reshape(-1, 3)
        _, first, count = np.unique(np.sort(faces), axis=0, return_index=True, return_counts=True)
        return faces[np.sort(first[count == 1])]

    @property
    def bounding_box(self) -> np.ndarray:
        """Lowest and highest corner [m], (2, 3)."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    @cached_property
    def fingerprint(self) -> str:
        """What tells this mesh from any other: 16 hexadecimal digits of the SHA-256 of its arrays."""
        digest = hashlib.sha256(self.vertices.astype("<f8").tobytes())
        digest.update(self.tetrahedra.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def shapes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed volume [m^3] and mean ratio of tetrahedra whose corners are x (T, 4, 3), each (T,)."""
    volumes = np.linalg.det(x[:, 1:] - x[:, :1]) / 6
    squares = sum(((x[:, i] - x[:, j]) ** 2).sum(axis=1) for i, j in EDGES)
    return volumes, 12 * np.cbrt(3 * volumes) * np.cbrt(3 * np.abs(volumes)) / np.maximum(squares, np.finfo(float).tiny)


def near_duplicates(x: np.ndarray) -> np.ndarray:
    """Of each vertex the first one in the same place, to 1e-9 of the diagonal of them all; itself where it is alone, (V,)."""
    if not len(x):
        return np.empty(0, np.int64)
    pairs = cKDTree(x).query_pairs(1e-9 * float(np.linalg.norm(np.ptp(x, axis=0))), output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (len(x), len(x)))
    _, first, labels = np.unique(connected_components(graph, directed=False)[1], return_index=True, return_inverse=True)
    return first[labels]


# Corners (5, 4, 3) of the tetrahedra of a unit cell: one in the middle, four that cut off corners. Neighbours are mirror images of each
# other, so that the diagonals of the face they share agree.
CELL = np.array([
    [(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 1, 1)],
    [(1, 0, 0), (1, 1, 0), (0, 0, 0), (1, 0, 1)],
    [(0, 1, 0), (0, 0, 0), (1, 1, 0), (0, 1, 1)],
    [(0, 0, 1), (1, 0, 1), (0, 0, 0), (0, 1, 1)],
    [(1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
])
MIRRORED_CELL = np.stack([1 - CELL[..., 0], CELL[..., 1], CELL[..., 2]], axis=-1)[:, [0, 1, 3, 2]]
