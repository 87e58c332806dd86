"""Snapshots: poses of the full model under a seeded sweep of load cases.

A load case is data, not code: named load shapes (columns of nodal forces) times signals in time. A case is computed on its own, from
rest, and stored in a file of its own that is written under a temporary name and renamed, so that a sweep which was interrupted
continues where it stopped. Training, validation and test data are split by load case, never within one.
"""

from hodsim.snapshots.cases import SPLITS, LoadCase, Periodic, Piecewise
from hodsim.snapshots.design import KINDS, USUAL, Kind, sweep
from hodsim.snapshots.generate import PRECISIONS, generate_snapshots
from hodsim.snapshots.records import Record
from hodsim.snapshots.shapes import BENDING, LoadShapes, bending_loads, group_loads, group_names, load_shapes
from hodsim.snapshots.store import Failure, Snapshots
from hodsim.snapshots.trajectories import Poses, Trajectories

__all__ = [
    "BENDING", "KINDS", "PRECISIONS", "SPLITS", "USUAL", "Failure", "Kind", "LoadCase", "LoadShapes", "Periodic", "Piecewise", "Poses", "Record",
    "Snapshots", "Trajectories", "bending_loads", "generate_snapshots", "group_loads", "group_names", "load_shapes", "sweep",
]
