"""The exported decoder decodes as the subspace does, read by programs that know nothing of hodsim."""

import sys

import numpy as np
import pytest
import torch

from cases import curved_subspace, small_beam
from hodsim.subspace import Model, modal
from hodsim.subspace.decoder import export_decoder

Q = np.random.default_rng(0).standard_normal((5, 3))
ROUNDING = {"float32": 1e-5, "float64": 1e-12}  # of sums over a few dozen numbers of order one, in units of the largest displacement


def model(kind: str) -> Model:
    full = small_beam()
    return Model(full, curved_subspace(full) if kind == "network" else modal(full, 3))


def expected(chosen: Model) -> np.ndarray:
    return np.stack([chosen.full.full_displacement(u) for u in chosen.subspace.decode(Q)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["network", "linear"])
def test_torch_export_decodes_as_the_subspace(kind, dtype, tmp_path):
    chosen = model(kind)
    program = torch.export.load(export_decoder(chosen, tmp_path / "decoder.pt2", dtype=dtype)).module()
    found = program(torch.from_numpy(Q.astype(dtype))).numpy()
    assert found.dtype == dtype
    assert chosen.subspace.decode(Q).dtype == np.float64  # the model itself is as it was
    np.testing.assert_allclose(found, expected(chosen), atol=ROUNDING[dtype] * np.abs(expected(chosen)).max())


@pytest.mark.parametrize("kind", ["network", "linear"])
def test_onnx_decodes_as_the_subspace(kind, tmp_path):
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    chosen = model(kind)
    program = reference.ReferenceEvaluator(str(export_decoder(chosen, tmp_path / "decoder.onnx")))
    (found,) = program.run(None, {"q": Q.astype(np.float32)})
    np.testing.assert_allclose(found, expected(chosen), atol=1e-5 * np.abs(expected(chosen)).max())


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"decoder\.pb; expected a name that ends in one of \.pt2, \.onnx"):
        export_decoder(model("linear"), tmp_path / "decoder.pb")
    with pytest.raises(ValueError, match=r"dtype is 'half'; expected one of float32, float64"):
        export_decoder(model("linear"), tmp_path / "decoder.pt2", dtype="half")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs onnx and onnxscript.*pip install "hodsim\[exports\]"'):
        export_decoder(model("linear"), tmp_path / "decoder.onnx")
    assert not list(tmp_path.iterdir())
