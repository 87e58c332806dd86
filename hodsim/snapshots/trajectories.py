"""An array (cases, steps, d) that lies in one file a case and is read as it is indexed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hodsim.snapshots.records import opened

BLOCK = 2**26  # bytes of poses that are read at a time


@dataclass
class Source:
    """One array (steps, d) of one file; kept in memory, once read, if `keep` is set."""

    path: Path
    fingerprint: str
    name: str
    keep: bool
    _kept: np.ndarray | None = field(default=None, repr=False)

    def read(self, steps: Any = slice(None), dofs: Any = slice(None)) -> np.ndarray:
        """The chosen steps and degrees of freedom; from the file only those chunks that hold any of them."""
        if self._kept is not None:
            return self._kept[steps, dofs]
        with opened(self.path, self.fingerprint) as (file, _):
            if not self.keep:
                return file[self.name][steps, dofs]
            whole: np.ndarray = file[self.name][()]
        whole.flags.writeable = False
        self._kept = whole
        return whole[steps, dofs]


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Indexed and iterated as a numpy array of that shape, [case, step, dof]; numpy.asarray reads it whole.

    Steps and degrees of freedom are chosen by an index or a slice that goes forward. An index of cases alone, such as a slice, a mask or a
    list, reads nothing."""

    sources: tuple[Source, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (source.read() for source in self.sources)

    def __getitem__(self, key: Any) -> Any:
        cases, *rest = key if isinstance(key, tuple) else (key,)
        chosen = np.arange(len(self))[cases]
        if chosen.ndim == 0:
            return self.sources[chosen].read(*rest)
        if rest:
            empty = np.empty(self.shape[1:], self.dtype)[tuple(rest)]
            return np.array([self.sources[i].read(*rest) for i in chosen], self.dtype).reshape(len(chosen), *empty.shape)
        return Trajectories(tuple(self.sources[i] for i in chosen), (len(chosen), *self.shape[1:]), self.dtype)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        whole = np.empty(self.shape, dtype or self.dtype)
        for row, source in zip(whole, self.sources, strict=True):
            row[...] = source.read()
        return whole


@dataclass(frozen=True)
class Poses:
    """The rows (n, d), n = cases * steps, of trajectories. Iterating reads blocks of rows (*, d), which is what `pca` takes when they do
    not fit in memory; indexing by a row or a slice reads those rows."""

    trajectories: Trajectories

    @property
    def shape(self) -> tuple[int, int]:
        cases, steps, d = self.trajectories.shape
        return cases * steps, d

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        _, steps, d = self.trajectories.shape
        rows = max(1, BLOCK // (self.trajectories.dtype.itemsize * d))
        for source in self.trajectories.sources:
            for start in range(0, steps, rows):
                yield source.read(slice(start, start + rows))

    def __getitem__(self, key: int | slice | Sequence[int]) -> np.ndarray:
        chosen = np.arange(len(self))[key]
        case, step = np.divmod(chosen, self.trajectories.shape[1])
        if chosen.ndim == 0:
            return self.trajectories.sources[case].read(int(step))
        rows = np.empty((len(chosen), self.shape[1]), self.trajectories.dtype)
        for i in np.unique(case):
            mine = step[case == i]
            first, last = mine.min(), mine.max()
            rows[case == i] = self.trajectories.sources[i].read(slice(first, last + 1))[mine - first]
        return rows

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.trajectories, dtype).reshape(self.shape)
