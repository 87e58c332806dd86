"""The decoder for other programs: latent coordinates q (B, r) to the displacement of every vertex (B, V, 3) [m], pinned ones at zero.

    .pt2     torch.export, for PyTorch in Python and C++
    .onnx    ONNX, for anything else (by the packages onnx and onnxscript)
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hodsim.storage import write_atomically
from hodsim.subspace.archive import Model

DECODERS = (".pt2", ".onnx")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
EXTRA = 'pip install "hodsim[exports]"'


class Decoder(nn.Module):
    """u(q) = u0 + W g(q) on all vertices: q (B, r) to (B, V, 3)."""

    def __init__(self, model: Model):
        super().__init__()
        full, subspace = model.full, model.subspace
        basis = np.stack([full.full_displacement(column) for column in subspace.basis.T])  # (m, V, 3)
        self.trunk = copy.deepcopy(subspace.trunk) if subspace.trunk is not None else nn.Identity()
        self.register_buffer("basis", torch.from_numpy(basis.reshape(len(basis), -1)))
        self.register_buffer("origin", torch.from_numpy(full.full_displacement(subspace.origin).ravel()))

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        return (self.origin + self.trunk(q) @ self.basis).unflatten(-1, (-1, 3))


def export_decoder(model: Model, output: Path | str, *, dtype: str = "float32") -> Path:
    """Write the decoder of a model by the ending of output, .pt2 or .onnx; the batch B is free.

    Raises ValueError for another ending or dtype, ModuleNotFoundError saying what to install where ONNX is missing."""
    output = Path(output)
    if output.suffix not in DECODERS:
        raise ValueError(f"a decoder cannot be written as {output}; expected a name that ends in one of {', '.join(DECODERS)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    decoder = Decoder(model).to(DTYPES[dtype]).eval()
    example = (torch.zeros(2, model.subspace.dim, dtype=DTYPES[dtype]),)
    batch = ({0: torch.export.Dim("batch")},)
    if output.suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(decoder, example, dynamic_shapes=batch), buffer)
        return write_atomically(output, buffer.getvalue())
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{output} needs onnx and onnxscript ({error}); install them by `{EXTRA}`") from None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        draft = Path(folder) / output.name
        torch.onnx.export(
            decoder, example, draft, input_names=["q"], output_names=["displacement"], dynamic_shapes=batch,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        return write_atomically(output, draft.read_bytes())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on packages that it could have used, too."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        exporter.setLevel(before)
