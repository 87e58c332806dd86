"""The full-order model: linear tetrahedra, hyperelastic materials, mass, damping, pins and loads."""

from hodsim.fem.composite import Composite
from hodsim.fem.loads import Load, body_load, gravity, group_force, group_traction, point_load, traction
from hodsim.fem.materials import InvertedElementError, Material, NeoHookean, StableNeoHookean, StVK
from hodsim.fem.model import FullModel, Rayleigh

__all__ = [
    "Composite", "FullModel", "InvertedElementError", "Load", "Material", "NeoHookean", "Rayleigh", "StVK", "StableNeoHookean",
    "body_load", "gravity", "group_force", "group_traction", "point_load", "traction",
]
