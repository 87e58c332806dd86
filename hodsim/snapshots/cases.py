"""Load cases as data: load shapes times signals in time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

from hodsim.fem import Load
from hodsim.snapshots.shapes import LoadShapes

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Piecewise:
    """Constant between switches: values[i] (c,) until ends[i] [s], the last value for ever after."""

    ends: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __call__(self, time: float) -> np.ndarray:
        index = int(np.searchsorted(self.ends, time, side="left"))
        return np.array(self.values[min(index, len(self.values) - 1)])


@dataclass(frozen=True)
class Periodic:
    """amplitude (c,) times sin(2 pi frequency t + phase), frequency in [Hz]."""

    amplitude: tuple[float, ...]
    frequency: float
    phase: float

    def __call__(self, time: float) -> np.ndarray:
        return np.array(self.amplitude) * np.sin(2 * np.pi * self.frequency * time + self.phase)


SIGNALS = {"piecewise": Piecewise, "periodic": Periodic}


@dataclass(frozen=True)
class LoadCase:
    """One member of a sweep: which load shapes act with which signals, and whether it trains, validates or tests."""

    name: str
    split: str
    terms: tuple[tuple[str, Piecewise | Periodic], ...] = field(default=())

    def load(self, shapes: LoadShapes) -> Load:
        """The force over time. Raises KeyError naming a shape that is not among the given ones."""
        missing = [shape for shape, _ in self.terms if shape not in shapes]
        if missing:
            raise KeyError(f"load case {self.name} needs the load shapes {missing}; given are {sorted(shapes)}")
        signals = [signal for _, signal in self.terms]
        columns = np.concatenate([shapes[shape] for shape, _ in self.terms], axis=1)
        return Load(columns, lambda time: np.concatenate([signal(time) for signal in signals]))

    def to_json(self) -> str:
        kinds = {cls: kind for kind, cls in SIGNALS.items()}
        terms = [{"shape": shape, "signal": kinds[type(signal)], **asdict(signal)} for shape, signal in self.terms]
        return json.dumps({"name": self.name, "split": self.split, "terms": terms})

    @classmethod
    def from_json(cls, text: str) -> LoadCase:
        data = json.loads(text)
        terms = []
        for term in data["terms"]:
            shape, kind = term.pop("shape"), SIGNALS[term.pop("signal")]
            terms.append((shape, kind(**{key: _as_tuple(value) for key, value in term.items()})))
        return cls(data["name"], data["split"], tuple(terms))


def _as_tuple(value):
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
