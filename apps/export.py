"""`hodsim export`: a model's decoder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hodsim.apps.arguments import ModelPath, Set, model_file
from hodsim.apps.console import say, working
from hodsim.subspace import Model
from hodsim.subspace.decoder import DECODERS, DTYPES, export_decoder


def export(
    model: ModelPath,
    output: Annotated[Path, typer.Argument(help=f"File to write ({', '.join(DECODERS)}).")],
    dtype: Annotated[str, typer.Option(help=f"{' or '.join(DTYPES)}.")] = "float32",
    set: Set = None,
) -> None:
    """Write the decoder, latent coordinates (B, r) to displacements (B, V, 3) in metres, by torch.export (.pt2) or as ONNX (.onnx).

    Example: hodsim export out/beam/model.hod decoder.onnx
    """
    file, _ = model_file(model, set)
    loaded = Model.load(file)
    with working("Exporting"):
        written = export_decoder(loaded, output, dtype=dtype)
    say(f"saved {written}: q (B, {loaded.subspace.dim}) -> displacement (B, {len(loaded.full.mesh.vertices)}, 3) in metres, {dtype}")
