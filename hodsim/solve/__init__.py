"""Equation solvers: Newton's method, dense and sparse linear solves. They know nothing of what the equations mean."""

from hodsim.solve.iterative import Iterative
from hodsim.solve.newton import ConvergenceError, Dense, Factorisation, NewtonResult, newton
from hodsim.solve.sparse import Banded, LinearSolver, Sparse, linear_solver

__all__ = [
    "Banded",
    "ConvergenceError",
    "Dense",
    "Factorisation",
    "Iterative",
    "LinearSolver",
    "NewtonResult",
    "Sparse",
    "linear_solver",
    "newton",
]
