"""Where the parts of a multicomplex number lie in memory, and what is added to what: worked out once, then only followed.

A number of order n is Z = sum over S of z_S eps^S, S a subset of the n units. Its parts are rows of one tensor:

    part      {}    {v}   {e}    {v,v}   {v,e}    {v,v,e}        for the directions v, v, e with e a batch of six
    rows       1     1     6      1       6        6             21 rows, where 2^3 parts of six lanes would be 48

- Units that carry the same direction are one: z_{1} = z_{2}, so only the multiset of directions in S counts, with its multiplicity.
- A part has as many rows (lanes) as the directions in S ask for: the real part is stored once for a whole batch of directions.
- Parts are sorted by their degree |S|, so a number whose high parts are zero (the input of a network) stores a prefix.
- With h = 0 products and functions need disjoint subsets only. With h > 0 (complex steps) units overlap, eps_j^2 = -h^2, and
  every part, the real one too, depends on all directions: all parts then have all lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Gather = tuple[int, ...] | None   # which of a lane's sorted axes a smaller part keeps; None: the lanes need no rearranging


@dataclass(frozen=True)
class Axes:
    """Every coordinate axis of R^N as a batch of N directions, never stored: the first linear layer yields its weight's columns.

    independent=True: two units that carry it range over all pairs of axes; i <= j only is computed, and D^2 f[axes, axes] is the Hessian.
    independent=False: both units follow the same axis, and D^2 f[axes, axes] is the Hessian's diagonal, as for any batch of directions."""

    independent: bool = True


class Unit(NamedTuple):
    """One unit eps_j: the direction it carries (equal numbers: the same one) and that direction's lanes."""

    direction: int
    lanes: tuple[int, ...] = ()
    axes: int = 0                  # N where the unit ranges over the N axes independently of the others
    basis: bool = False            # the direction is `Axes`, whose seeds are not stored


@dataclass(frozen=True)
class Term:
    """coefficient * left part * right part, either with its lanes gathered first."""

    coefficient: float
    left: int
    left_gather: Gather
    right: int
    right_gather: Gather
    gathers: bool = False


@dataclass(frozen=True)
class Step:
    """The part of f^(level)(Z) that is the sum of its terms; their left factor is a part of f^(level + 1)(Z), the right one of Z."""

    level: int
    part: int
    terms: tuple[Term, ...]


class Composition(NamedTuple):
    """Steps in an order in which they can be done, and the highest derivative of f that they take."""

    order: int
    steps: tuple[Step, ...]


class Layout:
    """The rows of the parts, and the plans of product and composition. Made by `layout`, which keeps the ones already made."""

    def __init__(self, units: tuple[Unit, ...], parts: tuple[tuple[int, ...], ...], h: float, collapsed: bool):
        """parts: the parts to hold, as tuples of units; their subsets come with them. collapsed: sum the last part over its lanes."""
        self.units, self.h, self.collapsed = units, h, collapsed
        wanted = [sum(1 << u for u in part) for part in parts]
        closed = {subset for mask in wanted for whole in (mask, self.canonical(mask)) for subset in _subsets(whole)} | {0}
        masks = sorted({self.canonical(mask) for mask in closed}, key=self._order)
        self.masks = tuple(masks)
        self.index = {mask: masks.index(self.canonical(mask)) for mask in closed}
        self.degrees = tuple(mask.bit_count() for mask in masks)
        self.order = max(self.degrees)
        self.top = len(masks) - 1 if collapsed else -1
        self.lanes = tuple(self._lanes(mask) for mask in masks)
        if collapsed:
            self.lanes = (*self.lanes[:-1], (1,) * len(self.lanes[-1]))
        self.sizes = tuple(prod(lanes) for lanes in self.lanes)
        self.starts = tuple(sum(self.sizes[:i]) for i in range(len(masks) + 1))
        self.rows = self.starts[-1]
        self.stored = tuple(self.starts[sum(d <= degree for d in self.degrees)] for degree in range(self.order + 1))   # rows, by degree
        self.axes = tuple(self.axes_count(mask) for mask in masks)
        self.n_axes = max((u.axes for u in units), default=0)
        self.counts = tuple(sum(d <= degree for d in self.degrees) for degree in range(self.order + 1))   # parts up to a degree
        self.lane_axes = len(self.lanes[0])           # one: a part is a plain range of rows
        self.visible = tuple(self._visible_lanes(i) for i in range(len(masks)))
        self.all_units = tuple(range(len(units)))
        self.key = (units, parts, h, collapsed)

    # -- parts ---------------------------------------------------------------------------------------------------------------

    def canonical(self, mask: int) -> int:
        """The mask that stands for all masks with as many units of each direction: the lowest units of each."""
        result, seen = 0, {}
        for unit in _bits(mask):
            direction = self.units[unit].direction
            same = [j for j, other in enumerate(self.units) if other.direction == direction]
            result |= 1 << same[seen.get(direction, 0)]
            seen[direction] = seen.get(direction, 0) + 1
        return result

    def _order(self, mask: int):
        units = [self.units[u] for u in _bits(mask)]
        return len(units), any(u.basis for u in units), prod(broadcast(*(u.lanes for u in units))), mask

    def _lanes(self, mask: int) -> tuple[int, ...]:
        """Lanes of a part, padded with ones to the same number of axes for all parts; those of the independent axes come last."""
        shared = self.units if self.h else [self.units[u] for u in _bits(mask)]
        ordinary = broadcast(*(u.lanes for u in shared if not u.axes))
        width = max((len(u.lanes) for u in self.units if not u.axes), default=0)
        lanes = (1,) * (width - len(ordinary)) + tuple(ordinary)
        n = max((u.axes for u in self.units), default=0)
        if n:
            lanes += (len(_tuples(n, self.axes_count(mask))[0]) if self.axes_count(mask) else 1,)
        return lanes or (1,)

    def find(self, units: tuple[int, ...]) -> int:
        """Number of the part of these units, or of equal directions. Raises KeyError if it is not held."""
        known = len(set(units)) == len(units) and all(0 <= u < len(self.units) for u in units)
        mask = self.canonical(sum(1 << u for u in units)) if known else -1
        if mask not in self.masks:
            held = ", ".join(str(tuple(_bits(m))) for m in self.masks)
            raise KeyError(f"part{units} is not held, but {held} are; ask for it in `parts`, with distinct units")
        return self.masks.index(mask)

    def _visible_lanes(self, part: int) -> tuple[int, ...]:
        """Lanes of a part as its reader sees them: no padding, one axis for each independent axis."""
        if part == self.top:
            return ()
        units = self.units if self.h else [self.units[u] for u in _bits(self.masks[part])]
        return (*broadcast(*(u.lanes for u in units)), *(u.axes for u in units if u.axes))

    def axes_count(self, mask: int) -> int:
        return sum(self.units[u].axes > 0 for u in _bits(mask))

    # -- plans ---------------------------------------------------------------------------------------------------------------

    def composition(self, degree: int) -> Composition:
        """f(Z)_S = sum over T of f'(Z)_T z_(S - T), T the subsets of S that lack the widest unit; and so on for f', f'', ...

        For Z stored up to degree, at h = 0."""
        steps: dict[tuple[int, int], Step] = {}

        def need(level: int, mask: int) -> None:
            part = self.index[mask]
            if mask == 0 or (level, part) in steps:
                return
            mask = self.masks[part]
            last = max(_bits(mask), key=lambda u: (self.units[u].axes > 0, prod(self.units[u].lanes), u))
            pairs = [(t, mask ^ t) for t in _subsets(mask & ~(1 << last)) if (mask ^ t).bit_count() <= degree]
            for left, _ in pairs:
                need(level + 1, left)
            steps[level, part] = Step(level, part, self._terms(mask, pairs))

        for mask in self.masks:
            need(0, mask)
        return Composition(1 + max((level for level, _ in steps), default=-1), tuple(steps.values()))

    def product(self, left_degree: int, right_degree: int) -> tuple[tuple[Term, ...], ...]:
        """For each part S, (ZW)_S = sum over T ^ U = S of (-h^2)^|T & U| z_T w_U; at h = 0 the disjoint T, U only."""
        plan = []
        for mask in self.masks:
            candidates = self.index if self.h else _subsets(mask)
            pairs = [(t, mask ^ t) for t in candidates if t.bit_count() <= left_degree and (mask ^ t).bit_count() <= right_degree]
            plan.append(self._terms(mask, pairs))
        return tuple(plan)

    def _terms(self, mask: int, pairs: list[tuple[int, int]]) -> tuple[Term, ...]:
        """Pairs of masks as terms; equal ones counted."""
        count: dict[tuple, float] = {}
        for t, u in pairs:
            key = (self.index[t], self._kept(mask, t), self.index[u], self._kept(mask, u))
            count[key] = count.get(key, 0.0) + (-self.h**2) ** (t & u).bit_count()
        return tuple(Term(c, *key, gathers=key[1] is not None or key[3] is not None) for key, c in count.items())

    def _kept(self, mask: int, subset: int) -> Gather:
        """Which of the sorted axes of a lane of `mask` the lanes of `subset` keep."""
        units = [u for u in _bits(mask) if self.units[u].axes]
        kept = tuple(i for i, u in enumerate(units) if subset >> u & 1)
        return kept if 0 < len(kept) < len(units) else None


# Plans are made once for each layout, and are constants to torch.compile.


def constant_in_graphs(function):
    """torch.compiler.assume_constant_result, which would import the compiler (0.9 s) for those too who do not compile."""
    function._dynamo_marked_constant = True
    return function


@constant_in_graphs
def layout(units: tuple[Unit, ...], parts: tuple[tuple[int, ...], ...] | None = None, h: float = 0.0, collapsed: bool = False) -> Layout:
    """The layout for these units that holds the wanted parts (tuples of unit numbers; None: all) and their subsets."""
    return _layout(units, (tuple(range(len(units))),) if parts is None else parts, h, collapsed)


@lru_cache(maxsize=256)
def _layout(units, parts, h, collapsed) -> Layout:
    for part in parts:
        if len(set(part)) != len(part) or not all(0 <= u < len(units) for u in part):
            raise ValueError(f"part {part} is asked for; expected distinct unit numbers from 0 to {len(units) - 1}, one for each direction")
    return Layout(units, parts, h, collapsed)


@constant_in_graphs
def find(key: tuple, units: tuple[int, ...]) -> int:
    """Number of the part of these units on the layout of this key."""
    return _layout(*key).find(units)


@constant_in_graphs
def composition(key: tuple, degree: int) -> Composition:
    """The plan of f(Z) on the layout of this key, for Z stored up to degree."""
    return _composition(key, degree)


@constant_in_graphs
def product(key: tuple, left_degree: int, right_degree: int) -> tuple[tuple[Term, ...], ...]:
    """The plan of a product on the layout of this key."""
    return _product(key, left_degree, right_degree)


def gathering(n: int, d: int, kept: tuple[int, ...] | None, device: torch.device) -> Tensor:
    """Lanes of a part with fewer of the N axes for those of one with d, `kept` of its sorted axes; None: sorted lanes for all N^d."""
    if not torch.compiler.is_compiling():
        return _gathering(n, d, kept, str(device))
    if d == 2 and kept is None:                                      # a graph computes them: rank of i <= j is i (2n - i - 1) / 2 + j
        axis = torch.arange(n, device=device)
        low, high = torch.minimum(axis[:, None], axis), torch.maximum(axis[:, None], axis)
        return (low * (2 * n - low - 1) // 2 + high).flatten()
    if d == 2:
        return torch.triu_indices(n, n, device=device)[kept[0]]
    return torch.tensor(_listed(n, d, kept), device=device)


@constant_in_graphs
def _listed(n: int, d: int, kept: tuple[int, ...] | None) -> list[int]:
    return _gathering(n, d, kept, "cpu").tolist()


@lru_cache(maxsize=1024)
def _composition(key, degree) -> Composition:
    return _layout(*key).composition(degree)


@lru_cache(maxsize=1024)
def _product(key, left_degree, right_degree) -> tuple[tuple[Term, ...], ...]:
    return _layout(*key).product(left_degree, right_degree)


@lru_cache(maxsize=1024)
def _gathering(n, d, kept, device) -> Tensor:
    if kept is not None:
        return _positions(n, d, kept).to(device)
    return _rank(n, torch.cartesian_prod(*(torch.arange(n),) * d).sort(1).values).to(device)


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """torch.broadcast_shapes, which at its first call imports sympy (half a second)."""
    width = max([0, *[len(shape) for shape in shapes]])
    padded = [(1,) * (width - len(shape)) + tuple(shape) for shape in shapes]
    result = []
    for k in range(width):
        longer = [shape[k] for shape in padded if shape[k] != 1] or [1]
        if any(n != longer[0] for n in longer):
            raise ValueError(f"shapes {', '.join(str(tuple(shape)) for shape in shapes)} do not broadcast")
        result.append(longer[0])
    return tuple(result)


def _bits(mask: int) -> list[int]:
    return [u for u in range(mask.bit_length()) if mask >> u & 1]


def _subsets(mask: int) -> list[int]:
    """All subsets of a bit mask, the empty one first."""
    subsets, t = [], 0
    while True:
        subsets.append(t)
        if t == mask:
            return subsets
        t = (t - mask) & mask


@lru_cache(maxsize=64)
def _tuples(n: int, d: int) -> tuple[Tensor, ...]:
    """All i1 <= .. <= id below n in lexicographic order, one tensor for each place."""
    if d == 1:
        return (torch.arange(n),)
    if d == 2:
        i, j = torch.triu_indices(n, n)
        return i, j
    return tuple(torch.tensor(list(combinations_with_replacement(range(n), d))).T.contiguous())


@lru_cache(maxsize=64)
def _ranks(n: int, d: int) -> Tensor:
    """Rank of each sorted tuple in `_tuples`, as a table over all tuples in base n (unsorted ones are left at -1)."""
    table = torch.full((n**d,), -1, dtype=torch.long)
    code = sum(column * n ** (d - 1 - k) for k, column in enumerate(_tuples(n, d)))
    table[code] = torch.arange(len(code))
    return table


def _rank(n: int, sorted_tuples: Tensor) -> Tensor:
    """Ranks of sorted tuples (T, d) -> (T,)."""
    d = sorted_tuples.shape[1]
    return _ranks(n, d)[sum(sorted_tuples[:, k] * n ** (d - 1 - k) for k in range(d))]


def _positions(n: int, d: int, kept: tuple[int, ...]) -> Tensor:
    """For each sorted tuple of d axes, the rank of the tuple of the kept ones."""
    columns = _tuples(n, d)
    return _rank(n, torch.stack([columns[k] for k in kept], 1))
