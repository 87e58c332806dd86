"""Physics-informed networks (HoD-Net, eq. 13): residuals of a field, and Levenberg-Marquardt in its parameters."""

from hodsim.pinn.gauss_newton import ResidualGaussNewton
from hodsim.pinn.jacobian import LayeredJacobian
from hodsim.pinn.levenberg_marquardt import LevenbergMarquardt
from hodsim.pinn.problem import Condition, Field, Problem, Residual, dirichlet, network
from hodsim.pinn.samplers import adaptive, face, faces, gauss, gauss_faces, grid, sobol

__all__ = [
    "Condition", "Field", "LayeredJacobian", "LevenbergMarquardt", "Problem", "Residual", "ResidualGaussNewton", "adaptive", "dirichlet", "face",
    "faces", "gauss", "gauss_faces", "grid", "network", "sobol",
]  # fmt: skip
