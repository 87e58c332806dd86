"""Reduced models: the latent equation of motion of a subspace, in Euler-Lagrange and in variational form."""

from hodsim.reduced.compiled import CompiledStep, Rollout, compile_ahead
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.cubic import CubicForce
from hodsim.reduced.elasticity import Elasticity, ExactElasticity
from hodsim.reduced.indicator import Indicator
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.sizing import Sampling, choose_cubature, fitting_poses
from hodsim.reduced.variational import variational_step

__all__ = [
    "CompiledStep",
    "Cubature",
    "CubicForce",
    "Elasticity",
    "ExactElasticity",
    "Indicator",
    "ReducedModel",
    "Rollout",
    "Sampling",
    "choose_cubature",
    "compile_ahead",
    "fitting_poses",
    "variational_step",
]
