"""A checkpoint: tensors and what else a training goes on from, in a safetensors file (nothing in it is code), sealed by a checksum of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, uint8

from hodsim.storage import write_atomically


def save(file: Path, identity: str, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> None:
    """Write tensors and JSON values under an identity: a description of the data and the settings of the training."""
    kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    text = json.dumps(said)
    write_atomically(file, serialise(kept, {"identity": identity, "said": text, "digest": _digest(kept, text)}))


def load(file: Path, identity: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What was saved under this identity; None where there is no file, or one of another identity. Raises ValueError for a corrupt one."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as archive:
            metadata = archive.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}
        if metadata.get("digest") != _digest(tensors, metadata.get("said", "")):
            raise SafetensorError("its content does not agree with its checksum")
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"checkpoint {file} is corrupt ({error}); delete it to start the training over") from None
    return tensors, json.loads(metadata["said"])


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256: one changed bit would go unnoticed into the weights."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.reshape(-1).view(uint8).numpy().tobytes())
    return digest.hexdigest()
