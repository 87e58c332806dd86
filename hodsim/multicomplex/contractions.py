"""Whole derivatives and contractions built on adjoint perturbation.

    left_contraction   w . D^(k+1) f[a_1 .. a_k, .]: backpropagation of the mixed part of a perturbed pass (CSFD-BP)
    jacobian           forward: one lane for each input; backward: one for each output
    hessian            forward: one lane for each pair of inputs; backward: the sum over nonlinear steps of `hessian.py`
    laplacian          sum over k of D^2 f[e_k, e_k], summed inside the network
    taylor             f(x + t v) = sum over k of c_k t^k, k + 1 rows where 2^k parts would be
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

from hodsim.multicomplex.cost import hessian_mode, jacobian_mode
from hodsim.multicomplex.hessian import hessian_by_steps, output_axes
from hodsim.multicomplex.layout import Axes
from hodsim.multicomplex.number import Multicomplex
from hodsim.multicomplex.perturbation import Direction, Function, call, derivative, derivatives, pass_through, seed
from hodsim.multicomplex.reverse import SEED, Step, pull_back


def left_contraction(f: Function, x: Tensor, w: Tensor, *directions: Direction, h: float = 0.0) -> Tensor:
    """The gradient by x of w . D^k f(x)[a_1, .., a_k], (*lanes, *B, N), for w (M,) or (*L, *B, M); k = 0 is backpropagation.

    Lanes are those of the directions, then those of w: (L, M) with (K, N) gives all K L pairs. Directions may perturb parameters of f."""
    tape: list[Step] = []
    out = pass_through(f, x, directions, h=h, tape=tape)
    w = w.expand((*w.shape[: max(w.dim() - out.ndim, 0)], *out.shape))
    rows = w.reshape(1, -1, *out.shape).expand(out.layout.sizes[0], -1, *out.shape)
    adjoint = pull_back(tape, out, Multicomplex(rows, out.layout, 0)).get(SEED)
    if adjoint is None:
        raise ValueError("f's output does not depend on x by the steps of the pass; expected torch functions of x")
    part = adjoint.part(*out.layout.all_units)
    return part.unflatten(-x.dim() - 1, w.shape[: w.dim() - out.ndim]) if w.dim() > out.ndim else part.squeeze(-x.dim() - 1)


def jacobian(f: Function, x: Tensor, *, mode: str = "auto") -> Tensor:
    """Df(x), (*B, M, N). mode: 'forward', 'backward', or 'auto' for the cheaper by `jacobian_mode`."""
    if mode == "auto":
        mode = jacobian_mode(f, x).name
    if _known(mode) == "forward":
        return derivative(f, x, Axes()).movedim(0, -1)
    tape: list[Step] = []
    out = call(f, seed(x, (), tape=tape))
    return pull_back(tape, out, output_axes(out))[SEED].real.movedim(0, -2)


def hessian(f: Function, x: Tensor, *, mode: str = "auto") -> Tensor:
    """D^2 f(x), (*B, M, N, N). mode: 'forward', 'backward', or 'auto' for the cheaper by `hessian_mode`."""
    if mode == "auto":
        mode = hessian_mode(f, x).name
    if _known(mode) == "backward":
        value = hessian_by_steps(f, x)
        if value is not None:
            return value
    return derivative(f, x, Axes(), Axes()).movedim((0, 1), (-2, -1))


def laplacian(f: Function, x: Tensor) -> Tensor:
    """sum over i of d^2 f / dx_i^2, (*B, M): value, N first derivatives and one row of sums go through the network."""
    axes = Axes(independent=False)
    return derivative(f, x, axes, axes, collapse=True)


def taylor(f: Function, x: Tensor, v: Tensor, order: int) -> Tensor:
    """c_0 .. c_order of f(x + t v) = sum over k of c_k t^k, (order + 1, *lanes, *B, M); c_k = D^k f[v, .., v] / k!."""
    z = derivatives(f, x, *(v,) * order)
    parts = [z.part(*range(k)) / factorial(k) for k in range(order + 1)]
    return torch.stack(torch.broadcast_tensors(*parts))


def matrix_contraction(f: Function, x: Tensor, matrix: Tensor, *directions: Direction) -> Tensor:
    """D^k f(x)[a_1, ..] contracted with a matrix A (N, N) in two further places: sum over i, j of A_ij D^(k+2) f[a.., e_i, e_j], (*B, M).

    Only the symmetric part of A counts; it is taken apart by eigenvalues, one lane for each that is not zero, and the lanes are summed
    inside the network. (The paper's single perturbation does this for A of rank one.)"""
    symmetric = (matrix + matrix.mT) / 2
    values, vectors = torch.linalg.eigh(symmetric)
    kept = values.abs() > values.abs().max() * len(values) * torch.finfo(values.dtype).eps
    u = vectors[:, kept].T.reshape(-1, *(1,) * (x.dim() - 1), x.shape[-1])
    scaled = values[kept].view(-1, *(1,) * x.dim()) * u
    return derivative(f, x, *directions, u, scaled, collapse=True)


def _known(mode: str) -> str:
    if mode not in ("forward", "backward"):
        raise ValueError(f"mode is {mode!r}; expected 'auto', 'forward' or 'backward'")
    return mode
