"""Mesh files: reading what meshio reads, with every fault of a file as one sentence, and writing whole files.

Quadratic tetrahedra are reduced to their corners, with a notice. Nothing else is changed: coordinates are taken as metres, and what has no
place in a mesh of tetrahedra is refused.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import meshio
import numpy as np

from hodsim import checks
from hodsim.mesh.gmsh import largest_vertex_number
from hodsim.mesh.groups import CORNERS, Group, groups_of
from hodsim.storage import write_atomically

FORMATS = (".msh", ".vtu", ".vtk", ".mesh", ".inp", ".xdmf", ".node", ".ele")
SURFACES = (".obj", ".stl", ".ply")
OPTIONS = {".msh": {"file_format": "gmsh22", "binary": False}, ".xdmf": {"data_format": "XML"}}
SOLIDS = ("hexahedron", "wedge", "pyramid", "polyhedron")
CLAIMS = {  # how a format says the number of its vertices and cells; several numbers: the first is a count as well
    ".msh": rb"\$(?:Nodes|Elements)\s+(\d+)(?: +(\d+))?",
    ".vtk": rb"^(?:POINTS|CELLS)\s+(\d+)",
    ".vtu": rb"NumberOf(?:Points|Cells)=[\"'](\d+)",
    ".xdmf": rb"(?:NumberOfElements|Dimensions)=[\"'](\d+)",
    ".mesh": rb"^\s*(?:Vertices|Tetrahedra)\s+(\d+)",
    ".node": rb"\A(?:\s*#[^\n]*\n)*\s*(\d+)",
    ".ele": rb"\A(?:\s*#[^\n]*\n)*\s*(\d+)",
    ".ply": rb"element\s+(?:vertex|face)\s+(\d+)",
}
GRID = rb"^\s*DATASET\s+(?!UNSTRUCTURED_GRID)(\w+)"  # of a .vtk: cells that are counted along axes, and not listed
GENERATED = rb"^\*\w*SET\b[^\n]*\bGENERATE\b[^\n]*\n\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)"  # of an .inp: first, last, step of a set
SPARSEST = 10**7  # numbers that vertices of a .msh may have however few they are
DENSEST = {".vtu": 2000, ".xdmf": 2000}  # vertices or cells a byte: 1 without compression, and zlib makes a thousand bytes one


class MeshNotice(UserWarning):
    """Something of a file that a mesh does not keep."""


@dataclass(frozen=True)
class Content:
    """What a file holds: vertices (V, 3), tetrahedra (T, 4), groups by name."""

    vertices: np.ndarray
    tetrahedra: np.ndarray
    groups: Mapping[str, Group]


def read(path: Path | str) -> Content:
    """The tetrahedra of a file, quadratic ones by their corners.

    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it."""
    content = read_raw(path)
    kinds = {block.type for block in content.cells}
    described = ", ".join(f"{sum(len(b.data) for b in content.cells if b.type == kind)} x {kind}" for kind in sorted(kinds))
    if solids := sorted(kind for kind in kinds if kind.startswith(SOLIDS)):
        raise ValueError(f"{path} holds {solids[0]} cells ({described}); expected tetrahedra only: split the others where the mesh was made")
    blocks = [block for block in content.cells if block.type.startswith("tetra") and len(block.data)]
    if not blocks:
        way_out = f": fill a closed surface by `hodsim mesh fill {path} body.vtu`" if kinds & {"triangle", "quad"} else ""
        raise ValueError(f"{path} has no tetrahedra; it holds {described or 'no cells'}; expected a mesh of tetrahedra{way_out}")
    tetrahedra = np.concatenate([block.data[:, :4] for block in blocks]).astype(np.int64)
    curved = sum(len(block.data) for block in blocks if block.data.shape[1] > 4)
    groups = groups_of(content)
    if not curved:
        return Content(content.points, tetrahedra, groups)
    kept = np.setdiff1d(np.arange(len(content.points)), _midside(content))
    warnings.warn(
        f"{path}: {curved} quadratic tetrahedra are reduced to linear ones; {len(content.points) - len(kept)} midside vertices are left out",
        MeshNotice,
        stacklevel=3,
    )
    return _restricted(Content(content.points, tetrahedra, groups), kept)


def read_raw(path: Path | str) -> meshio.Mesh:
    """What meshio reads, and what it says when it cannot."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"mesh {path} does not exist or is no file")
    expected = ", ".join((*FORMATS, *SURFACES))
    if path.stat().st_size == 0:
        raise ValueError(f"{path} could not be read as a mesh (it is empty); expected one of {expected}")
    _check_claims(path)
    said = io.StringIO()
    try:
        with _overheard(said), np.errstate(over="ignore"):
            content = meshio.read(path)
    except MemoryError:
        raise ValueError(f"{path} could not be read as a mesh (it asks for more memory than there is); is it damaged?") from None
    except (Exception, SystemExit) as error:  # a reader may fail in any way on a foreign file, and meshio itself exits
        reason = " ".join(said.getvalue().split()) or f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} could not be read as a mesh ({reason}); expected one of {expected}") from None
    for block in content.cells:
        cells = np.asarray(block.data)
        if not len(cells):
            continue
        if not np.issubdtype(cells.dtype, np.integer) or cells.ndim != 2:
            raise ValueError(f"{path} could not be read as a mesh (cells of {cells.dtype}, {cells.shape}); expected rows of vertex indices")
        checks.indices(f"{path}: {block.type}", cells, len(content.points))
    return content


def _check_claims(path: Path) -> None:
    """Raise ValueError where a file says that it holds more vertices or cells than it has bytes for: nothing is allocated for them."""
    suffix, size = path.suffix.lower(), path.stat().st_size
    if suffix == ".stl" and size >= 84:
        with open(path, "rb") as file:
            head = file.read(84)
        claimed = int.from_bytes(head[80:84], "little")
        if not head.lstrip().startswith(b"solid") and size < 84 + 50 * claimed:
            raise ValueError(f"{path} claims {claimed} triangles, but has only {size} bytes: it is cut short or damaged")
    if suffix == ".msh" and (largest := largest_vertex_number(path)) > SPARSEST + 2 * size:
        raise ValueError(f"{path} has a vertex of number {largest}, but only {size} bytes: it is damaged, or its vertices are to be renumbered")
    if suffix == ".ply" and not re.search(rb"^\s*end_header\s*$", path.read_bytes(), re.MULTILINE):
        raise ValueError(f"{path} could not be read as a mesh (its header has no end); is it cut short?")
    if suffix == ".vtk" and (grid := re.search(GRID, path.read_bytes(), re.MULTILINE | re.IGNORECASE)):
        raise ValueError(f"{path} holds a {grid[1].decode()}; expected DATASET UNSTRUCTURED_GRID, with tetrahedra")
    for match in re.finditer(GENERATED, path.read_bytes() if suffix == ".inp" else b"", re.MULTILINE | re.IGNORECASE):
        first, last, step = map(int, match.groups())
        if (last - first) // max(step, 1) > size:
            raise ValueError(f"{path} has a set from {first} to {last}, but only {size} bytes: it is cut short or damaged")
    if suffix not in CLAIMS:
        return
    companions = [path.with_suffix(other) for other in (".node", ".ele") if suffix in (".node", ".ele")] or [path]
    for file in companions:
        if not file.is_file():
            raise ValueError(f"{path} needs {file} beside it, which does not exist: vertices are in .node, tetrahedra in .ele")
        if suffix in (".node", ".ele") and not _has_a_line(file):
            raise ValueError(f"{file} could not be read as a mesh (it has no line beside comments); is it cut short?")
        held = sum(other.stat().st_size for other in path.parent.glob(f"{escape(path.stem)}*")) if suffix == ".xdmf" else file.stat().st_size
        for match in re.finditer(CLAIMS[suffix], file.read_bytes(), re.MULTILINE):
            claimed = max(int(number) for number in match.groups() if number)
            if claimed > DENSEST.get(suffix, 1) * held:
                raise ValueError(f"{file} claims {claimed} vertices or cells, but has only {held} bytes: it is cut short or damaged")


def _has_a_line(file: Path) -> bool:
    """Whether a file of tetgen's has a line that is no comment: meshio would look for one for ever."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        return any(text and text[0] != "#" for text in map(str.strip, lines))


def write(path: Path | str, content: meshio.Mesh) -> Path:
    """Write in the format of the file's ending, with whatever files that format has beside it."""
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        try:
            with _overheard(io.StringIO()):
                content.write(draft, **OPTIONS.get(path.suffix, {}))
        except (meshio.WriteError, meshio.ReadError) as error:
            raise ValueError(f"{path} could not be written as a mesh ({error}); expected one of {', '.join((*FORMATS, *SURFACES))}") from None
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            write_atomically(path.with_name(file.name), file.read_bytes())
    return path


def _midside(content: meshio.Mesh) -> np.ndarray:
    """Vertices that only the middles of edges of cells use."""
    middles, corners = [], []
    for block in content.cells:
        count = CORNERS.get(block.type, 4 if block.type.startswith("tetra") else block.data.shape[1])
        corners.append(block.data[:, :count].ravel())
        middles.append(block.data[:, count:].ravel())
    return np.setdiff1d(np.concatenate(middles), np.concatenate(corners))


def _restricted(content: Content, kept: np.ndarray) -> Content:
    """The same on the vertices kept, which hold all corners."""
    number = np.full(len(content.vertices), -1)
    number[kept] = np.arange(len(kept))

    def renumbered(group: Group) -> Group:
        vertices = number[group.vertices]
        return Group.of(vertices[vertices >= 0], group.tetrahedra, number[group.triangles])

    return Content(content.vertices[kept], number[content.tetrahedra], {name: renumbered(group) for name, group in content.groups.items()})


@contextlib.contextmanager
def _overheard(said: io.StringIO) -> Iterator[None]:
    """What meshio prints goes to `said`: its errors are part of ours, its warnings about tags concern nobody here."""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield
