"""The file of one finished load case: HDF5 with displacements and velocities (steps, d), compressed, and what made them.

Each chunk carries a checksum that HDF5 compares on every read, so does its own bookkeeping (libver "v110"), and a SHA-256 of the arrays
tells whether two sweeps agree bit for bit. Chunks are blocks of steps, so that some steps, or some degrees of freedom, are read alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hodsim.snapshots.cases import LoadCase

FORMAT = "hodsim snapshots 2"
SUFFIX = ".h5"
FIELDS = ("displacements", "velocities")
DEFLATE = 1040  # bytes that gzip makes of one, at most
CHUNK = 2**18  # bytes: small enough to read a few steps alone, large enough to compress


class CorruptFileError(ValueError):
    """A file of snapshots that is damaged: what it held is to be computed again."""


@dataclass(frozen=True)
class Record:
    """displacements [m] and velocities [m/s] (steps, d) of a load case every dt [s], the seconds of one core that they took, and the
    provenance: what else made them, as it is to be stored (settings, versions)."""

    case: LoadCase
    displacements: np.ndarray
    velocities: np.ndarray
    dt: float
    seconds: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of both arrays."""
        return hashlib.sha256(self.displacements.tobytes() + self.velocities.tobytes()).hexdigest()

    def to_bytes(self, fingerprint: str) -> bytes:
        """The content of the file, for the model of that fingerprint."""
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=("v110", "v110")) as file:
            for name in FIELDS:
                array = getattr(self, name)
                file.create_dataset(name, data=array, chunks=_chunks(array), compression="gzip", compression_opts=1, shuffle=True, fletcher32=True)
            header = json.dumps({
                "format": FORMAT, "fingerprint": fingerprint, "dt": self.dt, "seconds": self.seconds, "case": self.case.to_json(),
                "digest": self.digest, "provenance": self.provenance,
            })  # fmt: skip
            file.attrs.update({"header": header, "checksum": _checksum(header)})
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> Record:
        """Raises ValueError if the file is corrupt, of another version or of another model."""
        with opened(path, fingerprint) as (file, header):
            record = cls(header.case, file["displacements"][()], file["velocities"][()], header.dt, header.seconds, header.provenance)
        if record.digest != header.digest:
            raise _corrupt(path, "its checksum is another")
        return record


@dataclass(frozen=True)
class Header:
    """What a file says of its arrays, (steps, d) each, without their being read."""

    path: Path
    case: LoadCase
    dt: float
    seconds: float
    shape: tuple[int, int]
    dtype: np.dtype
    digest: str
    provenance: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> Header:
        with opened(path, fingerprint) as (_, header):
            return header


@contextmanager
def opened(path: Path, fingerprint: str) -> Iterator[tuple[Any, Header]]:
    """A file of snapshots for reading. Raises ValueError if it is corrupt, of another version or of another model."""
    try:
        with h5py.File(path, "r", locking=False) as content:
            file: Any = content  # what h5py's own types say of an item does not help
            yield file, _header(path, file, fingerprint)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, RuntimeError, UnicodeError) as error:  # what HDF5 raises for a damaged file
        raise _corrupt(path, " ".join(str(error).split())) from None


def _header(path: Path, file: Any, fingerprint: str) -> Header:
    try:
        text = file.attrs["header"]
        if file.attrs["checksum"] != _checksum(text):
            raise _corrupt(path, "its checksum is another")
        said, array = json.loads(text), _arrays(path, file)[0]
        if said["format"] != FORMAT:
            raise ValueError(f"{path} has format {said['format']!r}; expected {FORMAT!r}")
        if said["fingerprint"] != fingerprint:
            raise ValueError(f"{path} belongs to another model (fingerprint {said['fingerprint']}; expected {fingerprint})")
        case = LoadCase.from_json(said["case"])
        return Header(path, case, said["dt"], said["seconds"], array.shape, array.dtype, said["digest"], said["provenance"])
    except (AttributeError, TypeError, RecursionError) as error:  # a header that is no text, or says something of another kind
        raise _corrupt(path, str(error)) from None


def _arrays(path: Path, file: Any) -> list[Any]:
    """Displacements and velocities, which are to lie in this file and not elsewhere, and to claim no more than it can hold."""
    found = []
    for name in FIELDS:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise _corrupt(path, f"{name} does not lie in it")
        array = file[name]
        if array.is_virtual or array.external or array.ndim != 2 or array.dtype not in ("<f4", "<f8"):
            raise _corrupt(path, f"{name} is no array of numbers (steps, d) of its own")
        if array.nbytes > DEFLATE * path.stat().st_size:  # nothing is allocated for what cannot be there
            raise _corrupt(path, f"{name} claims {array.nbytes} bytes, more than a file of {path.stat().st_size} can hold")
        found.append(array)
    if found[0].shape != found[1].shape:
        raise _corrupt(path, f"its arrays have the shapes {found[0].shape} and {found[1].shape}")
    return found


def _corrupt(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(f"{path} is corrupt or no file of snapshots ({reason}); delete it and run the sweep again")


def _checksum(header: str) -> str:
    return hashlib.sha256(header.encode()).hexdigest()


def _chunks(array: np.ndarray) -> tuple[int, int]:
    steps, d = array.shape
    return max(1, min(steps, CHUNK // (d * array.itemsize))), min(d, CHUNK // array.itemsize)
