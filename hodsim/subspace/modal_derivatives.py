"""Modal derivatives: how the modes turn as the body bends, Phi_ij = -K^-1 (dK/d eta_j) Phi_i (Idelsohn & Cardona 1985; Barbic & James 2005).

They are the second derivatives of the static response to loads K Phi_i, symmetric in i and j, and hold what pure modes lack at large
deflections: the shortening of a beam that bends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hodsim.fem import FullModel
from hodsim.subspace.modal import vibrations
from hodsim.subspace.pca import pca
from hodsim.subspace.subspace import Subspace

DEFLECTION = 0.25  # of the first mode, for the size of derivatives beside modes, in lengths of the body
STEP = 1e-3  # of the central difference, in edges of the mesh


def modal_derivatives(full: FullModel, dim: int, *, modes: int | None = None) -> Subspace:
    """The `dim` principal directions W, W^T M W = I, of the lowest modes (`dim` unless told otherwise) and their derivatives.

    Modes weigh lambda_1 / lambda_j, derivatives a lambda_1^2 / (lambda_i lambda_j), lambda = omega^2. Barbic & James take a = 1, which
    depends on units; here a is the amplitude at which the first mode moves a vertex by a quarter of the body's length.
    Raises ValueError for a body that nothing holds, whose K is singular, and for a dim above the number of columns.
    """
    if not full.pinned.any():
        raise ValueError("modal derivatives need a body that is held: the stiffness of a free one is singular; pin some vertices")
    shapes, omega = vibrations(full, dim if modes is None else modes)
    weights = (omega[0] / omega) ** 2
    amplitude = DEFLECTION * np.ptp(full.mesh.vertices, axis=0).max() / np.abs(shapes[:, 0]).max()
    pairs = np.triu_indices(len(omega))
    turned = static_derivatives(full, shapes)[(slice(None), *pairs)] * (amplitude * np.outer(weights, weights)[pairs])  # (d, k (k + 1) / 2)
    subspace = pca(np.concatenate([shapes * weights, turned], axis=1).T, dim, mass=full.mass)
    return replace(subspace, name=f"modal derivatives {dim}")


def static_derivatives(full: FullModel, shapes: np.ndarray) -> np.ndarray:
    """Phi_ij (d, k, k) of shapes (d, k) about the rest shape; dK by central differences, exact for StVK, whose K is quadratic."""
    solver = full.solver.factor(full.rest_stiffness.data)
    k = shapes.shape[1]
    derivatives = np.empty((full.n_dofs, k, k))
    for j, shape in enumerate(shapes.T):
        step = STEP * full.mesh.edge_length / np.abs(shape).max()
        change = (full.stiffness(step * shape) @ shapes - full.stiffness(-step * shape) @ shapes) / (2 * step)
        derivatives[:, :, j] = -solver.solve(change)
    return derivatives
