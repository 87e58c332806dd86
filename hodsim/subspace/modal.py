"""Modal analysis: the r free vibrations of lowest frequency about the rest shape, K w = omega^2 M w."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from hodsim.fem import FullModel
from hodsim.subspace.subspace import Subspace


def modal(full: FullModel, dim: int) -> Subspace:
    """The `dim` lowest modes W of the rest shape, with W^T M W = I."""
    modes, _ = vibrations(full, dim)
    return Subspace.linear(f"modal {dim}", modes, full.mass)


def vibrations(full: FullModel, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Mode shapes (d, number), M-orthonormal, and their angular frequencies [rad/s] in increasing order."""
    if not 0 < number < full.n_dofs:
        raise ValueError(f"number of modes is {number}; expected 1 to {full.n_dofs - 1}")
    # shift-invert about zero finds the lowest modes; a fixed start makes the result reproducible
    inverse = LinearOperator(full.rest_stiffness.shape, matvec=full.solver.factor(full.rest_stiffness.data).solve, dtype=float)
    squares, modes = eigsh(full.rest_stiffness, number, full.mass, sigma=0.0, v0=np.ones(full.n_dofs), OPinv=inverse)
    order = np.argsort(squares)
    return modes[:, order], np.sqrt(squares[order])
