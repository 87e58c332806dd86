"""A sample of tests/fuzz: some damaged and some ill-meant inputs to every reader; and the worst ones by hand."""

import io
import json
import signal
import zipfile

import h5py
import numpy as np
import pytest
from fuzz import seeds
from fuzz.trial import fuzz

from hodsim.mesh import TetMesh
from hodsim.project import toml
from hodsim.snapshots import Record
from hodsim.subspace import Model

if not hasattr(signal, "SIGPROF"):
    pytest.skip("a reader that hangs is stopped by a timer, which this system does not have", allow_module_level=True)

NAMES = (
    "model", "snapshots", "failure", "recording", "project", "checkpoint",
    *(f"mesh {ending}" for ending in (".msh", ".vtu", ".vtk", ".mesh", ".inp", ".xdmf", ".node")),
    *(f"surface {ending}" for ending in (".obj", ".stl", ".ply")),
)  # fmt: skip


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return {kind.name: kind for kind in seeds.kinds(tmp_path_factory.mktemp("seeds"))}


def test_the_sample_has_every_kind(kinds):
    assert set(kinds) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read(kinds, name, tmp_path):
    for number, content in enumerate(kinds[name].seeds):
        file = tmp_path / str(number) / f"input{kinds[name].ending}"
        file.parent.mkdir()
        file.write_bytes(content)
        kinds[name].read(file)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_and_forged_files_end_in_a_sentence(kinds, name):
    tally = fuzz(kinds[name], 40)
    assert tally.inputs >= 30 and tally.refused > 0


# The worst, by hand


def test_an_archive_that_would_unpack_to_a_gigabyte_is_refused(tmp_path):
    file = tmp_path / "bomb.hod"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", json.dumps({"format": "hodsim model 1"}))
        archive.writestr("arrays.safetensors", bytes(2**26))
    with pytest.raises(ValueError, match="more than it has bytes for"):
        Model.load(file)


def test_networks_larger_than_their_arrays_are_not_made(kinds, tmp_path):
    def enlarged(value):
        value["header"]["networks"]["trunk"] |= {"hidden": [10**6, 10**6]}  # 8 TB of weights
        return value

    file = tmp_path / "large.hod"
    file.write_bytes(seeds._forged_model(kinds["model"].seeds[0], enlarged))
    with pytest.raises(ValueError, match="size mismatch"):
        Model.load(file)


def test_archives_write_nothing(kinds, tmp_path):
    """A member called ../elsewhere is never unpacked."""
    buffer = io.BytesIO(kinds["model"].seeds[0])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("../elsewhere", b"x")
    file = tmp_path / "folder" / "model.hod"
    file.parent.mkdir()
    file.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="checksum"):
        Model.load(file)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "model.hod"]


def rewritten(content: bytes, change) -> bytes:
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def claims_a_petabyte(file):
    del file["velocities"]
    file.create_dataset("velocities", (10**9, 10**5), "f8", chunks=(1, 1000))


def lies_elsewhere(file):
    del file["velocities"]
    file["velocities"] = h5py.ExternalLink("other.h5", "/velocities")


def has_external_storage(file):
    shape = file["velocities"].shape
    del file["velocities"]
    file.create_dataset("velocities", shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("change", [claims_a_petabyte, lies_elsewhere, has_external_storage], ids=lambda change: change.__name__)
def test_snapshots_hold_their_own_numbers_and_no_more_than_they_can(kinds, tmp_path, change):
    file = tmp_path / "case.h5"
    file.write_bytes(rewritten(kinds["snapshots"].seeds[0], change))
    with pytest.raises(ValueError, match="is corrupt"):
        Record.read(file, seeds.body().fingerprint)


@pytest.mark.parametrize(("name", "content", "said"), [
    ("grid.vtk", b"# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\nDIMENSIONS 99999 99999 99999\nORIGIN 0 0 0\nSPACING 1 1 1\n",
     "UNSTRUCTURED_GRID"),
    ("set.inp", b"*NODE\n1, 0, 0, 0\n*NSET, NSET=a, GENERATE\n1, 2000000000, 1\n", "cut short or damaged"),
])  # fmt: skip
def test_meshes_that_count_instead_of_listing_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        TetMesh.load(tmp_path / name)


def test_a_set_that_is_generated_is_read(kinds, tmp_path):
    (tmp_path / "set.inp").write_bytes(kinds["mesh .inp"].seeds[1])
    np.testing.assert_array_equal(TetMesh.load(tmp_path / "set.inp").group("all").tetrahedra, np.arange(10))


@pytest.mark.parametrize("setting", ["sweep = {train = 1000000000000}", "simulation = {steps = 1000000000000}",
                                     "subspace = {hidden = [1000000000000]}", "subspace = {coordinates = 1000000000000}"])  # fmt: skip
def test_a_project_asks_for_no_more_than_a_machine_could_hold(tmp_path, setting):
    (tmp_path / "large.toml").write_text(f'mesh = "body.msh"\n{setting}\n')
    with pytest.raises(ValueError, match="at most"):
        toml.read(tmp_path / "large.toml")
