"""The names that `hodsim` itself has: each has its place in a layer."""

from hodsim.dynamics import State, backward_euler, bdf2, newmark, simulate, step
from hodsim.fem import (
    Composite,
    FullModel,
    Load,
    Material,
    NeoHookean,
    Rayleigh,
    StableNeoHookean,
    StVK,
    body_load,
    gravity,
    group_force,
    group_traction,
    point_load,
    traction,
)
from hodsim.mesh import TetMesh
from hodsim.multicomplex import derivative, derivatives, hessian, jacobian, laplacian, left_contraction
from hodsim.reduced import BatchedStep, CompiledStep, Cubature, CubicForce, ReducedModel, variational_step
from hodsim.snapshots import LoadCase, Snapshots, bending_loads, generate_snapshots, sweep
from hodsim.solve import ConvergenceError
from hodsim.subspace import Model, Subspace, modal, pca

__all__ = [
    "BatchedStep",
    "CompiledStep",
    "Composite",
    "ConvergenceError",
    "Cubature",
    "CubicForce",
    "FullModel",
    "Load",
    "LoadCase",
    "Material",
    "Model",
    "NeoHookean",
    "Rayleigh",
    "ReducedModel",
    "Snapshots",
    "StVK",
    "StableNeoHookean",
    "State",
    "Subspace",
    "TetMesh",
    "backward_euler",
    "bdf2",
    "bending_loads",
    "body_load",
    "derivative",
    "derivatives",
    "generate_snapshots",
    "gravity",
    "group_force",
    "group_traction",
    "hessian",
    "jacobian",
    "laplacian",
    "left_contraction",
    "modal",
    "newmark",
    "pca",
    "point_load",
    "simulate",
    "step",
    "sweep",
    "traction",
    "variational_step",
]
