"""Rules of the functions that move, select, join or add entries: all linear, applied to every part at once.

The parts lie along a leading axis that the network does not see: non-negative dimensions are shifted by one. A maximum follows
the entry that the real part picks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hodsim.multicomplex.number import Multicomplex, aligned, one_real_part
from hodsim.multicomplex.reverse import pull_linear
from hodsim.multicomplex.rules import linear, rule

# -- constants ---------------------------------------------------------------------------------------------------------------


@rule(Tensor.new_zeros)
def new_zeros(input, *size, **options):
    return input.part().new_zeros(*size, **options)


@rule(Tensor.new_ones)
def new_ones(input, *size, **options):
    return input.part().new_ones(*size, **options)


@rule(torch.zeros_like)
def zeros_like(input, **options):
    return torch.zeros_like(input.part(), **options)


@rule(torch.ones_like)
def ones_like(input, **options):
    return torch.ones_like(input.part(), **options)


# -- shapes ------------------------------------------------------------------------------------------------------------------


def _shift(dim: int) -> int:
    return dim + 1 if dim >= 0 else dim


def _sizes(args: tuple) -> tuple:
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list, torch.Size)) else args


@rule(torch.reshape, Tensor.view)
def reshape(input, *shape):
    return input.map(lambda rows: rows.reshape(len(rows), *_sizes(shape)), _reshaped_back)


def _reshaped_back(u: Multicomplex, z: Multicomplex) -> Multicomplex:
    return u.map(lambda rows: rows.reshape(*rows.shape[:2], *z.shape))


@rule(Tensor.view_as, Tensor.reshape_as)
def reshape_as(input, other):
    return reshape(input, tuple(other.shape))


@rule(torch.flatten)
def flatten(input, start_dim=0, end_dim=-1):
    if input.ndim == 0:
        return input.unsqueeze(0)
    return input.map(lambda rows: rows.flatten(_shift(start_dim), _shift(end_dim)), _reshaped_back)


@rule(torch.unflatten)
def unflatten(input, dim, sizes):
    return input.map(lambda rows: rows.unflatten(_shift(dim), sizes), _reshaped_back)


@rule(torch.transpose, torch.swapaxes)
def transpose(input, dim0, dim1):
    return input.map(lambda rows: rows.transpose(_shift(dim0), _shift(dim1)))


@rule(torch.t)
def t(input):
    return input if input.ndim < 2 else transpose(input, 0, 1)


@rule(torch.permute)
def permute(input, *dims):
    return input.map(lambda rows: rows.permute(0, *(d % input.ndim + 1 for d in _sizes(dims))))


@rule(torch.unsqueeze)
def unsqueeze(input, dim):
    return input.map(lambda rows: rows.unsqueeze(_shift(dim)), _reshaped_back)


@rule(torch.squeeze)
def squeeze(input, dim=None):
    if dim is None:
        return reshape(input, tuple(n for n in input.shape if n != 1))
    return input.map(lambda rows: rows.squeeze(tuple(_shift(d) for d in dim) if isinstance(dim, tuple) else _shift(dim)))


@rule(Tensor.expand)
def expand(input, *sizes):
    sizes = _sizes(sizes)
    return input.map(lambda rows: aligned(rows, len(sizes)).expand(-1, *sizes))


@rule(torch.broadcast_to)
def broadcast_to(input, size):
    return expand(input, tuple(size))


@rule(Tensor.expand_as)
def expand_as(input, other):
    return expand(input, tuple(other.shape))


@rule(Tensor.repeat)
def repeat(input, *sizes):
    sizes = _sizes(sizes)
    return input.map(lambda rows: aligned(rows, len(sizes)).repeat(1, *sizes))


@rule(torch.cat, torch.concat, torch.concatenate)
def cat(tensors, dim=0):
    return _joined(tensors, lambda rows: torch.cat(rows, _shift(dim)))


@rule(torch.stack)
def stack(tensors, dim=0):
    return _joined(tensors, lambda rows: torch.stack(rows, _shift(dim)))


def _joined(tensors, join):
    """Join numbers and constants: a constant has zeros for its higher parts."""
    numbers = [z.stored() for z in tensors if isinstance(z, Multicomplex)]
    longest = max(numbers, key=lambda z: z.degree)
    count = len(longest.rows)

    def rows_of(z) -> Tensor:
        first = z.stored().rows if isinstance(z, Multicomplex) else z.expand(longest.layout.sizes[0], *z.shape)
        return first if len(first) == count else torch.cat([first, first.new_zeros((count - len(first), *first.shape[1:]))])

    result = longest.like(join([rows_of(z) for z in tensors]))
    if longest.tape is None:
        return result

    def pull(u, *numbers):
        """The transposed join: each number's share of the adjoint."""
        shapes = [z.shape for z in tensors]

        def share(k: int):
            def function(rows: Tensor) -> Tensor:
                return join([rows if i == k else rows.new_zeros(len(rows), *shape) for i, shape in enumerate(shapes)])

            return function

        places = [k for k, z in enumerate(tensors) if isinstance(z, Multicomplex)]
        return tuple(pull_linear(share(k))(u, z)[0] for k, z in zip(places, numbers, strict=True))

    return numbers[0].note(result, pull, *numbers[1:])


def _pieces(function):
    def handler(input, size, dim=0):
        count = len(function(input.rows, size, _shift(dim)))
        return tuple(input.map(lambda rows, k=k: function(rows, size, _shift(dim))[k]) for k in range(count))

    handler.keywords = frozenset({"input", "split_size_or_sections", "chunks", "dim"})
    return handler


rule(torch.chunk)(_pieces(torch.chunk))
rule(torch.split)(_pieces(torch.split))


@rule(torch.unbind)
def unbind(input, dim=0):
    return tuple(select_index(input, dim, k) for k in range(input.shape[dim]))


@rule(torch.select)
def select_index(input, dim, index):
    return input.map(lambda rows: rows.select(_shift(dim), index))


@rule(torch.narrow)
def narrow(input, dim, start, length):
    return input.map(lambda rows: rows.narrow(_shift(dim), start, length))


@rule(torch.index_select)
def index_select(input, dim, index):
    return input.map(lambda rows: rows.index_select(_shift(dim), index))


@rule(F.pad)
def pad(input, pad, mode="constant", value=None):
    out = input.map(lambda rows: _padded(rows, pad, mode))
    if value:                                                        # the border is a constant
        border = F.pad(torch.zeros(input.shape, dtype=input.dtype, device=input.device), pad, value=value)
        out = out.shift(border)
    return out


def _padded(rows: Tensor, widths, mode: str) -> Tensor:
    return F.pad(rows, widths) if mode == "constant" else torch.vmap(lambda part: F.pad(part, widths, mode))(rows)


for function in (torch.roll, torch.movedim, torch.diagonal, torch.tril, torch.triu, torch.cumsum, torch.repeat_interleave,
                 torch.gather, torch.take_along_dim, torch.trace, torch.diag_embed, torch.rot90,
                 F.pixel_shuffle, F.pixel_unshuffle, F.unfold, F.fold, F.channel_shuffle):
    rule(function)(linear(function))


@rule(torch.flip)
def flip(input, *dims):
    return input.map(lambda rows: rows.flip([_shift(d) for d in _sizes(dims)]))


@rule(torch.masked_fill)
def masked_fill(input, mask, value):
    """The filled entries are constants."""
    out = input * (~mask)
    return out.shift(torch.where(mask, torch.as_tensor(value, dtype=input.dtype, device=input.device), 0.0)) if value else out


@rule(torch.where)
def where(condition, z, w):
    z = z * condition if isinstance(z, Multicomplex) else torch.where(condition, z, 0.0)
    w = w * ~condition if isinstance(w, Multicomplex) else torch.where(condition, 0.0, w)
    return z + w if isinstance(z, Multicomplex) else w + z


@rule(Tensor.contiguous, torch.clone, Tensor.cpu, Tensor.requires_grad_)
def unchanged(input):
    return input


@rule(torch.detach)
def detach(input):
    """A constant, as to torch's own differentiation."""
    z = input.stored()
    return Multicomplex(z.rows[: z.layout.sizes[0]].detach(), z.layout, 0)


@rule(Tensor.detach_)
def detach_(input):
    return input.assign(detach(input))


@rule(Tensor.to, Tensor.type_as)
def to(input, *args, **options):
    return input.map(lambda rows: rows.to(*(a.rows if isinstance(a, Multicomplex) else a for a in args), **options))


def _converted(dtype: torch.dtype):
    return lambda input: to(input, dtype)


for method, dtype in ((Tensor.float, torch.float32), (Tensor.double, torch.float64), (Tensor.bfloat16, torch.bfloat16), (Tensor.half, torch.float16)):
    rule(method)(_converted(dtype))


@rule(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def dropout(input, p=0.5, training=True, inplace=False):
    if training and p > 0:
        raise NotImplementedError("dropout in training mode draws a new mask in each call; expected module.eval() before differentiating")
    return input


@rule(F.alpha_dropout, F.feature_alpha_dropout)
def alpha_dropout(input, p=0.5, training=False, inplace=False):
    return dropout(input, p, training)


# -- sums --------------------------------------------------------------------------------------------------------------------


def _dims(z, dim) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(1, z.ndim + 1))
    return tuple(_shift(d) for d in dim) if isinstance(dim, (tuple, list)) else (_shift(dim),)


@rule(torch.sum)
def sum(input, dim=None, keepdim=False):
    return input.map(lambda rows: rows.sum(_dims(input, dim), keepdim) if input.ndim else rows)


@rule(torch.mean)
def mean(input, dim=None, keepdim=False):
    return input.map(lambda rows: rows.mean(_dims(input, dim), keepdim) if input.ndim else rows)


def _extreme(pick):
    """max, min and their kin over one dimension or all: every part follows the entry that the real part picks."""
    def handler(input, dim=None, keepdim=False):
        one_real_part(input, "max and min")
        if isinstance(dim, Multicomplex):
            return torch.where(input.real >= dim.real if pick is torch.argmax else input.real <= dim.real, input, dim)
        if dim is None:
            return flatten(input)[int(pick(input.real))]
        place = pick(input.real, dim, True)
        values = input.map(lambda rows: rows.gather(_shift(dim), place.unsqueeze(0).expand(len(rows), *place.shape)))
        return values if keepdim else values.squeeze(dim)

    return handler


rule(torch.amax)(_extreme(torch.argmax))
rule(torch.amin)(_extreme(torch.argmin))


@rule(torch.max)
def maximum_over(input, dim=None, keepdim=False):
    values = _extreme(torch.argmax)(input, dim, keepdim)
    if dim is None or isinstance(dim, Multicomplex):
        return values
    return torch.return_types.max((values, input.real.argmax(dim, keepdim)))


@rule(torch.maximum)
def maximum(z, w):
    return _larger(z, w, torch.ge)


@rule(torch.minimum)
def minimum(z, w):
    return _larger(z, w, torch.le)


def _larger(z, w, compare):
    real = [v.real if isinstance(v, Multicomplex) else v for v in (z, w)]
    return torch.where(compare(*real), z, w)
