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


@dataclass(frozen=True)
class Unit:
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

    def __init__(self, units: tuple[Unit, ...], wanted: tuple[int, ...], h: float, collapsed: bool):
        """wanted: bit masks of the parts to hold; their subsets come with them. collapsed: sum the last part over its lanes."""
        self.units, self.h, self.collapsed = units, h, collapsed
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
        self.axes = tuple(self.axes_count(mask) for mask in masks)
        self.counts = tuple(sum(d <= degree for d in self.degrees) for degree in range(self.order + 1))   # parts up to a degree
        self.lane_axes = len(self.lanes[0])           # one: a part is a plain range of rows
        self._plans: dict = {}
        self._gathers: dict = {}

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
        return len(units), any(u.basis for u in units), prod(torch.broadcast_shapes(*(u.lanes for u in units))), mask

    def _lanes(self, mask: int) -> tuple[int, ...]:
        """Lanes of a part, padded with ones to the same number of axes for all parts; those of the independent axes come last."""
        shared = self.units if self.h else [self.units[u] for u in _bits(mask)]
        ordinary = torch.broadcast_shapes(*(u.lanes for u in shared if not u.axes))
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

    def visible_lanes(self, mask: int) -> tuple[int, ...]:
        """Lanes of a part as its reader sees them: no padding, one axis for each independent axis."""
        if self.top >= 0 and mask == self.masks[self.top]:
            return ()
        units = self.units if self.h else [self.units[u] for u in _bits(mask)]
        return (*torch.broadcast_shapes(*(u.lanes for u in units)), *(u.axes for u in units if u.axes))

    def axes_count(self, mask: int) -> int:
        return sum(self.units[u].axes > 0 for u in _bits(mask))

    def rows_of(self, degree: int) -> int:
        """Number of rows that a number of this degree stores."""
        return self.starts[self.counts[degree]]

    def blocks(self, rows: Tensor, degree: int) -> list[Tensor]:
        """The parts as views (*lanes, *shape) of the rows."""
        count = self.counts[degree]
        if count == 1:
            parts = [rows]
        else:
            parts = list(torch.split_with_sizes(rows, self.sizes[:count]))
        if self.lane_axes > 1:
            parts = [part.unflatten(0, lanes) for part, lanes in zip(parts, self.lanes, strict=False)]
        return parts

    # -- gathering lanes of independent axes ---------------------------------------------------------------------------------

    def gather(self, part: Tensor, positions: Gather, mask_degree: int) -> Tensor:
        """Lanes of a smaller part, rearranged to those of a part with mask_degree independent axes."""
        if positions is None:
            return part
        key = (positions, mask_degree, part.device)
        if key not in self._gathers:
            n = max(u.axes for u in self.units)
            self._gathers[key] = _positions(n, mask_degree, positions).to(part.device)
        return part.index_select(self.lane_axes - 1, self._gathers[key])

    def dense(self, part: Tensor, mask: int) -> Tensor:
        """Expand the sorted lanes of d independent axes to a full (N,) * d grid, in place of the last lane axis."""
        d, n = self.axes_count(mask), max(u.axes for u in self.units)
        axis = self.lane_axes - 1
        if d < 2:
            return part
        key = ("dense", d, part.device)
        if key not in self._gathers:
            grid = torch.cartesian_prod(*(torch.arange(n),) * d)
            self._gathers[key] = _rank(n, grid.sort(1).values).to(part.device)
        return part.index_select(axis, self._gathers[key]).unflatten(axis, (n,) * d)

    # -- plans ---------------------------------------------------------------------------------------------------------------

    def composition(self, degree: int) -> Composition:
        """f(Z)_S = sum over T of f'(Z)_T z_(S - T), T the subsets of S that lack the widest unit; and so on for f', f'', ...

        For Z stored up to degree, at h = 0."""
        key = ("composition", degree)
        if key not in self._plans:
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
            self._plans[key] = Composition(1 + max((level for level, _ in steps), default=-1), tuple(steps.values()))
        return self._plans[key]

    def product(self, left_degree: int, right_degree: int) -> tuple[tuple[Term, ...], ...]:
        """For each part S, (ZW)_S = sum over T ^ U = S of (-h^2)^|T & U| z_T w_U; at h = 0 the disjoint T, U only."""
        key = ("product", left_degree, right_degree)
        if key not in self._plans:
            plan = []
            for mask in self.masks:
                if self.h:
                    pairs = [(t, mask ^ t) for t in self.index]
                else:
                    pairs = [(t, mask ^ t) for t in _subsets(mask)]
                pairs = [(t, u) for t, u in pairs if t.bit_count() <= left_degree and u.bit_count() <= right_degree]
                plan.append(self._terms(mask, pairs))
            self._plans[key] = tuple(plan)
        return self._plans[key]

    def _terms(self, mask: int, pairs: list[tuple[int, int]]) -> tuple[Term, ...]:
        """Pairs of masks as terms; equal ones counted."""
        count: dict[tuple, float] = {}
        for t, u in pairs:
            key = (self.index[t], self._kept(mask, t), self.index[u], self._kept(mask, u))
            count[key] = count.get(key, 0.0) + (-self.h**2) ** (t & u).bit_count()
        return tuple(Term(c, *key) for key, c in count.items())

    def _kept(self, mask: int, subset: int) -> Gather:
        """Which of the sorted axes of a lane of `mask` the lanes of `subset` keep."""
        units = [u for u in _bits(mask) if self.units[u].axes]
        kept = tuple(i for i, u in enumerate(units) if subset >> u & 1)
        return kept if 0 < len(kept) < len(units) else None


@lru_cache(maxsize=256)
def layout(units: tuple[Unit, ...], wanted: tuple[tuple[int, ...], ...] | None = None, h: float = 0.0, collapsed: bool = False) -> Layout:
    """The layout for these units that holds the wanted parts (tuples of unit numbers; None: all) and their subsets."""
    if wanted is None:
        wanted = (tuple(range(len(units))),)
    for part in wanted:
        if len(set(part)) != len(part) or not all(0 <= u < len(units) for u in part):
            raise ValueError(f"part {part} is asked for; expected distinct unit numbers from 0 to {len(units) - 1}, one for each direction")
    return Layout(units, tuple(sum(1 << u for u in part) for part in wanted), h, collapsed)


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
