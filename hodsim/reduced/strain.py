"""Deformation gradients in feature space: F = F0 + D g for chosen elements, since u = u0 + W g and F is affine in u."""

from __future__ import annotations

import numpy as np

from hodsim.fem import FullModel
from hodsim.subspace import Subspace


def strain_operator(full: FullModel, subspace: Subspace, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D (9 n, m) [1/m times that of W] and F0 (9 n,) of n elements; row (3 i + j) n + e is F_ij of element chosen[e]."""
    elements = full.elements
    tetrahedra, gradients = elements.tetrahedra[chosen], elements.gradients[:, :, chosen]  # (n, 4), (4, 3, n)
    columns = np.column_stack([subspace.basis, subspace.origin]).reshape(elements.n_free, 3, -1)
    local = np.where((tetrahedra < elements.n_free)[:, :, None, None], columns[np.minimum(tetrahedra, elements.n_free - 1)], 0.0)
    F = np.einsum("eaim,aje->ijem", local, gradients, optimize=True).reshape(9 * len(chosen), subspace.width + 1)
    return np.ascontiguousarray(F[:, :-1]), F[:, -1] + np.eye(3).ravel().repeat(len(chosen))
