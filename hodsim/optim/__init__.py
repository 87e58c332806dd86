"""Second-order training of networks (HoD-Net, Algorithm 1)."""

from hodsim.optim.curvature import GaussNewton, Hessian
from hodsim.optim.newton_krylov import NewtonKrylov, Outcome, Step
from hodsim.optim.preconditioners import Identity, Jacobi, KroneckerFactored

__all__ = ["GaussNewton", "Hessian", "Identity", "Jacobi", "KroneckerFactored", "NewtonKrylov", "Outcome", "Step"]
