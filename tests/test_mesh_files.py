"""Mesh files: what is read is what was written, in every tetrahedral format; groups by name; every fault of a file is one sentence."""

import re
import warnings

import meshio
import numpy as np
import pytest

from hodsim.fem import FullModel, StVK
from hodsim.mesh import Group, MeshNotice, TetMesh
from hodsim.mesh.files import read_raw
from hodsim.mesh.gmsh import largest_vertex_number

FORMATS = {  # ending -> (name for meshio, options) of every flavour that is met
    "2.msh": ("gmsh22", {"binary": False}),
    "2b.msh": ("gmsh22", {"binary": True}),
    "4.msh": ("gmsh", {"binary": False}),
    "4b.msh": ("gmsh", {"binary": True}),
    "40.msh": ("gmsh", {"binary": False, "fmt_version": "4.0"}),
    "40b.msh": ("gmsh", {"binary": True, "fmt_version": "4.0"}),
    "a.vtu": ("vtu", {"binary": False}),
    "b.vtu": ("vtu", {"binary": True, "compression": "zlib"}),
    "42.vtk": ("vtk42", {"binary": False}),
    "42b.vtk": ("vtk42", {"binary": True}),
    "51b.vtk": ("vtk51", {"binary": True}),
    "a.mesh": ("medit", {}),
    "a.inp": ("abaqus", {}),
    "a.xdmf": ("xdmf", {"data_format": "XML"}),
    "h.xdmf": ("xdmf", {"data_format": "HDF"}),
    "a.node": ("tetgen", {}),
    "a.ele": ("tetgen", {}),
}
BOX = TetMesh.box((1, 2, 3), (2, 1, 1), corner=(0.1, 0.2, 0.3))
QUADRATIC = {k: v for k, v in FORMATS.items() if v[0] not in ("medit", "tetgen")}  # which know no quadratic tetrahedra


def quadratic(mesh: TetMesh) -> meshio.Mesh:
    """The same body with a vertex in the middle of each edge, in the order of VTK, which is meshio's."""
    edges = mesh.tetrahedra[:, [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)]]
    pairs, numbers = np.unique(np.sort(edges.reshape(-1, 2)), axis=0, return_inverse=True)
    points = np.vstack([mesh.vertices, mesh.vertices[pairs].mean(axis=1)])
    return meshio.Mesh(points, [("tetra10", np.hstack([mesh.tetrahedra, len(mesh.vertices) + numbers.reshape(-1, 6)]))])


def written(folder, content: meshio.Mesh, flavour: str):
    if flavour == "h.xdmf":
        pytest.importorskip("h5py")
    name, options = FORMATS[flavour]
    if name == "gmsh" and "fmt_version" not in options:  # 4.1 says of everything what entity it lies in
        content.point_data["gmsh:dim_tags"] = np.tile([3, 1], (len(content.points), 1))
        for field in ("gmsh:physical", "gmsh:geometrical"):
            content.cell_data.setdefault(field, [np.ones(len(block.data), int) for block in content.cells])
    file = folder / f"body{flavour}"
    if name == "gmsh":
        meshio.gmsh.write(file, content, **({"fmt_version": "4.1"} | options))
    else:
        content.write(file, file_format=name, **options)
    return file


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flavour", FORMATS)
def test_every_format_is_read_as_it_was_written(flavour, tmp_path):
    loaded = TetMesh.load(written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), flavour))
    np.testing.assert_array_equal(loaded.tetrahedra, BOX.tetrahedra)
    np.testing.assert_array_equal(loaded.vertices, BOX.vertices)


@pytest.mark.parametrize("ending", ["msh", "vtu", "vtk", "mesh", "inp", "xdmf", "node", "ele"])
def test_every_ending_can_be_saved(ending, tmp_path):
    loaded = TetMesh.load(BOX.save(tmp_path / f"box.{ending}"))
    np.testing.assert_array_equal(loaded.tetrahedra, BOX.tetrahedra)
    np.testing.assert_array_equal(loaded.vertices, BOX.vertices)


@pytest.mark.parametrize("flavour", QUADRATIC)
def test_quadratic_tetrahedra_are_reduced_with_a_notice(flavour, tmp_path):
    file = written(tmp_path, quadratic(BOX), flavour)
    with pytest.warns(MeshNotice, match=r"body.*: 10 quadratic tetrahedra are reduced to linear ones; 31 midside vertices are left out"):
        loaded = TetMesh.load(file)
    np.testing.assert_array_equal(loaded.tetrahedra, BOX.tetrahedra)
    np.testing.assert_array_equal(loaded.vertices, BOX.vertices)


# Groups

WALL = BOX.surface[(BOX.vertices[BOX.surface][:, :, 0] == 0.1).all(axis=1)]
HALF = np.flatnonzero(BOX.vertices[BOX.tetrahedra].mean(axis=1)[:, 0] > 0.6)
OTHER = np.setdiff1d(np.arange(10), HALF)


def check_groups(mesh: TetMesh, wall: str, soft: str):
    np.testing.assert_array_equal(mesh.group(wall).vertices, np.unique(WALL))
    np.testing.assert_array_equal(np.sort(mesh.group(wall).triangles), np.sort(WALL))
    assert len(mesh.group(wall).tetrahedra) == 0
    np.testing.assert_array_equal(mesh.group(soft).tetrahedra, HALF)
    np.testing.assert_array_equal(np.flatnonzero(mesh.select(wall)), np.unique(WALL))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("flavour", ["2.msh", "2b.msh"])
def test_physical_groups_of_gmsh_are_read(flavour, named, tmp_path):
    tags = [np.full(len(WALL), 7), np.isin(np.arange(10), HALF) + 1]
    names = {"wall": np.array([7, 2]), "hard": np.array([1, 3]), "soft": np.array([2, 3])} if named else {}
    content = meshio.Mesh(
        BOX.vertices, [("triangle", WALL), ("tetra", BOX.tetrahedra)], field_data=names, cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags}
    )
    mesh = TetMesh.load(written(tmp_path, content, flavour))
    check_groups(mesh, *(("wall", "soft") if named else ("surface 7", "volume 2")))


MSH41 = """$MeshFormat
4.1 0 8
$EndMeshFormat
$PhysicalNames
2
2 7 "wall"
3 2 "soft"
$EndPhysicalNames
$Entities
0 0 1 1
1 0 0 0 1 1 0 1 7 0
1 0 0 0 1 1 1 1 2 1 1
$EndEntities
$Nodes
1 4 1 4
3 1 0 4
1
2
3
4
0 0 0
1 0 0
0 1 0
0 0 1
$EndNodes
$Elements
2 2 1 2
2 1 2 1
1 1 3 2
3 1 4 1
2 1 2 3 4
$EndElements
"""


def test_physical_groups_of_format_4_are_read(tmp_path):
    (tmp_path / "one.msh").write_text(MSH41)
    mesh = TetMesh.load(tmp_path / "one.msh")
    assert mesh.group("wall").vertices.tolist() == [0, 1, 2] and mesh.group("soft").tetrahedra.tolist() == [0]
    assert set(mesh.groups) == {"wall", "soft"}


@pytest.mark.parametrize(("flavour", "field", "wall", "soft"), [
    ("a.mesh", "medit:ref", "surface 7", "volume 2"),
    ("b.vtu", "region", "region 7", "region 2"),
    ("42b.vtk", "region", "region 7", "region 2"),
    ("a.xdmf", "region", "region 7", "region 2"),
])  # fmt: skip
def test_references_and_integer_fields_are_groups(flavour, field, wall, soft, tmp_path):
    tags = [np.full(len(WALL), 7), np.isin(np.arange(10), HALF) + 1]
    content = meshio.Mesh(BOX.vertices, [("triangle", WALL), ("tetra", BOX.tetrahedra)], cell_data={field: tags})
    check_groups(TetMesh.load(written(tmp_path, content, flavour)), wall, soft)


def test_sets_of_abaqus_are_groups(tmp_path):
    rows = [f"{i + 1}, " + ", ".join(f"{c:.17g}" for c in x) for i, x in enumerate(BOX.vertices)]
    cells = {
        name: [f"{e + 1}, " + ", ".join(str(v + 1) for v in BOX.tetrahedra[e]) for e in part] for name, part in (("hard", OTHER), ("soft", HALF))
    }
    lines = ["*NODE", *rows, "*ELEMENT, TYPE=C3D4, ELSET=hard", *cells["hard"], "*ELEMENT, TYPE=C3D4, ELSET=soft", *cells["soft"],
             "*NSET, NSET=wall", ", ".join(str(v + 1) for v in np.unique(WALL)), ""]  # fmt: skip
    (tmp_path / "sets.inp").write_text("\n".join(lines))
    mesh = TetMesh.load(tmp_path / "sets.inp")
    assert mesh.group("wall").vertices.tolist() == np.unique(WALL).tolist()
    np.testing.assert_array_equal(mesh.tetrahedra[mesh.group("soft").tetrahedra], BOX.tetrahedra[HALF])


def test_attributes_and_marks_of_tetgen_are_groups(tmp_path):
    marks = np.zeros(len(BOX.vertices), int)
    marks[np.unique(WALL)] = 3
    content = meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)], point_data={"tetgen:ref": marks},
                          cell_data={"tetgen:ref": [np.isin(np.arange(10), HALF) + 1]})  # fmt: skip
    mesh = TetMesh.load(written(tmp_path, content, "a.node"))
    assert mesh.group("point 3").vertices.tolist() == np.unique(WALL).tolist()
    assert mesh.group("volume 2").tetrahedra.tolist() == HALF.tolist()


def test_groups_of_a_quadratic_mesh_lose_their_midside_vertices(tmp_path):
    content = quadratic(BOX)
    content.cell_data["gmsh:physical"] = content.cell_data["gmsh:geometrical"] = [np.isin(np.arange(10), HALF) + 1]
    with pytest.warns(MeshNotice):
        mesh = TetMesh.load(written(tmp_path, content, "2.msh"))
    np.testing.assert_array_equal(mesh.group("volume 2").vertices, np.unique(BOX.tetrahedra[HALF]))


def test_unknown_names_are_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"the mesh has no group 'wall'; it has none"):
        BOX.group("wall")
    mesh = TetMesh(BOX.vertices, BOX.tetrahedra, {"foot": Group.of([0, 1])})
    with pytest.raises(ValueError, match=r"pin is 'left'; expected one of x-min, .*, or a group of the mesh: it has 'foot'"):
        mesh.select("left")
    assert mesh.select("x-min").sum() == 4 and mesh.select("foot").sum() == 2


# Faults


@pytest.mark.parametrize("flavour", FORMATS)
@pytest.mark.parametrize("fault", ["empty", "binary", "truncated"])
def test_a_damaged_file_is_refused_by_name(flavour, fault, tmp_path, capsys):
    file = written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), flavour)
    capsys.readouterr()
    whole = file.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    # half of the data is gone; a text that is cut within its last number or tag may still be whole
    file.write_bytes({"empty": b"", "binary": noise, "truncated": whole[: len(whole) // 2]}[fault])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, which says that a text ends too early
        with pytest.raises(ValueError, match=file.name):
            TetMesh.load(file)
    assert capsys.readouterr() == ("", "")


CLAIMING = {
    "v2.msh": "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n$Nodes\n3000000000\n1 0 0 0\n$EndNodes\n",
    "v4.msh": "$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\n1 3000000000 1 3000000000\n3 1 0 3000000000\n1\n0 0 0\n$EndNodes\n",
    "text.vtk": "# vtk DataFile Version 4.2\nx\nASCII\nDATASET UNSTRUCTURED_GRID\nPOINTS 3000000000 float\n0 0 0\n",
    "binary.vtk": "# vtk DataFile Version 4.2\nx\nBINARY\nDATASET UNSTRUCTURED_GRID\nPOINTS 3000000000 float\nabcdefghijkl\n",
    "big.vtu": '<VTKFile type="UnstructuredGrid"><Piece NumberOfPoints="3000000000" NumberOfCells="1"/></VTKFile>',
    "big.mesh": "MeshVersionFormatted 2\nDimension 3\nVertices\n3000000000\n0 0 0 0\n",
    "big.ply": "ply\nformat ascii 1.0\nelement vertex 3000000000\nproperty float x\nend_header\n0\n",
    "big.stl": "\0" * 80 + "\0\0\0\x7f" + "\0" * 50,
}


@pytest.mark.parametrize("name", CLAIMING)
def test_a_file_that_claims_gigabytes_is_refused_before_they_are_taken(name, tmp_path):
    (tmp_path / name).write_bytes(CLAIMING[name].encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name} claims .*, but has only .* bytes"):
        TetMesh.load(tmp_path / name)


@pytest.mark.parametrize("flavour", ["2.msh", "4.msh", "4b.msh", "40.msh", "40b.msh"])  # the vertices of 2b count from one to the last
def test_the_largest_number_of_a_vertex_is_found_and_bounded_before_meshio_makes_a_table_of_it(flavour, tmp_path):
    count, file = len(BOX.vertices), written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), flavour)
    assert largest_vertex_number(file) == count
    data, huge = file.read_bytes(), 2 * 10**9
    start, end = data.index(b"$Nodes"), data.index(b"$EndNodes")
    nodes = data[start:end]
    if flavour in ("2.msh", "4.msh", "40.msh"):
        *before, last = re.finditer(rb"^%d(?=\s)" % count, nodes, re.MULTILINE)
        nodes = nodes[: last.start()] + b"%d" % huge + nodes[last.end() :]
    elif flavour == "4b.msh":  # the last of the numbers, in front of the first of the places
        here = nodes.index(np.uint64(count).tobytes() + BOX.vertices[0].tobytes())
        nodes = nodes[:here] + np.uint64(huge).tobytes() + nodes[here + 8 :]
    else:
        here = nodes.index(np.int32(count).tobytes() + BOX.vertices[-1].tobytes())
        nodes = nodes[:here] + np.int32(huge).tobytes() + nodes[here + 4 :]
    file.write_bytes(data[:start] + nodes + data[end:])
    with pytest.raises(ValueError, match=rf"{flavour} has a vertex of number {huge}, but only .* bytes"):
        TetMesh.load(file)


def test_an_xdmf_whose_hdf5_file_claims_gigabytes_that_it_does_not_hold_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    file = written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), "h.xdmf")
    (heavy,) = tmp_path.glob("*.h5")
    with h5py.File(heavy, "w") as content:  # HDF5 keeps no more than what was written, and reads the rest as zeros
        for name in ("data0", "data1"):
            content.create_dataset(name, (3_000_000_000, 4), np.float64, chunks=(1000, 4))
    text = re.sub(r'Dimensions="\d+', 'Dimensions="3000000000', file.read_text())
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bodyh\.xdmf claims 3000000000 .*, but has only"):
        TetMesh.load(file)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", [".node", ".ele"])
@pytest.mark.parametrize("text", ["\n", "# only\n# comments\n", "\x1c\n  \n"])
def test_a_file_of_tetgen_without_a_line_is_refused_where_meshio_looks_for_one_for_ever(ending, text, tmp_path):
    file = written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), "a.ele")
    file.with_suffix(ending).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="it has no line beside comments"):
        TetMesh.load(file)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["", "format ascii 1.0\n", "format ascii 1.0\nelement vertex 3\nproperty float x\ncomment end_header\n"])
def test_a_ply_whose_header_has_no_end_is_refused_where_meshio_looks_for_it_for_ever(text, tmp_path):
    (tmp_path / "body.ply").write_text("ply\n" + text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"body\.ply could not be read as a mesh \(its header has no end\)"):
        read_raw(tmp_path / "body.ply")


@pytest.mark.parametrize("way", [TetMesh.load, TetMesh.tidy])
@pytest.mark.parametrize("flavour", ["a.vtu", "42.vtk", "a.mesh", "a.xdmf"])
@pytest.mark.parametrize("foreign", [-1, len(BOX.vertices), 2**31 - 2])
def test_cells_of_vertices_that_are_not_there_are_refused(way, flavour, foreign, tmp_path):
    """-1 would be the last one, and tidying would join it."""
    cells = np.array(BOX.tetrahedra, np.int64)
    cells[2, 1] = foreign
    file = written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", cells)]), flavour)
    with pytest.raises(ValueError, match=rf"tetra 2 has vertices .*{foreign}.*; expected indices from 0 to {len(BOX.vertices) - 1}"):
        way(file)


def test_a_block_without_cells_is_no_obstacle(tmp_path):
    """Of an .inp, where meshio makes it one without columns."""
    file = written(tmp_path, meshio.Mesh(BOX.vertices, [("tetra", BOX.tetrahedra)]), "a.inp")
    text = file.read_text()
    file.write_text(text.replace("*ELEMENT", "*ELEMENT, TYPE=C3D4\n*ELEMENT", 1))
    assert len(TetMesh.load(file).tetrahedra) == len(BOX.tetrahedra)


def test_marks_of_tetgen_that_are_no_numbers_name_no_group(tmp_path):
    file = BOX.save(tmp_path / "body.node")
    marks = np.zeros(len(BOX.vertices))
    marks[:3] = 7, np.inf, np.nan
    lines = [f"{len(marks)} 3 0 1", *(f"{i} {x} {y} {z} {mark}" for i, ((x, y, z), mark) in enumerate(zip(BOX.vertices, marks, strict=True)))]
    file.write_text("\n".join(lines) + "\n")
    assert [name for name in TetMesh.load(file).groups if name.startswith("point")] == ["point 7"]


def test_claims_of_tetgen_and_a_missing_half_are_refused(tmp_path):
    BOX.save(tmp_path / "body.node")
    (tmp_path / "body.ele").write_text("3000000000 4 0\n0 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"body\.ele claims 3000000000"):
        TetMesh.load(tmp_path / "body.node")
    (tmp_path / "body.ele").unlink()
    with pytest.raises(ValueError, match=r"body\.node needs .*body\.ele beside it"):
        TetMesh.load(tmp_path / "body.node")


def test_cells_that_are_no_tetrahedra_are_refused(tmp_path):
    cube = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1.0]])
    meshio.Mesh(cube, [("hexahedron", [np.arange(8)]), ("tetra", [[0, 1, 3, 4]])]).write(tmp_path / "mixed.vtu")
    with pytest.raises(ValueError, match=r"mixed\.vtu holds hexahedron cells \(1 x hexahedron, 1 x tetra\); expected tetrahedra only"):
        TetMesh.load(tmp_path / "mixed.vtu")


# What can be mended


def torn() -> meshio.Mesh:
    """The box with a vertex doubled, one that is unused, one element inverted and one flat."""
    points = np.vstack([BOX.vertices, BOX.vertices[:1] + 1e-12, [(9, 9, 9)]])
    tetrahedra = BOX.tetrahedra.copy()
    around = np.flatnonzero((tetrahedra == 0).any(axis=1))[0]
    tetrahedra[around] = np.where(BOX.tetrahedra[around] == 0, len(BOX.vertices), BOX.tetrahedra[around])
    other = int((BOX.tetrahedra != 0).all(axis=1).argmax())
    tetrahedra[other] = tetrahedra[other, [1, 0, 2, 3]]
    return meshio.Mesh(points, [("tetra", np.vstack([tetrahedra, [[1, 1, 2, 3]]]))])


def test_doubled_vertices_are_refused(tmp_path):
    halves = meshio.Mesh(np.vstack([BOX.vertices, BOX.vertices]), [("tetra", np.vstack([BOX.tetrahedra, BOX.tetrahedra + len(BOX.vertices)]))])
    halves.write(tmp_path / "twice.vtu")
    with pytest.raises(ValueError, match=r"twice\.vtu: vertices 0 and 12 lie in one place, \(0\.1, 0\.2, 0\.3\) m, and so do 11 .*hodsim mesh tidy"):
        TetMesh.load(tmp_path / "twice.vtu")


def test_tidy_mends_what_has_one_answer_and_counts_it(tmp_path):
    torn().write(tmp_path / "torn.vtu")
    with pytest.raises(ValueError, match=r"torn\.vtu"):
        TetMesh.load(tmp_path / "torn.vtu")
    mesh, done = TetMesh.tidy(tmp_path / "torn.vtu", scale=1e-3)
    assert list(done.values()) == [1, 1, 1, 1]
    assert mesh.volumes.sum() == pytest.approx(BOX.volumes.sum() * 1e-9, rel=1e-12)
    assert len(mesh.vertices) == len(BOX.vertices) and mesh.components.max() == 0


def test_components_are_counted_by_shared_vertices():
    two = TetMesh(np.vstack([BOX.vertices, BOX.vertices + 5]), np.vstack([BOX.tetrahedra, BOX.tetrahedra + len(BOX.vertices)]))
    assert BOX.components.tolist() == [0] * len(BOX.vertices)
    assert two.components.tolist() == [0] * len(BOX.vertices) + [1] * len(BOX.vertices)


def test_a_part_that_is_pinned_nowhere_is_refused():
    two = TetMesh(np.vstack([BOX.vertices, BOX.vertices + 5]), np.vstack([BOX.tetrahedra, BOX.tetrahedra + len(BOX.vertices)]))
    material = StVK(youngs_modulus=1e5, poisson_ratio=0.3)
    with pytest.raises(ValueError, match=r"1 of 2 connected parts .* pinned nowhere.*around vertex 12, at \(5\.1, 5\.2, 5\.3\) m"):
        FullModel(two, material, density=1.0, pinned=np.array([0, 1, 2]))
    assert FullModel(two, material, density=1.0, pinned=np.array([0, 12])).n_dofs == 3 * (len(two.vertices) - 2)
