"""Scaled multicomplex numbers: Z = sum over S of z_S eps^S with eps_j = h i_j, eps_j^2 = -h^2 (HoD-Net, eqs. 2-7).

Scaled parts z_S are of order one whatever h is, so nothing underflows. h = 0 is the truncated algebra, exact; h > 0 is the paper's
complex step, with an error O(h^2). Three kinds of step carry a number through a network:

    linear map   L(Z)_S = L(z_S), one call for all parts; a bias touches the real part only (eq. 7)
    function     f(Z), from the derivatives f, f', f'', .. of f at the real part
    product      (ZW)_S = sum over T ^ U = S of (-h^2)^|T & U| z_T w_U

`layout.py` says where the parts lie, `algebra.py` follows its plans, `rules.py` knows which kind of step a torch function is.
A `Multicomplex` stands in for a tensor in unmodified torch code, by torch's own `__torch_function__`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hodsim.multicomplex.algebra import Tower, bilinear, blocks_of, compose, multiply
from hodsim.multicomplex.layout import Layout, broadcast, find, gathering
from hodsim.multicomplex.reverse import Step, pull_function, pull_linear, pull_product, remembering, sum_to
from hodsim.multicomplex.rules import apply


class Multicomplex:
    """A tensor of multicomplex numbers; to the code that it passes through it has the shape of its real part.

    rows: (R, *shape), the parts of degree 0 to `degree`, as the layout orders them; higher ones are zero.
    seeded: the parts of `Axes` (last of degree 1) are the unit vectors along the last dimension and not stored.
    tape: a list on which the steps of the pass are noted (`reverse.py`), or None.
    place: on the tape, that of the step which gave this number (of a copy of it, too); SEED of the pass's input, None off the tape.
    offset: a constant still to be added to the real part, as the next function does while it reads that part."""

    __slots__ = ("_offset", "_rows", "_shifted", "degree", "layout", "place", "seeded", "tape")

    def __init__(self, rows: Tensor, layout: Layout, degree: int, *, seeded: bool = False, tape: list[Step] | None = None,
                 place: int | None = None, offset: Tensor | None = None):
        self._rows, self._offset, self._shifted = rows, offset, None
        self.layout, self.degree, self.seeded, self.tape, self.place = layout, degree, seeded, tape, place

    @property
    def rows(self) -> Tensor:
        if self._offset is None:
            return self._rows
        if self._shifted is None:
            count = self.layout.sizes[0]
            self._shifted = torch.cat([self._rows[:count] + self._offset, self._rows[count:]])
        return self._shifted

    # -- parts ---------------------------------------------------------------------------------------------------------------

    def part(self, *units: int) -> Tensor:
        """The part of these units, (*lanes, *shape): part() is the real one, part(0, 1) the mixed one of units 0 and 1.

        Parts are scaled by h^-k: part(0, .., k - 1) is the k-th derivative along the directions. Lanes are those of the batches
        among the directions of the part (at h > 0: of all directions); independent `Axes` come last, one lane axis for each.
        Raises KeyError for a part that is not held."""
        layout = self.layout
        index = find(layout.key, units)
        z = self.stored()
        lanes = layout.lanes[index]
        if layout.degrees[index] > z.degree:
            value = z.rows.new_zeros((*lanes, *z.shape))
        else:
            value = z.rows[layout.starts[index] : layout.starts[index + 1]]
            value = value.unflatten(0, lanes) if len(lanes) > 1 else value
        d, axis = layout.axes[index], layout.lane_axes - 1
        if d > 1 and index != layout.top:                            # sorted lanes of independent axes to all N^d
            value = value.index_select(axis, gathering(layout.n_axes, d, None, value.device))
        kept = layout.visible[index]
        return value.reshape((*kept, *z.shape))

    @property
    def real(self) -> Tensor:
        """The real part, of the number's own shape (at h > 0 that of the first lane)."""
        return self.rows[0]

    def blocks(self) -> list[Tensor]:
        """The parts up to the degree, each (*lanes, *shape)."""
        return blocks_of(self.layout, self.stored().rows, self.degree)

    def stored(self) -> Multicomplex:
        """The same number with the unit vectors of its axes written out."""
        if not self.seeded:
            return self
        n = self.shape[-1]
        eye = torch.eye(n, dtype=self.dtype, device=self.device).view(n, *(1,) * (self.dim() - 1), n).expand(n, *self.shape)
        missing = (self.layout.stored[1] - len(self.rows)) // n
        return self.note(self.like(torch.cat([self.rows, *[eye] * missing])), lambda u, z: (u,))

    def truncated(self, degree: int) -> Multicomplex:
        """The same number without its parts above a degree, and without a tape."""
        if self.degree <= degree:
            return Multicomplex(self._rows, self.layout, self.degree, seeded=self.seeded, place=self.place, offset=self._offset)
        return Multicomplex(self._rows[: self.layout.stored[degree]], self.layout, degree, place=self.place, offset=self._offset)

    def note(self, result: Multicomplex, pull: Callable, *others: Multicomplex, op: Callable | None = None) -> Multicomplex:
        """Note on the tape that result came from this number (and others), and how adjoints go back."""
        if result.tape is not None:                                  # copies, since an in-place function may change a number later
            inputs = tuple(z.truncated(z.degree) for z in (self, *others))
            result.place = len(result.tape)
            result.tape.append(Step(inputs, result.truncated(result.degree), pull, op))
        return result

    def like(self, rows: Tensor, degree: int | None = None) -> Multicomplex:
        """A number of the same layout with other rows."""
        return Multicomplex(rows, self.layout, self.degree if degree is None else degree, tape=self.tape)

    # -- the three kinds of step ---------------------------------------------------------------------------------------------

    def map(self, function: Callable[[Tensor], Tensor], transpose: Callable | None = None) -> Multicomplex:
        """L(Z) for a linear function of the rows that keeps their leading axis. transpose: (adjoint, z) -> its adjoint, if known."""
        z = self.stored()
        result = z.like(function(z.rows))
        if z.tape is None:
            return result
        return z.note(result, pull_linear(function) if transpose is None else lambda u, z: (transpose(u, z),))

    def compose(self, tower: Tower) -> Multicomplex:
        """f(Z) for an elementwise f given by its derivatives: (x, order) -> [f(x), f'(x), .., f^(order)(x)]."""
        z = self.stored()
        shared = tower if z.tape is None or z.layout.h else remembering(tower, z.layout.order + 1)
        result = z.like(compose(z.layout, z._rows, z.degree, shared, z._offset), z.layout.order if z.degree else 0)
        return result if z.tape is None else z.note(result, pull_function(shared), op=tower)

    def product(self, other: Multicomplex, op: Callable[[Tensor, Tensor], Tensor] = torch.mul, pull: Callable | None = None) -> Multicomplex:
        """op(Z, W) for a bilinear op that broadcasts leading axes. pull: (adjoint, Z, W) -> adjoints of both, for an op of one's own."""
        z, w = self.stored(), other.stored()
        _same_layout(z, w)
        if op is torch.mul:
            rows, degree = multiply(z.layout, z.rows, w.rows, z.degree, w.degree)
        else:
            left = z.blocks()
            rows, degree = bilinear(z.layout, op, left, left if w is z else w.blocks(), z.degree, w.degree)
        result = Multicomplex(rows, z.layout, degree, tape=_tape(z, w))
        return z.note(result, pull or pull_product(op), w, op=op)

    def shift(self, value) -> Multicomplex:
        """Z + c: a constant touches the real part only."""
        z = self.stored()
        rows, count = z.rows, z.layout.sizes[0]
        if isinstance(value, Tensor):
            shape = broadcast(value.shape, z.shape)
            if shape != z.shape:
                rows = aligned(rows, len(shape)).expand(len(rows), *shape)
        result = z.like(rows + value if z.degree == 0 else torch.cat([rows[:count] + value, rows[count:]]))
        return result if z.tape is None else z.note(result, lambda u, z: (sum_to(u, z.shape),))

    # -- arithmetic ----------------------------------------------------------------------------------------------------------

    def __add__(self, other):
        if not isinstance(other, Multicomplex):
            return self.shift(other)
        z, w = self.stored(), other.stored()
        _same_layout(z, w)
        if z.degree < w.degree:
            z, w = w, z
        shape = broadcast(z.shape, w.shape)
        left, right = aligned(z.rows, len(shape)), aligned(w.rows, len(shape))
        if len(left) == len(right):
            rows = left + right
        else:
            rows = torch.cat([left[: len(right)] + right, left[len(right) :].expand(-1, *shape)])
        result = Multicomplex(rows, z.layout, z.degree, tape=_tape(z, w))
        return z.note(result, lambda u, z, w: (sum_to(u, z.shape), sum_to(u, w.shape)), w)

    def __mul__(self, other):
        if isinstance(other, Multicomplex):
            ndim = max(self.dim(), other.dim())
            return self.aligned(ndim).product(self.aligned(ndim) if other is self else other.aligned(ndim))
        return self.map(lambda rows: _fit(rows, other) * other, lambda u, z: sum_to(u * other, z.shape))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self.map(torch.neg, lambda u, z: -u)

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        if isinstance(other, Multicomplex):
            return self * torch.reciprocal(other)
        return self.map(lambda rows: _fit(rows, other) / other)

    def __rtruediv__(self, other):
        return torch.reciprocal(self) * other

    def __pow__(self, exponent):
        return torch.pow(self, exponent)

    def __rpow__(self, base):
        return torch.pow(base, self)

    def __matmul__(self, other):
        return torch.matmul(self, other)

    def __rmatmul__(self, other):
        return torch.matmul(other, self)

    # in place: all that refer to this number see the change, as they do a tensor's

    def __iadd__(self, other):
        return self.assign(self + other)

    def __isub__(self, other):
        return self.assign(self - other)

    def __imul__(self, other):
        return self.assign(self * other)

    def __itruediv__(self, other):
        return self.assign(self / other)

    # comparisons look at the real part

    def __lt__(self, other):
        return self.real < _real(other)

    def __le__(self, other):
        return self.real <= _real(other)

    def __gt__(self, other):
        return self.real > _real(other)

    def __ge__(self, other):
        return self.real >= _real(other)

    # -- what torch code asks of a tensor ------------------------------------------------------------------------------------

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return self.map(lambda rows: rows[(slice(None), *index)])

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    @property
    def shape(self) -> torch.Size:
        return self._rows.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self._rows.dtype

    @property
    def device(self) -> torch.device:
        return self._rows.device

    @property
    def requires_grad(self) -> bool:
        return self.rows.requires_grad

    @property
    def ndim(self) -> int:
        return self._rows.dim() - 1

    @property
    def T(self) -> Multicomplex:
        return torch.permute(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Multicomplex:
        return torch.transpose(self, -1, -2)

    is_nested = is_sparse = is_quantized = False

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self._rows.dim() - 1

    def numel(self) -> int:
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        return True

    def aligned(self, ndim: int) -> Multicomplex:
        """The same number with leading dimensions of length one, up to ndim."""
        return self if self.ndim == ndim else self.map(lambda rows: aligned(rows, ndim))

    def assign(self, other: Multicomplex) -> Multicomplex:
        """Take over another number's value, as an in-place function does to its argument."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))
        return self

    def __repr__(self) -> str:
        kind = f"h={self.layout.h:g}" if self.layout.h else "h=0"
        return f"Multicomplex(shape={tuple(self.shape)}, order={self.layout.order}, rows={self.layout.rows}, {kind}, {self.dtype})"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return apply(function, args, kwargs or {})

    def __getattr__(self, name: str):
        """Any other method is the one of torch.Tensor, by its rule."""
        function = getattr(Tensor, name, None)
        if name.startswith("__") or not callable(function):
            raise AttributeError(f"Multicomplex has no attribute {name!r}")
        return lambda *args, **kwargs: apply(function, (self, *args), kwargs)


def _same_layout(z: Multicomplex, w: Multicomplex) -> None:
    if z.layout is not w.layout:
        raise ValueError(f"{z} and {w} come from different perturbations; expected numbers of one call of derivatives")


def _real(other):
    return other.real if isinstance(other, Multicomplex) else other


def _tape(z: Multicomplex, w: Multicomplex) -> list[Step] | None:
    return z.tape if z.tape is not None else w.tape


def aligned(rows: Tensor, ndim: int) -> Tensor:
    """Rows (R, *shape) with dimensions of length one after the leading axis, so that shape has ndim of them."""
    missing = ndim + 1 - rows.dim()
    return rows if missing <= 0 else rows.view(len(rows), *(1,) * missing, *rows.shape[1:])


def _fit(rows: Tensor, other) -> Tensor:
    """Rows that broadcast with a constant of possibly more dimensions."""
    return aligned(rows, other.dim()) if isinstance(other, Tensor) else rows


def one_real_part(z: Multicomplex, name: str) -> None:
    """Raise NotImplementedError where the real part has lanes, so that no one choice by it serves all."""
    if z.layout.h and z.layout.sizes[0] > 1:
        raise NotImplementedError(f"{name} with h > 0 and a batch of directions; expected h=0, or one direction at a time")


def cauchy_riemann_matrix(z: Multicomplex) -> Tensor:
    """The real matrix of each number of order n, (*shape, 2^n, 2^n): [[Z0, -h^2 Z1], [Z1, Z0]] in blocks of order n - 1 (eq. 6).

    Z -> CR(Z) keeps sums and products. All parts must be held, without lanes."""
    n = len(z.layout.units)
    parts = [z.part(*(u for u in range(n) if mask >> u & 1)) for mask in range(2**n)]
    if any(part.shape != z.shape for part in parts):
        raise ValueError(f"{z} has batches of directions; its Cauchy-Riemann matrix is defined for single directions")

    def matrix(masks: list[int]) -> Tensor:
        if len(masks) == 1:
            return parts[masks[0]][..., None, None]
        half = len(masks) // 2                                       # the highest unit splits Z into Z0 + Z1 eps_n
        low, high = matrix(masks[:half]), matrix(masks[half:])
        return torch.cat([torch.cat([low, -z.layout.h**2 * high], -1), torch.cat([high, low], -1)], -2)

    return matrix(list(range(2**n)))
