"""Rules of arithmetic and of linear layers: one call for all parts, the bias on the real part only (eq. 7).

Products of two perturbed operands (a perturbed weight, attention) go by `Multicomplex.product`. Pooling by maximum follows the real part.
"""

from __future__ import annotations

import operator
from functools import wraps
from string import ascii_letters

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.layout import broadcast
from hodsim.multicomplex.number import Multicomplex, aligned, one_real_part
from hodsim.multicomplex.reverse import sum_to
from hodsim.multicomplex.rules import rule

# -- arithmetic --------------------------------------------------------------------------------------------------------------


# (a tensor to the left of a number arrives here too, as its first operand; in a graph so does every operator with a tensor, which
# is why the methods are called by name: z + w would come here again)


@rule(torch.add, Tensor.__add__, Tensor.__radd__)
def add(z, w, *, alpha=1):
    w = w if alpha == 1 else w * alpha
    return z.__add__(w) if isinstance(z, Multicomplex) else w.__radd__(z)


@rule(torch.sub, torch.subtract, Tensor.__sub__)
def sub(z, w, *, alpha=1):
    w = w if alpha == 1 else w * alpha
    return z.__sub__(w) if isinstance(z, Multicomplex) else w.__rsub__(z)


@rule(torch.rsub, Tensor.__rsub__)
def rsub(z, w, *, alpha=1):
    return sub(w, z if alpha == 1 else z * alpha)


@rule(torch.mul, torch.multiply, Tensor.__mul__, Tensor.__rmul__)
def mul(z, w):
    return z.__mul__(w) if isinstance(z, Multicomplex) else w.__rmul__(z)


@rule(torch.div, torch.divide, torch.true_divide, Tensor.__truediv__, Tensor.__div__)
def div(z, w):
    return z.__truediv__(w) if isinstance(z, Multicomplex) else w.__rtruediv__(z)


@rule(Tensor.__rtruediv__, Tensor.__rdiv__)
def rdiv(z, w):
    return div(w, z)


rule(torch.neg, torch.negative)(operator.neg)


def in_place(function):
    """The rule of z.add_(w) by that of z + w: all that refer to z see the change."""

    @wraps(function)
    def handler(z, *args, **kwargs):
        if not isinstance(z, Multicomplex):
            raise NotImplementedError(f"{function.__name__}_ would write a perturbed number into a plain tensor; expected it out of place")
        return z.assign(function(z, *args, **kwargs))

    return handler


rule(Tensor.add_, Tensor.__iadd__)(in_place(add))
rule(Tensor.sub_, Tensor.__isub__)(in_place(sub))
rule(Tensor.mul_, Tensor.__imul__)(in_place(mul))
rule(Tensor.div_, Tensor.__idiv__)(in_place(div))


@rule(torch.lerp)
def lerp(z, w, weight):
    return add(z, mul(sub(w, z), weight))


# -- linear layers -----------------------------------------------------------------------------------------------------------


@rule(F.linear)
def affine(z, weight, bias=None):
    """R = W R + b, I = W I + V R: V the parts of a perturbed weight. The bias touches the real part only."""
    if isinstance(weight, Multicomplex):
        joined = not isinstance(z, Multicomplex) or (z.layout is weight.layout and z.tape is None)
        if joined and weight.layout.sizes == (1, 1) and not weight.layout.h:
            return _affine_of_one_unit(z, weight, bias)
        out = matmul(z, weight.mT)
    else:
        rows = F.linear(z.rows, weight)
        if z.seeded:                                                 # W e_k is a column: no product with the identity
            m, n = weight.shape
            columns = weight.T
            if z.layout.n_axes not in (0, n):                        # axes of the layer's outputs (hessian.py)
                columns, n = torch.eye(m, dtype=weight.dtype, device=weight.device), m
            columns = columns.view(n, *(1,) * (z.dim() - 1), m).expand(n, *z.shape[:-1], m)
            rows = torch.cat([rows, *[columns] * ((z.layout.stored[1] - len(z.rows)) // n)])
        # a graph has no memory to write into: added to a slice, the bias would be looked for in each row by every later kernel
        later = torch.compiler.is_compiling() and isinstance(bias, Tensor) and not z.layout.h
        out = Multicomplex(rows, z.layout, max(z.degree, 1) if z.seeded else z.degree, tape=z.tape, offset=bias if later else None)
        if z.tape is not None:
            z.note(out, lambda u, z: (u.map(lambda rows: F.linear(rows, weight.T)),), op=F.linear)
        if later:
            return out
    if bias is None:
        return out
    if isinstance(bias, Multicomplex):
        return out + bias
    out.rows[: out.layout.sizes[0]].add_(bias)
    return out


def _affine_of_one_unit(z, weight: Multicomplex, bias) -> Multicomplex:
    """Eq. 7 with V, one direction: R = W R + b, I = V R + W I + c, the sums within the products."""
    x, *moved = z.stored().rows if isinstance(z, Multicomplex) else (z,)
    b, *c = bias.rows if isinstance(bias, Multicomplex) else (bias,)
    W, V = weight.rows if weight.degree else (*weight.rows, torch.zeros_like(weight.rows[0]))
    if torch.is_grad_enabled() or b is None or x.dim() < 2:
        real, change = F.linear(x, W, b), F.linear(x, V, c[0] if c else None)
        return Multicomplex(torch.stack([real, change + F.linear(moved[0], W) if moved else change]), weight.layout, 1)
    rows = x.new_empty((2, *x.shape[:-1], len(W)))
    real, change = rows.flatten(1, -2)
    torch.addmm(b, x.flatten(0, -2), W.T, out=real)
    torch.addmm(c[0] if c else torch.zeros_like(b), x.flatten(0, -2), V.T, out=change)
    if moved:
        change.addmm_(moved[0].flatten(0, -2), W.T)
    return Multicomplex(rows, weight.layout, 1)


@rule(torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot)
def matmul(z, w):
    if isinstance(z, Multicomplex) and isinstance(w, Multicomplex):
        left = z if z.ndim > 1 else z.unsqueeze(0)
        right = w if w.ndim > 1 else w.unsqueeze(-1)
        ndim = max(left.ndim, right.ndim)
        out = left.aligned(ndim).product(right.aligned(ndim), torch.matmul)
        out = out if w.ndim > 1 else out.squeeze(-1)
        return out if z.ndim > 1 else out.squeeze(-2 if w.ndim > 1 else -1)
    if isinstance(z, Multicomplex):
        if z.ndim == 1 and w.dim() > 1:
            return z.map(lambda rows: torch.matmul(rows.unsqueeze(1), w).squeeze(1) if w.dim() == 2 else
                         torch.matmul(rows.view(len(rows), *(1,) * (w.dim() - 1), -1), w).squeeze(-2))
        if z.shape[:-2] == w.shape[:-2] and w.dim() > 2:
            return z.map(lambda rows: _batched(rows, w))
        return z.map(lambda rows: torch.matmul(aligned(rows, w.dim()), w))
    if w.ndim == 1:
        return w.map(lambda rows: torch.matmul(rows, z.mT) if z.dim() == 2 else torch.vmap(lambda part: torch.matmul(z, part))(rows))
    return w.map(lambda rows: torch.matmul(z, aligned(rows, z.dim())))


def _batched(rows: Tensor, w: Tensor) -> Tensor:
    """rows (k, *B, n, m) times w (*B, m, p): the k parts beside the n rows of each matrix, as broadcasting would copy w k times."""
    joined = rows.movedim(0, -3).flatten(-3, -2)                      # (*B, k n, m)
    return torch.matmul(joined, w).unflatten(-2, (len(rows), -1)).movedim(-3, 0)


@rule(torch.addmm)
def addmm(bias, z, w, *, beta=1, alpha=1):
    return matmul(z, w) * alpha + bias * beta


@rule(F.bilinear)
def bilinear_form(z, w, weight, bias=None):
    """y_o = z^T W_o w + b_o."""
    out = torch.einsum("...oj,...j->...o", torch.einsum("...i,oij->...oj", z, weight), w)
    return out if bias is None else out + bias


@rule(torch.einsum)
def einsum(equation, *operands):
    """One perturbed operand: linear. Two: a product, whose adjoints are the einsums with a factor's term and the output exchanged."""
    if not isinstance(equation, str):
        raise NotImplementedError("einsum of operands and lists of subscripts; expected an equation, as in einsum('ij,kj->ik', a, b)")
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    places = [k for k, operand in enumerate(operands) if isinstance(operand, Multicomplex)]
    if len(places) == 1:
        k = places[0]
        return operands[k].map(torch.vmap(lambda part: torch.einsum(equation, *operands[:k], part, *operands[k + 1 :])))
    if len(places) > 2:
        raise NotImplementedError(f"einsum of {len(places)} perturbed operands; expected at most two: split {equation!r}")
    terms, output, outputs = _written_out(equation, operands)

    def with_lanes(a: Tensor, b: Tensor) -> Tensor:
        full = _replaced(operands, dict(zip(places, (a, b), strict=True)))
        return torch.einsum(",".join(f"...{term}" if k in places else term for k, term in enumerate(terms)) + f"->...{output}", *full)

    def pull(u, *factors):
        return tuple(adjoint(u, factors, which) for which in (0, 1))

    def adjoint(u, factors, which: int):
        place, other = places[which], places[1 - which]
        term, rest = terms[place], output + "".join(t for k, t in enumerate(terms) if k != place)
        if len(set(term)) < len(term) or not set(term) <= set(rest):
            raise NotImplementedError(f"backpropagation of einsum({equation!r}), which sums or repeats a letter within one term; "
                                      "expected mode='forward', or the sum or diagonal taken before einsum")
        swapped = _replaced(terms, {place: outputs + output})
        found = torch.einsum(",".join(swapped) + f"->{outputs}{term}", *_replaced(operands, {place: u, other: factors[1 - which]}))
        return sum_to(found, factors[which].shape)

    return operands[places[0]].product(operands[places[1]], with_lanes, pull)


def _written_out(equation: str, operands) -> tuple[list[str], str, str]:
    """The terms and the output of an einsum with a letter for each dimension, and a letter that none of them has."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = sorted(set(inputs) - set(",."))
        output = ("..." if "..." in inputs else "") + "".join(c for c in letters if inputs.count(c) == 1)
    unused = [c for c in ascii_letters if c not in equation]
    counts = [operand.ndim - len(term.replace("...", "")) for operand, term in zip(operands, terms, strict=True)]
    dots = "".join(unused[: max(counts)])
    written = [term.replace("...", dots[len(dots) - count :]) for term, count in zip(terms, counts, strict=True)]
    return written, output.replace("...", dots), unused[len(dots)]


def _replaced(items, new: dict) -> list:
    return [new.get(k, item) for k, item in enumerate(items)]


# -- convolution and pooling: lanes join the batch ---------------------------------------------------------------------------


def _over_images(z, ndim: int, function, *args, **kwargs):
    """Apply a function of a batch (N, *) with ndim dimensions, lanes folded into N."""
    if z.ndim == ndim - 1:
        return z.map(lambda rows: function(rows, *args, **kwargs))
    return z.map(lambda rows: function(rows.flatten(0, 1), *args, **kwargs).unflatten(0, rows.shape[:2]))


def _convolution(function, ndim: int):
    def handler(input, weight, bias=None, *args, **kwargs):
        if isinstance(weight, Multicomplex):
            out = _perturbed_convolution(function, ndim, input, weight, args, kwargs)
        else:
            out = _over_images(input, ndim, function, weight, None, *args, **kwargs)
        if bias is None:
            return out
        shape = (-1, *(1,) * (ndim - 2))
        return out + bias.reshape(shape)

    handler.keywords = frozenset({"input", "weight", "bias", "stride", "padding", "dilation", "groups", "output_padding"})
    return handler


def _perturbed_convolution(function, ndim: int, z, weight, args, kwargs):
    def convolve(a: Tensor, b: Tensor) -> Tensor:
        """(*lanes, *image) and (*lanes, *weight), lane by lane."""
        lanes = broadcast(a.shape[:-ndim], b.shape[:-ndim])
        images, weights = a.expand(*lanes, *a.shape[-ndim:]).flatten(0, -ndim - 1), b.expand(*lanes, *b.shape[-ndim:]).flatten(0, -ndim - 1)
        return torch.stack([function(i, w, None, *args, **kwargs) for i, w in zip(images, weights, strict=True)]).unflatten(0, lanes)

    if not isinstance(z, Multicomplex):
        batch = z if z.dim() == ndim else z.unsqueeze(0)
        out = weight.map(lambda rows: torch.stack([function(batch, w, None, *args, **kwargs) for w in rows]))
        return out if z.dim() == ndim else out.squeeze(0)
    batch = z if z.ndim == ndim else z.unsqueeze(0)
    out = batch.product(weight, convolve)
    return out if z.ndim == ndim else out.squeeze(0)


for function, dims in ((F.conv1d, 3), (F.conv2d, 4), (F.conv3d, 5),
                       (F.conv_transpose1d, 3), (F.conv_transpose2d, 4), (F.conv_transpose3d, 5)):
    rule(function)(_convolution(function, dims))


def _image_rule(function, ndim: int):
    def handler(input, *args, **kwargs):
        return _over_images(input, ndim, function, *args, **kwargs)

    handler.keywords = None
    return handler


for function, dims in ((F.avg_pool1d, 3), (F.avg_pool2d, 4), (F.avg_pool3d, 5),
                       (F.adaptive_avg_pool1d, 3), (F.adaptive_avg_pool2d, 4), (F.adaptive_avg_pool3d, 5)):
    rule(function)(_image_rule(function, dims))


@rule(F.interpolate)
def interpolate(input, *args, **kwargs):
    return _over_images(input, input.ndim, F.interpolate, *args, **kwargs)


def select(z: Multicomplex, indices: Tensor, dims: int) -> Multicomplex:
    """Entries at flat indices over the last `dims` dimensions, the same in every part: how a maximum follows its real part."""
    def gather(rows: Tensor) -> Tensor:
        flat = rows.flatten(-dims)
        return flat.gather(-1, indices.flatten(-dims).expand(*rows.shape[:-dims], -1)).view(*rows.shape[:-dims], *indices.shape[-dims:])

    return z.map(gather)


def _max_pool(pool, dims: int):
    def handler(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        one_real_part(input, "max pooling")
        _, indices = pool(input.real, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, return_indices=True)
        out = select(input, indices, dims)
        return (out, indices) if return_indices else out

    return handler


def _adaptive_max_pool(pool, dims: int):
    def handler(input, output_size, return_indices=False):
        one_real_part(input, "max pooling")
        _, indices = pool(input.real, output_size, return_indices=True)
        out = select(input, indices, dims)
        return (out, indices) if return_indices else out

    return handler


for name, dims in (("1d", 1), ("2d", 2), ("3d", 3)):
    pool, adaptive = getattr(F, f"max_pool{name}_with_indices"), getattr(F, f"adaptive_max_pool{name}_with_indices")
    rule(getattr(F, f"max_pool{name}"), pool, getattr(torch, f"max_pool{name}"))(_max_pool(pool, dims))
    rule(getattr(F, f"adaptive_max_pool{name}"), adaptive)(_adaptive_max_pool(adaptive, dims))
