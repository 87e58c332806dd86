"""Load cases as data: load shapes times signals in time, and seeded sweeps of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from hodsim.fem import Load
from hodsim.snapshots.shapes import BENDING, LoadShapes

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


FAMILIES = (("tip",), ("body",), ("tip", "twist"), ("body", "twist"), ("tip", "body"), ("gravity",))


def families(shapes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What acts together in load cases of these shapes: those of FAMILIES that need no other, each shape that is in none of them alone, and all
    of the latter at once. Those of FAMILIES where the shapes are those of `bending_loads`."""
    known = tuple(family for family in FAMILIES if {"body" if shape == "gravity" else shape for shape in family} <= {*shapes})
    further = tuple(shape for shape in shapes if not any(shape in family for family in known))
    return known + tuple((shape,) for shape in further) + ((further,) if len(further) > 1 else ())


def sweep(
    *, train: int, validation: int = 0, test: int = 0, seed: int = 0, duration: float = 2.0, shapes: Sequence[str] = BENDING
) -> list[LoadCase]:
    """Load cases of shapes: their families in turn, every other one piecewise or periodic, from a generator of its own each.

    A case depends on the shapes, the seed, its split and its number alone, so that a longer sweep contains the shorter ones.
    """
    together = families(shapes)
    cases = []
    for stream, (split, number) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        for index in range(number):
            generator = np.random.default_rng([seed, stream, index])
            family = together[index % len(together)]
            periodic = bool((index // len(together) + index) % 2)
            terms = tuple(_term(shape, periodic, duration, generator) for shape in family)
            cases.append(LoadCase(f"{split}-{index:04d}", split, terms))
    return cases


def _term(shape: str, periodic: bool, duration: float, generator: np.random.Generator) -> tuple[str, Piecewise | Periodic]:
    components = 1 if shape == "twist" else 3
    if shape == "gravity":  # switched on at once and kept
        return "body", Piecewise((duration,), (_amplitude(components, generator),))
    if periodic:
        frequency = float(np.exp(generator.uniform(np.log(0.25), np.log(3.0))))
        return shape, Periodic(_amplitude(components, generator), frequency, float(generator.uniform(0, 2 * np.pi)))
    ends, values = [], []
    while not ends or ends[-1] < duration:
        ends.append((ends[-1] if ends else 0.0) + float(generator.uniform(0.15, 0.7)))
        released = generator.random() < 0.25
        values.append((0.0,) * components if released else _amplitude(components, generator))
    return shape, Piecewise(tuple(ends), tuple(values))


def _amplitude(components: int, generator: np.random.Generator) -> tuple[float, ...]:
    """A direction uniform on the sphere times a magnitude uniform in [0.1, 1]."""
    direction = generator.standard_normal(components)
    direction *= generator.uniform(0.1, 1.0) / np.linalg.norm(direction)
    return tuple(float(value) for value in direction)
