"""The model file (.hod): a full model and a subspace of it in one zip archive of JSON and safetensors. Nothing in it is code.

    model.json            format, units, version, fingerprint, materials, density, damping, the shape of the networks, what the maker noted
    arrays.safetensors    vertices, tetrahedra, groups, pins, densities and kinds of material, origin, basis, projection, weights of the networks,
                          cubature, error indicator

The archive's comment is the SHA-256 of all bytes before it: one changed byte, wherever it is, is noticed.
Basis and projection, nearly all of the file, may be in single precision; whatever is read is double again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import nn

from hodsim.checks import finite, positive, shape
from hodsim.fem import Composite, FullModel, Material, NeoHookean, Rayleigh, StableNeoHookean, StVK
from hodsim.mesh import Group, TetMesh
from hodsim.storage import write_atomically
from hodsim.subspace.autoencoder import Encoder, Trunk
from hodsim.subspace.quadratic import Squares
from hodsim.subspace.subspace import Subspace

FORMAT = "hodsim model 2"
UNSEALED = "hodsim model 1"  # the format before, which is read as well
UNITS = {"length": "m", "mass": "kg", "time": "s", "force": "N", "stress": "Pa"}
SEAL = 64  # bytes: hexadecimal digits
MATERIALS = {cls.__name__: cls for cls in (StVK, NeoHookean, StableNeoHookean)}
NETWORKS = ("trunk", "encoder")
ARGUMENTS = {Trunk: ("dim", "hidden"), Squares: ("dim",), Encoder: ("width", "hidden", "dim")}  # of their constructors


@dataclass(frozen=True)
class Model:
    """A full model, a subspace of its displacements, and notes on how it was made (dt, errors, seconds, versions).

    cubature: elements (n,) that sample the elastic energy and their weights (n,), or None for all of them. indicator: the arrays of the error
    indicator by name, or None."""

    full: FullModel
    subspace: Subspace
    notes: dict[str, Any] = field(default_factory=dict)
    cubature: tuple[np.ndarray, np.ndarray] | None = None
    indicator: Mapping[str, np.ndarray] | None = None

    def __post_init__(self):
        self.subspace.check_fits(self.full.n_dofs)

    def save(self, path: Path | str, *, single: bool = False) -> Path:
        """Write the model file; in single precision it is half as large, and displacements are a ten-millionth off.

        Raises OSError naming the path, leaving what was there, when it cannot be written."""
        full, subspace = self.full, self.subspace
        networks = {name: getattr(subspace, name) for name in NETWORKS if getattr(subspace, name) is not None}
        header = {
            "format": FORMAT,
            "units": UNITS,
            "hodsim": version("hodsim"),
            "fingerprint": full.fingerprint,
            "material": [_described(material) for material in full.material.constituents],
            "density": full.density if isinstance(full.density, float | int) else None,  # or an array
            "damping": asdict(full.damping),
            "lumped": full.lumped,
            "subspace": {"name": subspace.name, "dim": subspace.dim},
            "networks": {name: _structure(network) for name, network in networks.items()},
            "notes": self.notes,
        }
        arrays = {
            "vertices": full.mesh.vertices,
            "tetrahedra": full.mesh.tetrahedra,
            "pinned": full.pinned,
            "origin": subspace.origin,
            "basis": subspace.basis.astype(np.float32 if single else np.float64),
            "projection": subspace.projection.astype(np.float32 if single else np.float64),
        }
        if not isinstance(full.density, float | int):
            arrays["density"] = full.density
        if isinstance(full.material, Composite):
            arrays["kinds"] = full.material.kinds
        for name, group in full.mesh.groups.items():
            arrays |= {f"group.{part}.{name}": value for part, value in vars(group).items()}
        if self.cubature is not None:
            arrays["cubature.elements"], arrays["cubature.weights"] = self.cubature
        arrays |= {f"indicator.{name}": value for name, value in (self.indicator or {}).items()}
        for name, network in networks.items():
            arrays |= {f"{name}.{key}": value.numpy() for key, value in network.state_dict().items()}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("model.json", json.dumps(header, indent=2))
            archive.writestr("arrays.safetensors", safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
            archive.comment = b"0" * SEAL
        content = buffer.getvalue()[:-SEAL]
        return write_atomically(path, content + _seal(content))

    @classmethod
    def load(cls, path: Path | str, *, full: FullModel | None = None) -> Model:
        """Read a model file; given a full model, refuse a file that was made for another one.

        Raises FileNotFoundError, or ValueError saying what is wrong with the file.
        """
        content = Path(path).read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if any(member.file_size > len(content) for member in archive.infolist()):  # it would be unpacked into memory
                    raise ValueError("it claims to hold more than it has bytes for")
                header = json.loads(archive.read("model.json"))
                arrays = safetensors.numpy.load(archive.read("arrays.safetensors"))
        except Exception as error:  # a damaged archive fails in any way
            raise ValueError(f"{path} is corrupt or not a hodsim model file ({error}); expected one written by `hodsim train`") from None
        written = header.get("format") if isinstance(header, dict) else None
        if written not in (FORMAT, UNSEALED):
            raise ValueError(f"{path} has format {written!r}; this version reads {FORMAT!r}")
        if written == FORMAT and content[-SEAL:] != _seal(content[:-SEAL]):
            raise ValueError(f"{path} is corrupt: its content does not agree with its checksum; copy or train it again")
        if full is not None and header.get("fingerprint") != full.fingerprint:
            raise ValueError(
                f"{path} was made for another mesh, material or set of pins (fingerprint {header.get('fingerprint')}; "
                f"expected {full.fingerprint}); train a model for this one"
            )
        try:
            stored = _full_model(header, arrays) if full is None else full
            if stored.fingerprint != header["fingerprint"]:
                raise ValueError(f"its fingerprint is {header['fingerprint']}, but its content's is {stored.fingerprint}")
            indicator = {key.removeprefix("indicator."): value for key, value in arrays.items() if key.startswith("indicator.")}
            return cls(stored, _subspace(header, arrays), _notes(header), _cubature(arrays, stored), indicator or None)
        except MemoryError:
            raise
        except Exception as error:  # what another hand wrote, seal and all, is wrong in any way
            raise ValueError(f"{path} is incomplete or inconsistent: {error}") from None


def _seal(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _described(material: Material) -> dict[str, Any]:
    kind = type(material).__name__
    if MATERIALS.get(kind) is not type(material):
        raise ValueError(f"material {kind} cannot be stored in a model file; expected one of {', '.join(MATERIALS)}")
    return {"kind": kind, **vars(material)}


def _material(kind: str, **constants: float) -> Material:
    return MATERIALS[kind](**constants)


def _structure(network: nn.Module) -> dict[str, Any]:
    """The constructor's arguments of one of ARGUMENTS."""
    if type(network) not in ARGUMENTS:
        kinds = ", ".join(kind.__name__ for kind in ARGUMENTS)
        raise ValueError(f"a network of type {type(network).__name__} cannot be stored in a model file; expected one of {kinds}")
    return {name: getattr(network, name) for name in ARGUMENTS[type(network)]}


def _network(name: str, header: dict, arrays: dict[str, np.ndarray]) -> nn.Module | None:
    if name not in header["networks"]:
        return None
    structure = header["networks"][name]
    kind = next((kind for kind, names in ARGUMENTS.items() if set(names) == set(structure)), None)
    if kind is None:
        raise KeyError(f"a {name} of {', '.join(structure)}")
    stored = {key.removeprefix(f"{name}."): torch.from_numpy(value).double() for key, value in arrays.items() if key.startswith(f"{name}.")}
    numbers = sum(value.numel() for value in stored.values())
    if kind is Squares and not structure["dim"] ** 3 <= 2 * numbers:  # it fills its weights, r^2 (r + 1) / 2 of them, by itself
        raise ValueError(f"its {name} is said to be of {structure['dim']} coordinates, but has only {numbers} numbers")
    arguments: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in structure.items()}
    with torch.device("meta"):  # shapes alone: what is said of them allocates nothing
        network = kind(**arguments)
    network.load_state_dict(stored, assign=True)
    return network.requires_grad_(False)


def _cubature(arrays: dict[str, np.ndarray], full: FullModel) -> tuple[np.ndarray, np.ndarray] | None:
    if "cubature.elements" not in arrays:
        return None
    elements, weights = arrays["cubature.elements"], arrays["cubature.weights"]
    shape("cubature.weights", finite("cubature.weights", weights), elements.shape)
    if not np.issubdtype(elements.dtype, np.integer) or elements.ndim != 1 or not np.isin(elements, np.arange(len(full.mesh.tetrahedra))).all():
        raise ValueError(f"its cubature names elements that the mesh of {len(full.mesh.tetrahedra)} has not")
    return elements, weights


def _notes(header: dict) -> dict[str, Any]:
    notes = header["notes"]
    if not isinstance(notes, dict):
        raise ValueError(f"its notes are {type(notes).__name__}; expected names and values")
    if "dt" in notes:
        positive("dt", notes["dt"])
    return notes


def _subspace(header: dict, arrays: dict[str, np.ndarray]) -> Subspace:
    return Subspace(
        header["subspace"]["name"],
        header["subspace"]["dim"],
        arrays["origin"],
        arrays["basis"].astype(np.float64),
        arrays["projection"].astype(np.float64),
        _network("trunk", header, arrays),
        _network("encoder", header, arrays),
    )


def _groups(arrays: dict[str, np.ndarray]) -> dict[str, Group]:
    first = "group.vertices."
    names = [key.removeprefix(first) for key in arrays if key.startswith(first)]
    return {name: Group(*(arrays[f"group.{part.name}.{name}"] for part in fields(Group))) for name in names}


def _full_model(header: dict, arrays: dict[str, np.ndarray]) -> FullModel:
    said = header["material"]
    materials = tuple(_material(**each) for each in (said if isinstance(said, list) else [said]))  # one alone in files of before
    return FullModel(
        TetMesh(arrays["vertices"], arrays["tetrahedra"], _groups(arrays)),
        Composite(materials, arrays["kinds"]) if "kinds" in arrays else materials[0],
        density=arrays["density"] if header["density"] is None else header["density"],
        pinned=arrays["pinned"] if arrays["pinned"].any() else None,
        damping=Rayleigh(**header["damping"]),
        lumped=header["lumped"],
    )
