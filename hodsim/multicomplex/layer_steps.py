"""Steps of layers with their weights, of pooling and of losses, in closed form: what `steps.py` would find, in fewer passes over memory.

    layer          y' = x' * W + x * W' + b'        s_x = u *^T W',  s_W = u *^T x'      (* a product of matrices or a convolution)
    batch norm, cross entropy, mean square: the derivatives of their gradients
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.steps import Outer, Step, aten, step

# -- layers with weights -----------------------------------------------------------------------------------------------------


@step(F.linear)
def _affine(function, input, weight, bias=None):
    y = function(input, weight, bias)
    X, W = input.detach().reshape(-1, input.shape[-1]), weight.detach()

    def bind(u):
        U = None if u is None else u.reshape(-1, len(W))

        def along(dx, dw, db=None):
            dX = None if dx is None else dx.reshape(X.shape)
            if dw is not None:
                dy = F.linear(X, dw, db)
            else:
                dy = X.new_zeros(len(X), len(W)) if db is None else db.repeat(len(X), 1)
            if dX is not None:
                dy.addmm_(dX, W.T)
            dy = dy.view(y.shape)
            if U is None:
                return (dy,), None
            s_x = (U @ dw).view(input.shape) if input.requires_grad and dw is not None else None
            s_w = Outer(U.T, dX) if weight.requires_grad and dX is not None else None
            return (dy,), (s_x, s_w)

        return along

    return Step((input, weight) if bias is None else (input, weight, bias), (y,), bind, curved=input.requires_grad)


@step(F.conv1d, F.conv2d, F.conv3d)
def _convolution(function, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    ndim = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return NotImplemented
    y = function(input, weight, bias, stride, padding, dilation, groups)
    X, W = input.detach(), weight.detach()
    how = [list(n) if isinstance(n, (tuple, list)) else [n] * ndim for n in (stride, padding, dilation)]

    def convolved(x, w, b=None):
        return function(x, w, b, stride, padding, dilation, groups)

    def bind(u):
        def along(dx, dw, db=None):
            dy = None if dx is None else convolved(dx, W, None if dw is not None else db)
            if dw is not None:
                dy = convolved(X, dw, db) if dy is None else dy.add_(convolved(X, dw, db))
            elif dy is None:
                dy = db.view(-1, *(1,) * ndim).expand_as(y)
            mask = (input.requires_grad and dw is not None, weight.requires_grad and dx is not None, False)
            if u is None or not any(mask):
                return (dy,), None
            found = aten.convolution_backward(u, X if dx is None else dx, W if dw is None else dw, None, *how, False, [0] * ndim, groups, mask)
            return (dy,), found[:2]

        return along

    return Step((input, weight) if bias is None else (input, weight, bias), (y,), bind, curved=input.requires_grad)


@step(F.batch_norm)
def _batch_norm(function, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """In training: y = w n + b, n = r (x - mean), r = 1 / sqrt(var + eps), so

        n' = r P x',  P x = x - mean(x) - n mean(n x);   r' / r = -r mean(n x')
        s_x = r (w' - w r mean(n x')) P u - w r (n' mean(n u) + n mean(n' u));   s_w = sum of n' u"""
    if not training:
        return NotImplemented
    x = input.detach()
    w = x.new_ones(x.shape[1]) if weight is None else weight.detach()
    y, mean, r = torch.native_batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    mean, r = mean.detach(), r.detach()
    dims, count = (0, *range(2, x.dim())), x.numel() // x.shape[1]

    def channels(values: Tensor) -> Tensor:
        return values.view(-1, *(1,) * (x.dim() - 2))

    def projected(change: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """weight r P change, and the sum of n change."""
        return aten.native_batch_norm_backward(change, x, weight, None, None, mean, r, True, eps, [True, True, False])[:2]

    def bind(u):
        Pu, nu = (None, None) if u is None else projected(u, torch.ones_like(w))

        def along(dx, dw=None, db=None):
            dy, ndx = (torch.zeros_like(x), w.new_zeros(())) if dx is None else projected(dx, w)
            n_only = None if Pu is None else (w.new_zeros(len(w)) if dx is None else (Pu * dx).sum(dims))  # mean(n' u) count
            s_x = None
            if Pu is not None and nu is not None and n_only is not None:
                on_n = w * r * n_only / count
                on_Pu = (0 if dw is None else dw) - w * r * ndx / count
                s_x = torch.addcmul(channels(on_n * r * mean), Pu, channels(on_Pu * torch.ones_like(w)))
                s_x.addcmul_(dy, channels(r * nu / count), value=-1).addcmul_(x, channels(on_n * r), value=-1)
            if dw is not None:  # dw n = dw r (x - mean)
                dy.addcmul_(x, channels(dw * r))
                db = -dw * r * mean if db is None else db - dw * r * mean
            return (dy if db is None else dy.add_(channels(db)),), None if s_x is None else (s_x, n_only)[: len(given)]

        return along

    given = (input, weight, bias) if bias is not None else (input, weight) if weight is not None else (input,)
    return Step(given, (y,), bind)


# -- pooling and losses ------------------------------------------------------------------------------------------------------


@step(F.max_pool2d, torch.max_pool2d)
def _max_pool(function, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if return_indices:
        return NotImplemented
    y, indices = torch._C._nn.max_pool2d_with_indices(input, kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    places = indices.flatten(-2)
    return Step((input,), (y,), lambda u: lambda dx: ((dx.flatten(-2).gather(-1, places).view(y.shape),), None), curved=False)


@step(F.mse_loss)
def _mean_square(function, input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    odd = reduction == "none" or size_average is not None or reduce is not None or weight is not None
    if odd or target.requires_grad or input.shape != target.shape:
        return NotImplemented
    y = function(input, target, reduction=reduction)
    factor = 2 / input.numel() if reduction == "mean" else 2.0
    error = (input - target).detach().flatten()

    def bind(u):
        scale = None if u is None else u * factor
        return lambda dx: (((error @ dx.flatten()) * factor,), None if u is None else (dx * scale,))

    return Step((input,), (y,), bind)


@step(F.cross_entropy)
def _cross_entropy(function, input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """Of classes: the gradient by the scores is (p - one) / N, its change (p x' - p (p . x')) / N; of ignored samples both are zero."""
    odd = weight is not None or size_average is not None or reduce is not None or reduction != "mean" or label_smoothing or input.dim() != 2
    if odd or target.is_floating_point():
        return NotImplemented
    y = function(input, target, ignore_index=ignore_index)
    p, kept = input.detach().softmax(1), (target != ignore_index)[:, None]
    share = kept / kept.sum().to(p)
    slope = p.scatter_add(1, torch.where(kept, target[:, None], 0), p.new_full((len(p), 1), -1.0)) * share

    def bind(u):
        scaled = None if u is None else p * (u * share)

        def along(dx):
            return (slope.flatten() @ dx.flatten(),), None if scaled is None else (scaled * (dx - (p * dx).sum(1, keepdim=True)),)

        return along

    return Step((input,), (y,), bind)
