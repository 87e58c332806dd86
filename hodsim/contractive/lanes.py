"""First and diagonal second derivatives of a perceptron along many directions at once, and the gradient of their squares by hand.

A lane is one direction of one sample. Between its linear layers it carries p = Dz[v] and s = D^2 z[v, v], through an activation

    a = phi'(z) p                       p~ = phi' a~ + 2 phi'' p c~          phi'~  = sum over lanes of a~ p + c~ s
    c = phi''(z) p^2 + phi'(z) s        s~ = phi' c~                         phi''~ = sum over lanes of c~ p^2

(~: the adjoint). What ends with a linear layer W is squared in front of it: |W a|^2 over all lanes is <W^T W, sum a a^T>,
whose gradient by W is 2 W sum a a^T. Seeds have no second derivative: behind the first activation s is zero but for the units that bend,
those with phi'' or phi''' other than zero; half of them with ELU.
Lanes go forward and back in chunks, so that nothing of all lanes is ever stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

BLOCK = 128  # rows of a symmetric product that are computed at once


@dataclass
class Chain:
    """A product of matrices and diagonals: seeds (K, m_0); phi' and phi'' of each activation, (B, m_l); matrices (m_(l+1), m_l) between them;
    last (k, m): a final one or None. rows (B, K): factors of the lanes of each sample, or None. No curvatures: first derivatives only; else two
    activations or more, and bends (B, m_0): which units of the first one bend."""

    seeds: Tensor
    slopes: list[Tensor]
    matrices: list[Tensor]
    curvatures: list[Tensor] | None = None
    last: Tensor | None = None
    rows: Tensor | None = None
    bends: Tensor | None = None

    def bytes_a_lane(self) -> int:
        """What one lane keeps until its way back, and what is at work beside it."""
        kinds = 1 if self.curvatures is None else 2
        widths = [slope.shape[1] for slope in self.slopes]
        at_work = 6 * max([*widths, self.last.shape[0] if self.last is not None and not self.by_gram else 0])
        return kinds * (2 * sum(widths) + at_work) * self.seeds.element_size()

    @property
    def by_gram(self) -> bool:
        """Two products with W^T W cost less than three with W."""
        return self.last is not None and 2 * self.last.shape[1] < 3 * self.last.shape[0]


@dataclass
class Adjoint:
    """The gradient by everything in a chain."""

    seeds: Tensor
    slopes: list[Tensor]
    matrices: list[Tensor]
    curvatures: list[Tensor] = field(default_factory=list)
    last: Tensor | None = None
    rows: Tensor | None = None


@dataclass(frozen=True)
class Weights:
    """Of one of the two sums: by lane (K,), times `scale` where it is differentiated."""

    lanes: Tensor
    scale: float


def squares(chain: Chain, first: Weights, second: Weights | None, *, budget: int, gradient: bool) -> tuple[Tensor, Adjoint | None]:
    """Sums (1,) or (2,) over samples and lanes of |Df[v]|^2 and |D^2 f[v, v]|^2, and the adjoint of the scaled sum of both.

    budget: bytes of lanes at work, at least those of one."""
    count, lanes = len(chain.slopes[0]), len(chain.seeds)
    weights = [first] if second is None else [first, second]
    work = _Work(chain, [w.lanes for w in weights], [w.scale for w in weights], _zeros(chain) if gradient else None)
    at_once = max(1, budget // chain.bytes_a_lane())
    samples, width = max(1, at_once // lanes), min(lanes, at_once)
    for b in range(0, count, samples):
        work.begin(slice(b, b + samples))
        for k in range(0, lanes, width):
            work.add(slice(b, b + samples), slice(k, k + width))
    return work.finished()


def _zeros(chain: Chain) -> Adjoint:
    def zeros(tensors: list[Tensor] | None) -> list[Tensor]:
        return [torch.zeros_like(t) for t in tensors or []]

    optional = [None if t is None else torch.zeros_like(t) for t in (chain.last, chain.rows)]
    return Adjoint(torch.zeros_like(chain.seeds), zeros(chain.slopes), zeros(chain.matrices), zeros(chain.curvatures), *optional)


class _Work:
    """The running sums, and the chunks that are added to them. What a chunk needs is written where the one before had it."""

    def __init__(self, chain: Chain, weights: list[Tensor], scales: list[float], adjoint: Adjoint | None):
        self.chain, self.weights, self.scales, self.adjoint = chain, weights, scales, adjoint
        self.alike = all(bool((w == w[0]).all()) for w in weights)  # then one factor at the end in place of one a lane
        self.sums = torch.zeros(len(weights), dtype=torch.float64, device=chain.seeds.device)
        self.gram = chain.last.T @ chain.last if chain.by_gram and chain.last is not None else None
        self.outer = None if self.gram is None else self.gram.new_zeros(len(weights), *self.gram.shape)
        self.rooms: dict[str, Tensor] = {}
        self.units: Tensor | None = None  # that bend in one of the samples, and what belongs to them of W and phi''
        self.matrix = self.curvature = chain.seeds

    def finished(self) -> tuple[Tensor, Adjoint | None]:
        if self.gram is not None and self.outer is not None:
            for kind, (weight, scale) in enumerate(zip(self.weights, self.scales, strict=True)):
                outer = self.outer[kind].tril() + self.outer[kind].tril(-1).T
                outer = outer * weight[0] if self.alike else outer
                self.sums[kind] = (self.gram * outer).sum(dtype=torch.float64)  # sum of a . G a
                if self.adjoint is not None and self.adjoint.last is not None and self.chain.last is not None:
                    self.adjoint.last.addmm_(self.chain.last, outer, alpha=2 * scale)
        return self.sums, self.adjoint

    def begin(self, b: slice) -> None:
        """Chunks of these samples come next."""
        chain = self.chain
        if chain.bends is not None and chain.curvatures is not None:
            self.units = chain.bends[b].any(0).nonzero()[:, 0]
            self.matrix = chain.matrices[0].index_select(1, self.units)
            self.curvature = chain.curvatures[0][b].index_select(1, self.units)[:, None]

    def add(self, b: slice, k: slice) -> None:
        """One chunk of lanes forward and, with an adjoint, back."""
        seeds, entered = self._enter(b, k)
        before, after = self._forward(b, entered)
        back = self._square(after[-1] if after else entered[0][None], k)
        adjoint, chain = self.adjoint, self.chain
        if adjoint is None or back is None:
            return
        for l in reversed(range(1, len(chain.slopes))):
            self._through_activation(adjoint, l, b, before[l - 1], back)
            if l > 1:
                adjoint.matrices[l - 1].addmm_(_flat(back).T, _flat(after[l - 2]))
                back = self._product(f"back {l % 2}", back, chain.matrices[l - 1])
        p = self._leave(adjoint, b, seeds, entered, back)
        if chain.rows is not None and adjoint.rows is not None:
            adjoint.rows[b, k] += torch.linalg.vecdot(p, chain.seeds[k].expand_as(p))
            p = p * chain.rows[b, k, None]
        adjoint.seeds[k] += p.sum(0)

    def _enter(self, b: slice, k: slice) -> tuple[Tensor, list[Tensor]]:
        """p (1 or b, k, m) in front of the first activation; behind it a (b, k, m) and, with curvatures, c (b, k, units that bend)."""
        chain = self.chain
        p = chain.seeds[k][None]
        if chain.rows is not None:
            p = p * chain.rows[b, k, None]
        f1 = chain.slopes[0][b, None]  # (b, 1, m)
        found = [torch.mul(p, f1, out=self._room("a", *torch.broadcast_shapes(f1.shape, p.shape)))]
        if self.units is not None:
            bent = p.index_select(-1, self.units)
            found.append(torch.mul(bent.mul_(bent), self.curvature, out=self._room("c", *found[0].shape[:2], len(self.units))))
        return p, found

    def _leave(self, adjoint: Adjoint, b: slice, p: Tensor, entered: list[Tensor], back: Tensor) -> Tensor:
        """The adjoint of the seeds' lanes (b, k, m), from that of what the first matrix makes of what entered, or of this where there is none."""
        chain, f1 = self.chain, self.chain.slopes[0][b, None]
        if not chain.matrices:
            a_bar = back[0]
        else:
            adjoint.matrices[0].addmm_(_flat(back[0]).T, _flat(entered[0]))
            a_bar = self._product("a back", back[0], chain.matrices[0])
        product = self._room("product", *a_bar.shape)
        adjoint.slopes[0][b] += torch.mul(a_bar, p, out=product).sum(1)
        p_bar = a_bar.mul_(f1)
        if self.units is not None:
            adjoint.matrices[0].index_add_(1, self.units, _flat(back[1]).T @ _flat(entered[1]))
            bent = p.index_select(-1, self.units)
            twist = self._product("c back", back[1], self.matrix).mul_(bent)
            product = self._room("product", *twist.shape)
            adjoint.curvatures[0][b].index_add_(1, self.units, torch.mul(twist, bent, out=product).sum(1))
            p_bar.index_add_(-1, self.units, twist.mul_(self.curvature), alpha=2)
        return p_bar

    def _forward(self, b: slice, entered: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Lanes (kinds, b, k, m) in front of and behind each activation but the first."""
        chain, kinds = self.chain, len(self.weights)
        before, after = [], []
        for l in range(1, len(chain.slopes)):
            matrix, f1 = chain.matrices[l - 1], chain.slopes[l][b, None]
            lanes = self._room(f"before {l}", kinds, *entered[0].shape[:2], len(matrix))
            if l > 1:
                torch.mm(_flat(after[-1]), matrix.T, out=_flat(lanes))
            else:
                for kind, W in enumerate([matrix, self.matrix][:kinds]):
                    torch.mm(_flat(entered[kind]), W.T, out=_flat(lanes[kind]))
            passed = self._room(f"after {l}", *lanes.shape)
            torch.mul(lanes[0], f1, out=passed[0])
            if chain.curvatures is not None:
                torch.mul(lanes[0], chain.curvatures[l][b, None], out=passed[1]).mul_(lanes[0])
                passed[1].addcmul_(lanes[1], f1)
            before.append(lanes)
            after.append(passed)
        return before, after

    def _square(self, outputs: Tensor, k: slice) -> Tensor | None:
        """Add the squared lengths of the last lanes; their adjoint, to be written over, where one is wanted."""
        last, adjoint = self.chain.last, self.adjoint
        weights = torch.stack([w[k, None] for w in self.weights])[:, None]  # (kinds, 1, k, 1)
        if self.gram is not None and self.outer is not None:
            weighted = outputs if self.alike else outputs * weights
            for kind, outer in enumerate(self.outer):
                _add_symmetric(outer, _flat(weighted[kind]), _flat(outputs[kind]))
            if adjoint is None:
                return None
            back = self._room("back 0" if len(self.chain.slopes) % 2 == 0 else "back 1", *outputs.shape)
            for kind, (weight, scale) in enumerate(zip(self.weights, self.scales, strict=True)):
                factor = 2 * scale * (weight[0] if self.alike else 1.0)
                torch.mm(_flat(weighted[kind]), factor * self.gram, out=_flat(back[kind]))
            return back
        pulled = outputs.clone() if last is None else outputs @ last.T
        lengths = torch.linalg.vecdot(pulled, pulled)  # (kinds, b, k)
        for kind, weight in enumerate(self.weights):
            self.sums[kind] += (lengths[kind].sum(0, dtype=torch.float64) * weight[k]).sum()
        if adjoint is None:
            return None
        for kind, scale in enumerate(self.scales):
            pulled[kind].mul_(2 * scale * weights[kind])
        if last is not None and adjoint.last is not None:
            adjoint.last.addmm_(_flat(pulled).T, _flat(outputs))
            pulled = pulled @ last
        return pulled

    def _through_activation(self, adjoint: Adjoint, l: int, b: slice, lanes: Tensor, back: Tensor) -> None:
        """The adjoint of what is behind an activation but the first, back, becomes that of what is in front of it."""
        chain = self.chain
        f1, p = chain.slopes[l][b, None], lanes[0]
        product = self._room("product", *back.shape[1:])
        adjoint.slopes[l][b] += torch.mul(back[0], p, out=product).sum(1)
        if chain.curvatures is None:
            back.mul_(f1)
            return
        adjoint.slopes[l][b] += torch.mul(back[1], lanes[1], out=product).sum(1)
        twist = torch.mul(back[1], p, out=self._room("twist", *back.shape[1:]))
        adjoint.curvatures[l][b] += torch.mul(twist, p, out=product).sum(1)
        back.mul_(f1)
        back[0].addcmul_(twist, chain.curvatures[l][b, None], value=2)

    def _product(self, name: str, lanes: Tensor, matrix: Tensor) -> Tensor:
        found = self._room(name, *lanes.shape[:-1], matrix.shape[1])
        torch.mm(_flat(lanes), matrix, out=_flat(found))
        return found

    def _room(self, name: str, *shape: int) -> Tensor:
        """Memory of that shape, the same under the same name."""
        length = prod(shape)
        if name not in self.rooms or len(self.rooms[name]) < length:
            self.rooms[name] = self.chain.seeds.new_empty(length)
        return self.rooms[name][:length].view(shape)


def _add_symmetric(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right, which is symmetric, to what of total lies on and below the diagonal; blocks above it are not computed."""
    for i in range(0, len(total), BLOCK):
        rows = slice(i, i + BLOCK)
        total[rows, : i + BLOCK].addmm_(left[:, rows].T, right[:, : i + BLOCK])


def _flat(lanes: Tensor) -> Tensor:
    return lanes.flatten(0, -2)
