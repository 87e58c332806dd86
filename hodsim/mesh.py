"""Tetrahedral meshes: vertices (V, 3) [m] and tetrahedra (T, 4), positively oriented: det[x1 - x0, x2 - x0, x3 - x0] = 6 volume > 0.

A mesh is read-only and is refused when an element is inverted or degenerate or a vertex belongs to none: nothing is repaired silently.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import meshio
import numpy as np

from hodsim import checks
from hodsim.storage import write_atomically

FACES = ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1))  # outward, each opposite its own vertex
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
DEGENERATE = 1e-6  # quality below which the shape gradients have lost about half of their digits


@dataclass(frozen=True, eq=False)
class TetMesh:
    """vertices (V, 3) float64 [m] and tetrahedra (T, 4), rows of vertex indices.

    Raises ValueError naming the first element that is inverted, degenerate or out of range, the first vertex that is not finite, or
    the vertices that no tetrahedron uses (their mass would be zero).
    """

    vertices: np.ndarray
    tetrahedra: np.ndarray

    def __post_init__(self):
        vertices, tetrahedra = np.array(self.vertices, np.float64), np.asarray(self.tetrahedra)
        checks.finite("vertices", checks.shape("vertices", vertices, (None, 3)))
        checks.shape("tetrahedra", tetrahedra, (None, 4))
        if not np.issubdtype(tetrahedra.dtype, np.integer):
            raise ValueError(f"tetrahedra have dtype {tetrahedra.dtype}; expected integers, indices of vertices")
        if len(tetrahedra) == 0:
            raise ValueError("the mesh has no tetrahedra; expected at least one (a surface mesh must be filled first, e.g. by gmsh)")
        tetrahedra = tetrahedra.astype(np.int64)
        for name, array in (("vertices", vertices), ("tetrahedra", tetrahedra)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        self._check_indices()
        self._check_elements()

    def _check_indices(self) -> None:
        count = len(self.vertices)
        outside = ((self.tetrahedra < 0) | (self.tetrahedra >= count)).any(axis=1)
        if outside.any():
            first = int(outside.argmax())
            raise ValueError(f"tetrahedron {first} has vertices {self.tetrahedra[first].tolist()}; expected indices from 0 to {count - 1}")
        unused = np.setdiff1d(np.arange(count), self.tetrahedra)
        if len(unused):
            listed = ", ".join(map(str, unused[:5])) + (", ..." if len(unused) > 5 else "")
            raise ValueError(
                f"{len(unused)} of {count} vertices belong to no tetrahedron ({listed}); they would have no mass. "
                "Remove them, e.g. with meshio's Mesh.remove_orphaned_nodes()"
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
        """Read the linear tetrahedra of a mesh file [m] in any format that meshio reads; other cells are left out.

        Raises FileNotFoundError, or ValueError naming the file and what is wrong with it."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"mesh {path} does not exist or is no file")
        said = io.StringIO()
        try:
            with _overheard(said):
                content = meshio.read(path)
        except (Exception, SystemExit) as error:  # a reader may fail in any way on a foreign file, and meshio itself exits
            reason = " ".join(said.getvalue().split()) or f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} could not be read as a mesh ({reason}); expected .msh, .vtu, .vtk, .mesh, ...") from None
        kinds = sorted({block.type for block in content.cells})
        if "tetra" not in kinds:
            raise ValueError(f"{path} has no tetrahedra; it holds {', '.join(kinds) or 'no cells'}; expected linear tetrahedra")
        try:
            return cls(content.points, content.cells_dict["tetra"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: Path | str, displacement: np.ndarray | None = None) -> Path:
        """Write the mesh in the format of the file's ending; a displacement (V, 3) [m] becomes a field of that name on the vertices.

        Raises ValueError for an unknown ending, OSError when the file cannot be written; what was there before is then unchanged."""
        path = Path(path)
        fields = {}
        if displacement is not None:
            fields["displacement"] = checks.finite("displacement", checks.shape("displacement", displacement, self.vertices.shape))
        content = meshio.Mesh(self.vertices, [("tetra", self.tetrahedra)], point_data=fields)
        options = {"file_format": "gmsh22", "binary": False} if path.suffix == ".msh" else {}
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / path.name
            try:
                with _overheard(io.StringIO()):
                    content.write(draft, **options)
            except (meshio.WriteError, meshio.ReadError) as error:
                raise ValueError(f"{path} could not be written as a mesh ({error}); expected .msh, .vtu, .vtk, .mesh, ...") from None
            return write_atomically(path, draft.read_bytes())

    @cached_property
    def volumes(self) -> np.ndarray:
        """Signed volumes of the elements [m^3], (T,)."""
        x = self.vertices[self.tetrahedra]
        return np.linalg.det(x[:, 1:] - x[:, :1]) / 6

    @cached_property
    def quality(self) -> np.ndarray:
        """Mean ratio of each element, 12 (3 volume)^(2/3) / (sum of squared edges): 1 for a regular one, 0 for a flat one, (T,)."""
        x = self.vertices[self.tetrahedra]
        squares = sum(((x[:, i] - x[:, j]) ** 2).sum(axis=1) for i, j in EDGES)
        return 12 * np.cbrt(3 * self.volumes) * np.cbrt(3 * np.abs(self.volumes)) / np.maximum(squares, np.finfo(float).tiny)

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


@contextlib.contextmanager
def _overheard(said: io.StringIO) -> Iterator[None]:
    """What meshio prints goes to `said`: its errors are part of ours, its warnings about tags concern nobody here."""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield


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
