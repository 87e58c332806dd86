"""Reduced models: the latent equation of motion of a subspace, in Euler-Lagrange and in variational form."""

from hodsim.reduced.acquisition import hardest
from hodsim.reduced.ahead import Compilation, compile_ahead
from hodsim.reduced.batched import BatchedStep
from hodsim.reduced.calibration import calibrate
from hodsim.reduced.compiled import CompiledStep, Rollout
from hodsim.reduced.cubature import Cubature
from hodsim.reduced.cubic import CubicForce
from hodsim.reduced.elasticity import Elasticity, ExactElasticity
from hodsim.reduced.fallback import simulate_with_fallback
from hodsim.reduced.indicator import Indicator
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.refinement import refine_weights
from hodsim.reduced.rollouts import rollout_error, step_microseconds, subspace_error
from hodsim.reduced.sizing import Sampling, choose_cubature, fitting_poses
from hodsim.reduced.variational import variational_step

__all__ = [
    "BatchedStep",
    "Compilation",
    "CompiledStep",
    "Cubature",
    "CubicForce",
    "Elasticity",
    "ExactElasticity",
    "Indicator",
    "ReducedModel",
    "Rollout",
    "Sampling",
    "calibrate",
    "choose_cubature",
    "compile_ahead",
    "fitting_poses",
    "hardest",
    "refine_weights",
    "rollout_error",
    "simulate_with_fallback",
    "step_microseconds",
    "subspace_error",
    "variational_step",
]
