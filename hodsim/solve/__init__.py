"""Equation solvers: Newton's method, dense and sparse linear solves. They know nothing of what the equations mean."""

from hodsim.solve.newton import ConvergenceError, Dense, Factorisation, NewtonResult, newton

__all__ = ["ConvergenceError", "Dense", "Factorisation", "NewtonResult", "newton"]
