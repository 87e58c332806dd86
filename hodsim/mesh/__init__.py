"""Tetrahedral meshes: their geometry, their files with named groups, and closed surfaces filled with them."""

from hodsim.mesh.files import MeshNotice
from hodsim.mesh.groups import Group
from hodsim.mesh.motion import MOTIONS, save_motion
from hodsim.mesh.surfaces import fill
from hodsim.mesh.tetrahedra import EDGES, TetMesh

__all__ = ["EDGES", "MOTIONS", "Group", "MeshNotice", "TetMesh", "fill", "save_motion"]
