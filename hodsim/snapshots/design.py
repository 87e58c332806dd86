"""Seeded sweeps: which load shapes act together, with which signals, and how strongly.

    piecewise   switched every so often, a quarter of the times to nothing: releases from rest
    periodic    at a frequency anywhere from 0.25 to 3 Hz
    static      so slowly that the body stays near equilibrium: a quarter of a sine over the whole time
    impulse     short blows, two to four times as strong as the rest, with free motion in between
    resonance   at one of the body's own frequencies, within 5 %, and weakly, for it swells
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from hodsim.snapshots.cases import SPLITS, LoadCase, Periodic, Piecewise
from hodsim.snapshots.shapes import BENDING

Kind = Literal["piecewise", "periodic", "static", "impulse", "resonance"]
KINDS: tuple[Kind, ...] = get_args(Kind)
USUAL: tuple[Kind, ...] = ("piecewise", "periodic")
FAMILIES = (("tip",), ("body",), ("tip", "twist"), ("body", "twist"), ("tip", "body"), ("gravity",))


def families(shapes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What acts together in load cases of these shapes: those of FAMILIES that need no other, each shape that is in none of them alone, and all
    of the latter at once. Those of FAMILIES where the shapes are those of `bending_loads`."""
    known = tuple(family for family in FAMILIES if {"body" if shape == "gravity" else shape for shape in family} <= {*shapes})
    further = tuple(shape for shape in shapes if not any(shape in family for family in known))
    return known + tuple((shape,) for shape in further) + ((further,) if len(further) > 1 else ())


def sweep(
    *,
    train: int,
    validation: int = 0,
    test: int = 0,
    seed: int = 0,
    duration: float = 2.0,
    shapes: Sequence[str] = BENDING,
    signals: Sequence[str] = USUAL,
    strength: float = 1.0,
    frequencies: Sequence[float] = (),
) -> list[LoadCase]:
    """Load cases of shapes: their families in turn, with signals of KINDS in turn, from a generator of its own each.

    A case depends on its split and its number and on what does not count cases, so that a longer sweep contains the shorter ones. Training cases
    reach so many times the strength of the others; frequencies [Hz] are the body's own, for resonance, which asks for some: ValueError.
    """
    unknown = [signal for signal in signals if signal not in KINDS]
    if unknown or not signals:
        raise ValueError(f"signals are {list(signals)}; expected some of {', '.join(KINDS)}")
    if "resonance" in signals and not len(frequencies):
        raise ValueError("signals have resonance, and there are no frequencies; expected some of the body's own [Hz]")
    together = families(shapes)
    cases = []
    for stream, (split, number) in enumerate(zip(SPLITS, (train, validation, test), strict=True)):
        for index in range(number):
            generator = np.random.default_rng([seed, stream, index])
            family = together[index % len(together)]
            kind = signals[(index // len(together) + index) % len(signals)]
            times = strength if split == "train" else 1.0
            terms = tuple(_term(shape, kind, times, duration, frequencies, generator) for shape in family)
            cases.append(LoadCase(f"{split}-{index:04d}", split, terms))
    return cases


def _term(
    shape: str, kind: str, times: float, duration: float, frequencies: Sequence[float], generator: np.random.Generator
) -> tuple[str, Piecewise | Periodic]:
    components = 1 if shape == "twist" else 3

    def amplitude(more: float = 1.0) -> tuple[float, ...]:
        return _amplitude(components, more * times, generator)

    if shape == "gravity":  # switched on at once and kept
        return "body", Piecewise((duration,), (amplitude(),))
    if kind == "periodic":
        frequency = float(np.exp(generator.uniform(np.log(0.25), np.log(3.0))))
        return shape, Periodic(amplitude(), frequency, float(generator.uniform(0, 2 * np.pi)))
    if kind == "static":
        return shape, Periodic(amplitude(), 0.25 / duration, 0.0)
    if kind == "resonance":
        frequency = float(generator.choice(frequencies) * generator.uniform(0.95, 1.05))
        return shape, Periodic(amplitude(0.3), frequency, 0.0)
    ends, values = [], []
    while not ends or ends[-1] < duration:
        ends.append((ends[-1] if ends else 0.0) + float(generator.uniform(0.15, 0.7)))
        if kind == "impulse":
            ends.append(ends[-1] + duration * float(generator.uniform(0.025, 0.05)))
            values += [(0.0,) * components, amplitude(float(generator.uniform(2.0, 4.0)))]
        else:
            released = generator.random() < 0.25
            values.append((0.0,) * components if released else amplitude())
    return shape, Piecewise(tuple(ends), tuple(values))


def _amplitude(components: int, times: float, generator: np.random.Generator) -> tuple[float, ...]:
    """A direction uniform on the sphere times a magnitude uniform in [0.1, 1], times so much."""
    direction = generator.standard_normal(components)
    direction *= times * generator.uniform(0.1, 1.0) / np.linalg.norm(direction)
    return tuple(float(value) for value in direction)
