"""Named parts of a mesh, as mesh files know them: physical groups (gmsh), sets (Abaqus), references (medit, tetgen), integer cell fields (VTK).

A group that a file numbers but does not name is called by its kind and number, e.g. `surface 3` or `volume 1`; one of an integer field by
the field's name and its value, e.g. `region 2`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import meshio
import numpy as np

KINDS = ("point", "curve", "surface", "volume")  # by dimension
MOST = 1000  # different values that an integer field may have and still be one of groups
NAMED = ("gmsh:physical", "medit:ref", "tetgen:ref")  # fields whose values are numbers of groups; 0 is none
INTERNAL = ("gmsh:", "vtk", "obj:")  # fields that say nothing of parts


@dataclass(frozen=True, eq=False)
class Group:
    """vertices (n,), tetrahedra (m,) as indices; triangles (s, 3) as rows of vertex indices. A region has tetrahedra, a surface triangles."""

    vertices: np.ndarray
    tetrahedra: np.ndarray
    triangles: np.ndarray

    @classmethod
    def of(cls, vertices=(), tetrahedra=(), triangles=()) -> Group:
        return cls(np.unique(np.asarray(vertices, np.int64)), np.asarray(tetrahedra, np.int64), np.asarray(triangles, np.int64).reshape(-1, 3))


def groups_of(content: meshio.Mesh) -> dict[str, Group]:
    """The groups of what meshio read. Tetrahedra are numbered through its blocks of them, in their order."""
    members: dict[str, list[tuple[int, np.ndarray]]] = {}  # name -> (block, rows of it)
    for name, sets in content.cell_sets.items():
        if not name.startswith(INTERNAL):
            members.setdefault(name, []).extend(_rows_by_block(content, sets))
    for name, block, rows in _numbered(content):
        members.setdefault(name, []).append((block, rows))
    groups = {name: _group(content, parts) for name, parts in members.items()}
    groups |= {name: Group.of(np.concatenate([np.ravel(part) for part in points])) for name, points in _points(content) if name not in groups}
    return {name: group for name, group in groups.items() if len(group.vertices)}


def _rows_by_block(content: meshio.Mesh, sets: Sequence) -> Iterator[tuple[int, np.ndarray]]:
    for block, rows in enumerate(sets):
        if rows is not None and len(rows) and block < len(content.cells):
            rows = np.concatenate([np.ravel(part) for part in rows]) if isinstance(rows, list) else np.ravel(rows)
            yield block, rows.astype(np.int64)


def _numbered(content: meshio.Mesh) -> Iterator[tuple[str, int, np.ndarray]]:
    """(name, block, rows) of every value of an integer cell field."""
    names = {(int(data[1]), int(data[0])): name for name, data in content.field_data.items() if np.size(data) == 2}
    for field, blocks in content.cell_data.items():
        known = field in NAMED
        values = [np.asarray(block) for block in blocks]
        if not known and (field.startswith(INTERNAL) or not all(_are_numbers_of_groups(v) for v in values)):
            continue
        if len(np.unique(np.concatenate(values))) > MOST:
            continue
        for block, value in enumerate(values):
            dimension = content.cells[block].dim
            for number in np.unique(value):
                if known and number == 0:
                    continue
                name = names.get((dimension, int(number)), f"{KINDS[dimension]} {int(number)}") if known else f"{field} {int(number)}"
                if name not in content.cell_sets:  # format 4 of gmsh says the same twice
                    yield name, block, np.flatnonzero(value == number)


def _are_numbers_of_groups(values: np.ndarray) -> bool:
    return values.ndim == 1 and np.issubdtype(values.dtype, np.integer)


def _points(content: meshio.Mesh) -> Iterator[tuple[str, list[np.ndarray]]]:
    yield from ((name, [np.asarray(points)]) for name, points in content.point_sets.items())
    for field in ("medit:ref", "tetgen:ref"):
        marks = np.asarray(content.point_data.get(field, ()))
        for number in np.unique(marks[np.isfinite(marks)]):
            if number != 0:
                yield f"point {int(number)}", [np.flatnonzero(marks == number)]


def _group(content: meshio.Mesh, parts: Sequence[tuple[int, np.ndarray]]) -> Group:
    offsets = np.cumsum([0, *(len(block.data) if block.type.startswith("tetra") else 0 for block in content.cells)])
    vertices, tetrahedra, triangles = [], [], []
    for block, rows in parts:
        cells = content.cells[block]
        corners = cells.data[rows][:, : CORNERS.get(cells.type, cells.data.shape[1])]
        vertices.append(corners.ravel())
        if cells.type.startswith("tetra"):
            tetrahedra.append(offsets[block] + rows)
        elif cells.type.startswith("triangle"):
            triangles.append(corners)
    joined = [np.concatenate(arrays) if arrays else np.empty(0, np.int64) for arrays in (vertices, tetrahedra, triangles)]
    return Group.of(joined[0], np.unique(joined[1]), joined[2])


CORNERS: Mapping[str, int] = {"tetra10": 4, "triangle6": 3, "line3": 2}
