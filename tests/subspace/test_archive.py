"""The model file: what is loaded is what was saved, and nothing else is accepted."""

import importlib.metadata
import json
import os
import zipfile

import numpy as np
import pytest

from cases import curved_subspace, quadratic_subspace, small_beam
from hodsim import storage
from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.subspace import Model, modal


@pytest.fixture
def model():
    return Model(small_beam(), curved_subspace(small_beam()), {"dt": 0.01})


@pytest.mark.parametrize("kind", ["network", "quadratic", "linear"])
def test_a_saved_model_decodes_and_encodes_as_before(kind, tmp_path):
    full = small_beam()
    subspace = {"network": curved_subspace, "quadratic": quadratic_subspace, "linear": lambda full: modal(full, 3)}[kind](full)
    loaded = Model.load(Model(full, subspace, {"dt": 0.01}).save(tmp_path / "beam.hod"))
    q = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(loaded.subspace.decode(q), subspace.decode(q))
    u = subspace.decode(q)
    np.testing.assert_array_equal(loaded.subspace.encode(u), subspace.encode(u))
    assert loaded.full.fingerprint == full.fingerprint
    assert loaded.notes == {"dt": 0.01}
    np.testing.assert_array_equal(loaded.full.internal_force(u[0]), full.internal_force(u[0]))


def test_single_precision_halves_the_file_and_keeps_seven_digits(model, tmp_path):
    double, single = model.save(tmp_path / "double.hod"), model.save(tmp_path / "single.hod", single=True)
    loaded = Model.load(single)
    assert loaded.subspace.basis.dtype == np.float64
    q = np.random.default_rng(0).standard_normal((5, 3))
    expected = model.subspace.decode(q)
    np.testing.assert_allclose(loaded.subspace.decode(q), expected, rtol=0, atol=1e-6 * np.abs(expected).max())  # 11 terms of eps = 6e-8
    saved = double.stat().st_size - single.stat().st_size
    assert saved == pytest.approx(4 * (model.subspace.basis.size + model.subspace.projection.size), abs=64)


def test_a_file_of_another_model_is_refused(model, tmp_path):
    file = model.save(tmp_path / "beam.hod")
    mesh = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    other = FullModel(mesh, StVK(youngs_modulus=2e5, poisson_ratio=0.3), density=1e3, pinned=mesh.vertices[:, 0] == 0)
    with pytest.raises(ValueError, match="was made for another mesh, material or set of pins"):
        Model.load(file, full=other)


def test_a_subspace_of_another_mesh_is_refused():
    mesh = TetMesh.box((0.5, 0.1, 0.1), (5, 1, 1))
    other = FullModel(mesh, StVK(youngs_modulus=1e5, poisson_ratio=0.3), density=1e3, pinned=mesh.vertices[:, 0] == 0)
    with pytest.raises(ValueError, match="belong to different meshes or pins"):
        Model(other, curved_subspace(small_beam()))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.hod"):
        Model.load(tmp_path / "nothing.hod")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"], ids=["empty", "text", "truncated"])
def test_a_foreign_file_is_refused(content, tmp_path):
    file = tmp_path / "foreign.hod"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.hod is corrupt or not a hodsim model file"):
        Model.load(file)


def test_a_flipped_byte_is_noticed_wherever_it_is(model, tmp_path):
    whole = model.save(tmp_path / "beam.hod").read_bytes()
    file = tmp_path / "flipped.hod"
    with zipfile.ZipFile(tmp_path / "beam.hod") as archive:
        first = archive.infolist()[0]
    headers = [*range(first.header_offset, first.header_offset + 50), *range(len(whole) - 250, len(whole))]  # of the archive itself, and its end
    for offset in [*headers, *np.random.default_rng(0).integers(0, len(whole), 200)]:
        broken = bytearray(whole)
        broken[offset] ^= 0x10
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"flipped\.hod (is corrupt|has format)"):
            Model.load(file)


def test_any_truncation_is_noticed(model, tmp_path):
    whole = model.save(tmp_path / "beam.hod").read_bytes()
    file = tmp_path / "cut.hod"
    for length in (*range(0, len(whole), 1009), *range(len(whole) - 130, len(whole))):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.hod is corrupt"):
            Model.load(file)


def test_units_and_versions_are_stored(model, tmp_path):
    with zipfile.ZipFile(model.save(tmp_path / "beam.hod")) as archive:
        header = json.loads(archive.read("model.json"))
    assert header["units"]["length"] == "m" and header["units"]["stress"] == "Pa"
    assert header["hodsim"] == importlib.metadata.version("hodsim")
    assert header["fingerprint"] == model.full.fingerprint


def test_an_archive_of_another_version_is_refused(model, tmp_path):
    file = model.save(tmp_path / "beam.hod")
    with zipfile.ZipFile(file) as archive:
        header, arrays = json.loads(archive.read("model.json")), archive.read("arrays.safetensors")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.json", json.dumps({**header, "format": "hodsim model 99"}))
        archive.writestr("arrays.safetensors", arrays)
    with pytest.raises(ValueError, match="format 'hodsim model 99'; this version reads"):
        Model.load(file)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_keeps_the_model_that_was_there(model, tmp_path, monkeypatch):
    file = model.save(tmp_path / "beam.hod")
    before = file.read_bytes()
    real_open = open
    monkeypatch.setattr(storage, "open", lambda path, mode: real_open("/dev/full", mode), raising=False)
    with pytest.raises(OSError, match=r"beam\.hod could not be saved: No space left on device"):
        model.save(file)
    assert file.read_bytes() == before


def test_a_cubature_comes_back_as_it_went(model, tmp_path):
    cubature = np.array([3, 5, 8]), np.array([1.5, 2.0, 4.0])
    loaded = Model.load(Model(model.full, model.subspace, {}, cubature).save(tmp_path / "beam.hod"))
    np.testing.assert_array_equal(loaded.cubature, cubature)
    assert Model.load(model.save(tmp_path / "beam.hod")).cubature is None
