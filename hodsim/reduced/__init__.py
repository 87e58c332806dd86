"""Reduced models: the latent equation of motion of a subspace, in Euler-Lagrange and in variational form."""

from hodsim.reduced.cubature import Cubature
from hodsim.reduced.elasticity import Elasticity, ExactElasticity
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.variational import variational_step

__all__ = ["Cubature", "Elasticity", "ExactElasticity", "ReducedModel", "variational_step"]
