"""Equation solvers: Newton's method, dense and sparse linear solves. They know nothing of what the equations mean."""

from hodsim.solve.newton import ConvergenceError, Dense, Factorisation, NewtonResult, newton
from hodsim.solve.sparse import Banded, DirectSolver, Sparse, direct_solver

__all__ = [
    "Banded",
    "ConvergenceError",
    "Dense",
    "DirectSolver",
    "Factorisation",
    "NewtonResult",
    "Sparse",
    "direct_solver",
    "newton",
]
