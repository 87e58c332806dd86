"""Motions in the files of other programs: what their own libraries read back is what was simulated."""

import sys
import xml.etree.ElementTree as ET

import meshio
import numpy as np
import pytest

from hodsim.mesh import TetMesh, save_motion
from hodsim.mesh.motion import Y_UP, surface_of

BOX = TetMesh.box((1, 1, 1), (3, 3, 3))  # with vertices inside, which a surface leaves out
TIMES = 0.05 * np.arange(1, 5)
FIELDS = np.random.default_rng(0).normal(scale=0.01, size=(4, *BOX.vertices.shape))
USED, TRIANGLES = surface_of(BOX)


def test_paraview_series_holds_every_frame_at_its_time(tmp_path):
    file = save_motion(tmp_path / "swing.pvd", BOX, FIELDS, TIMES)
    rows = ET.parse(file).getroot().findall("./Collection/DataSet")
    assert [float(row.get("timestep")) for row in rows] == pytest.approx(TIMES.tolist())
    for row, field in zip(rows, FIELDS, strict=True):
        frame = meshio.read(tmp_path / row.get("file"))
        np.testing.assert_array_equal(frame.points, BOX.vertices + field)
        np.testing.assert_array_equal(frame.point_data["displacement"], field)
        np.testing.assert_array_equal(frame.cells_dict["tetra"], BOX.tetrahedra)


@pytest.mark.parametrize("ending", ["ply", "obj"])
def test_frames_hold_the_deformed_surface(ending, tmp_path):
    first = save_motion(tmp_path / f"swing.{ending}", BOX, FIELDS, TIMES)
    assert first == tmp_path / f"swing_0001.{ending}"
    for number, field in enumerate(FIELDS, 1):
        frame = meshio.read(tmp_path / f"swing_{number:04d}.{ending}")
        np.testing.assert_array_equal(frame.points, (BOX.vertices + field)[USED])
        np.testing.assert_array_equal(frame.cells_dict["triangle"], TRIANGLES)


def test_glb_frames_stand_upright(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    save_motion(tmp_path / "swing.glb", BOX, FIELDS, TIMES)
    frame = trimesh.load_mesh(tmp_path / "swing_0004.glb", process=False)
    np.testing.assert_allclose(frame.vertices, (BOX.vertices + FIELDS[3])[USED] @ Y_UP.T, atol=1e-6)  # single precision
    assert frame.volume == pytest.approx(1.0, abs=0.1) and np.linalg.det(Y_UP) == pytest.approx(1.0)


@pytest.mark.parametrize("ending", ["usda", "usdc", "usd"])
def test_usd_holds_points_over_time(ending, tmp_path):
    pxr = pytest.importorskip("pxr.Usd")
    from pxr import UsdGeom

    stage = pxr.Stage.Open(str(save_motion(tmp_path / f"swing.{ending}", BOX, FIELDS, TIMES)))
    body = UsdGeom.Mesh(stage.GetDefaultPrim())
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    codes = body.GetPointsAttr().GetTimeSamples()
    np.testing.assert_allclose(np.array(codes) / stage.GetTimeCodesPerSecond(), TIMES)
    for code, field in zip(codes, FIELDS, strict=True):
        np.testing.assert_allclose(body.GetPointsAttr().Get(code), (BOX.vertices + field)[USED], atol=1e-6)
    assert list(body.GetFaceVertexIndicesAttr().Get()) == TRIANGLES.ravel().tolist()


def test_what_cannot_be_written_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"swing\.fbx; expected a name that ends in one of \.pvd, \.ply"):
        save_motion(tmp_path / "swing.fbx", BOX, FIELDS, TIMES)
    with pytest.raises(ValueError, match=r"displacements has shape \(4, 64, 3\); expected \(2, 64, 3\)"):
        save_motion(tmp_path / "swing.pvd", BOX, FIELDS, TIMES[:2])
    for module, ending in (("pxr", "usd"), ("trimesh", "glb")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ModuleNotFoundError, match=r'pip install "hodsim\[exports\]"'):
            save_motion(tmp_path / f"swing.{ending}", BOX, FIELDS, TIMES)
    assert not list(tmp_path.iterdir())
