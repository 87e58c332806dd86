"""High-order derivatives of torch networks by multicomplex numbers (HoD-Net)."""

from hodsim.multicomplex import compositions, functions, layers, piecewise, shapes  # noqa: F401  (they fill the rule table)
from hodsim.multicomplex.contractions import (
    hessian,
    jacobian,
    laplacian,
    left_contraction,
    matrix_contraction,
    taylor,
)
from hodsim.multicomplex.cost import Mode, hessian_mode, jacobian_mode
from hodsim.multicomplex.layout import Axes
from hodsim.multicomplex.linearised import Linearised
from hodsim.multicomplex.number import Multicomplex, cauchy_riemann_matrix
from hodsim.multicomplex.parameters import gauss_newton_vector_product, hessian_vector_product, perturbed
from hodsim.multicomplex.perturbation import derivative, derivatives
from hodsim.multicomplex.rules import elementwise, linear, rule

__all__ = [
    "Axes", "Linearised", "Mode", "Multicomplex", "cauchy_riemann_matrix", "derivative", "derivatives", "elementwise",
    "gauss_newton_vector_product", "hessian", "hessian_mode", "hessian_vector_product", "jacobian", "jacobian_mode", "laplacian",
    "left_contraction", "linear", "matrix_contraction", "perturbed", "rule", "taylor",
]
