"""Closed surfaces, and filling them with tetrahedra by fTetWild (Hu et al. 2020; `pytetwild`, an optional package under the MPL-2.0).

A surface encloses a volume when each of its edges belongs to two triangles that run along it in opposite directions.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hodsim import checks
from hodsim.mesh.files import read_raw
from hodsim.mesh.tetrahedra import TetMesh, near_duplicates

EXTRA = 'pip install "hodsim[meshes]"'


def fill(path: Path | str, *, edge_length: float | None = None, tolerance: float = 1e-3) -> TetMesh:
    """Tetrahedra within the closed surface of a file (.obj, .stl, .ply) [m].

    edge_length [m] is what edges inside are aimed at, a twentieth of the bounding box's diagonal unless given; tolerance is how far the
    surface may move, relative to that diagonal. The mesh is another one each time: save it.

    Raises FileNotFoundError; ValueError for what is no surface or bounds no body; ModuleNotFoundError saying what to install where pytetwild is
    missing."""
    vertices, triangles = read_surface(path)
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    checks.inside("tolerance", tolerance, 0.0, 0.1)
    length = diagonal / 20 if edge_length is None else checks.positive("edge_length", edge_length)
    try:
        from pytetwild.pytetwild import tetrahedralize
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"filling {path} needs pytetwild ({error}); install it by `{EXTRA}`") from None
    with _elsewhere():
        filled = tetrahedralize(
            vertices, triangles.astype(np.int32), edge_length_fac=length / diagonal, epsilon=tolerance, quiet=True, vtk_ordering=True
        )
    x, tetrahedra = np.asarray(filled[0], float), np.asarray(filled[1], np.int64)
    if not len(tetrahedra):
        raise ValueError(f"{path}: no tetrahedron fits inside at edges of {length:.3g} m and a tolerance of {tolerance:g}; make them smaller")
    edges = x[tetrahedra[:, 1:]] - x[tetrahedra[:, :1]]
    turned = np.linalg.det(edges) < 0
    tetrahedra[turned] = tetrahedra[turned][:, [1, 0, 2, 3]]
    used, numbers = np.unique(tetrahedra, return_inverse=True)
    return TetMesh(x[used], numbers.reshape(-1, 4))


def read_surface(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) [m] and triangles (S, 3), counter-clockwise seen from outside, of a closed surface; quadrangles are halved.

    Vertices in one place are one: an .stl holds each corner once for each triangle. Raises ValueError for a surface that is not closed."""
    content = read_raw(path)
    blocks = [block.data for block in content.cells if block.type == "triangle"]
    blocks += [half for block in content.cells if block.type == "quad" for half in (block.data[:, [0, 1, 2]], block.data[:, [0, 2, 3]])]
    others = sorted({block.type for block in content.cells} - {"triangle", "quad", "line", "vertex"})
    if others or not blocks:
        raise ValueError(f"{path} holds {', '.join(others) or 'no triangles'}; expected a surface of triangles")
    vertices = checks.finite("vertices", np.asarray(content.points, float))
    triangles = np.concatenate(blocks).astype(np.int64)
    outside = (triangles < 0) | (triangles >= len(vertices))
    if outside.any():
        raise ValueError(f"{path} names vertex {triangles[outside][0]}; expected 0 to {len(vertices) - 1}")
    triangles = near_duplicates(vertices)[triangles]
    triangles = triangles[(np.diff(np.sort(triangles), axis=1) > 0).all(axis=1)]  # those that are a line by now
    try:
        _check_closed(triangles, len(vertices))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    used, numbers = np.unique(triangles, return_inverse=True)
    vertices, triangles = vertices[used], numbers.reshape(-1, 3)
    a, b, c = np.moveaxis(vertices[triangles] - vertices.mean(axis=0), 1, 0)
    inward = np.einsum("ij,ij->", a, np.cross(b, c)) < 0
    return vertices, triangles[:, ::-1] if inward else triangles


def _check_closed(triangles: np.ndarray, count: int) -> None:
    directed = np.concatenate([triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    forward, backward = directed @ [count, 1], directed @ [1, count]
    found, uses = np.unique(np.minimum(forward, backward), return_counts=True)
    if (uses == 1).any():
        first = found[uses == 1][0]
        raise ValueError(
            f"the surface is open: {int((uses == 1).sum())} edges belong to one triangle only, the first between vertices "
            f"{first // count} and {first % count}; close its holes first"
        )
    if (uses > 2).any():
        first = found[uses > 2][0]
        raise ValueError(
            f"{int((uses > 2).sum())} edges belong to more than two triangles, the first between vertices {first // count} and "
            f"{first % count}; expected a surface that bounds a body"
        )
    if len(np.unique(forward)) < len(forward):
        raise ValueError("neighbouring triangles are oriented against one another; expected all of them counter-clockwise seen from outside")


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In a folder that is deleted afterwards: fTetWild leaves the surface it followed in the current one."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)
