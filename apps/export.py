"""`hodsim export`: a model's decoder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.console import say, working
from hodsim.subspace import Model
from hodsim.subspace.decoder import DECODERS, DTYPES, export_decoder


def export(
    model: Annotated[Path, typer.Argument(help="Model file (.hod), as `hodsim train` writes it.")],
    output: Annotated[Path, typer.Argument(help=f"File to write ({', '.join(DECODERS)}).")],
    dtype: Annotated[str, typer.Option(help=f"{' or '.join(DTYPES)}.")] = "float32",
) -> None:
    """Write the decoder, latent coordinates (B, r) to displacements (B, V, 3) in metres, by torch.export (.pt2) or as ONNX (.onnx).

    Example: hodsim export out/beam/model.hod decoder.onnx
    """
    loaded = Model.load(model)
    with working("Exporting"):
        file = export_decoder(loaded, output, dtype=dtype)
    say(f"saved {file}: q (B, {loaded.subspace.dim}) -> displacement (B, {len(loaded.full.mesh.vertices)}, 3) in metres, {dtype}")
