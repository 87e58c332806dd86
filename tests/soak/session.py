"""Somebody who drags, lets go, pins, changes loads, schemes and damping, resets, saves and replays, at random, through the viewer's own player,
hand and plots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from hodsim.apps.arguments import trained_under
from hodsim.fem import Rayleigh
from hodsim.reduced import ReducedModel
from hodsim.subspace import Model, modal
from hodsim.viewer import Player, Recording
from hodsim.viewer.hand import Hand
from hodsim.viewer.history import History
from hodsim.viewer.recording import SCHEMES

FRAME = 1 / 60  # [s]
AXES = np.eye(3)


@dataclass(frozen=True)
class Minute:
    """At the end of a simulated minute: CPU seconds a step of a motion that is always the same, since what a person does is not; the memory
    [bytes]; and how often the motion stopped by itself."""

    seconds: float
    memory: int
    stops: int
    steps: int


class Session:
    """A player of a model file, beside modal analysis, in the hands of a random person. minutes yields what each simulated minute took.

    Raises AssertionError where a state is not finite."""

    def __init__(self, file: Path, folder: Path, *, seed: int = 0):
        loaded = Model.load(file)
        models = {"network": ReducedModel.of(loaded), "modal": ReducedModel(loaded.full, modal(loaded.full, 6))}
        self.player = Player(models, trained_under(loaded), dt=0.01)
        self.player.warm_up()
        self.hand, self.history = Hand(self.player), History(self.player)
        self.rng, self._file = np.random.default_rng(seed), folder / "recording.json"
        self.done: dict[str, int] = {}
        self._recorded = False
        self._always = replace(self.player.inputs, loads={name: tuple(0.3 for _ in a) for name, a in self.player.amplitudes.items()})

    def minutes(self, number: int) -> Iterator[Minute]:
        for _ in range(number):
            steps, stops = 0, 0
            for frame in range(round(60 / FRAME)):
                if frame % 20 == 0:  # three times a second something is done
                    self._do_something()
                self._move_the_hand()
                steps += self.player.advance(FRAME, patient=True)
                self.history.note()
                if self.player.trouble is not None:
                    stops += 1
                    self.player.let_go()
                    self.player.start_over()
                if self.player.paused and self.player.replaying is None:
                    self.player.toggle()
                self._check()
            yield Minute(min(self._same_motion() for _ in range(3)), psutil.Process().memory_info().rss, stops, steps)

    def _same_motion(self) -> float:
        """CPU seconds a step of a second from rest."""
        self.hand.release()
        self.player.let_go()
        self.player.start_over()
        self.player.inputs = self._always
        began = time.process_time()
        steps = sum(self.player.advance(FRAME, patient=True) for _ in range(round(1 / FRAME)))
        return (time.process_time() - began) / steps

    def _check(self) -> None:
        for body in self.player.bodies:
            assert np.isfinite(body.state.q).all() and np.isfinite(body.state.v).all(), f"{body.name} is not finite at {self.player.time} s"
            assert np.isfinite(body.positions).all()

    def _do_something(self) -> None:
        if self.player.replaying is not None:
            return
        deeds = {
            self._seize: 8, self._release: 6, self._load: 4, self._let_go: 2, self._scheme: 1, self._damp: 1, self._dt: 1, self._pose: 1,
            self._reset: 0.3, self._save: 0.3, self._replay: 0.15,
        }  # fmt: skip
        weights = np.array(list(deeds.values()))
        deed = list(deeds)[self.rng.choice(len(deeds), p=weights / weights.sum())]
        self.done[deed.__name__] = self.done.get(deed.__name__, 0) + 1
        deed()

    def _seize(self) -> None:
        self.hand.release()
        body = self.player.bodies[self.rng.integers(len(self.player.bodies))]
        self.hand.seize(body, body.positions[self.rng.integers(len(body.positions))], AXES[self.rng.integers(3)])

    def _move_the_hand(self) -> None:
        if self.hand.vertex is not None and self.player.replaying is None:
            at = self.player.bodies[0].place(self.hand.vertex)
            self.hand.drag(at + 0.05 * self.player.length * self.rng.standard_normal(3) + AXES[1], self.rng.standard_normal(3))

    def _release(self) -> None:
        self.hand.release(keep=self.rng.random() < 0.1)

    def _load(self) -> None:
        for amplitudes in self.player.amplitudes.values():
            amplitudes[:] = self.rng.uniform(-0.5, 0.5, len(amplitudes)) * (self.rng.random() < 0.5)

    def _let_go(self) -> None:
        self.hand.release()
        self.player.let_go()

    def _scheme(self) -> None:
        self.player.scheme = list(SCHEMES)[self.rng.integers(len(SCHEMES))]

    def _damp(self) -> None:
        self.player.damping = Rayleigh(float(self.rng.uniform(0, 2)), float(self.rng.choice([0.0, 1e-3])))

    def _dt(self) -> None:
        self.player.dt = float(self.rng.choice([0.005, 0.01, 1 / 60]))

    def _pose(self) -> None:
        held = self.player.pose is None and self.rng.random() < 0.3
        self.player.pose = 0.3 * self.rng.standard_normal(self.player.bodies[0].dim) if held else None

    def _reset(self) -> None:
        self.hand.release()
        self.player.let_go()
        self.player.reset()

    def _save(self) -> None:
        if self.player.recording.steps:
            self.player.recording.save(self._file)
            self._recorded = True

    def _replay(self) -> None:
        if self._recorded:
            self.hand.release()
            self.player.replay(Recording.load(self._file, self.player.full, {name: len(a) for name, a in self.player.amplitudes.items()}))


def verdict(minutes: list[Minute]) -> dict[str, float]:
    """How memory and the time of a step changed, last sixth over first sixth after a warm-up of a sixth: 0.01 is one per cent.

    Other work on the machine only ever adds to the time of one and the same motion, so the least of a sixth tells."""
    share = max(1, len(minutes) // 6)
    first, last = minutes[share : 2 * share], minutes[-share:]
    return {
        "memory": float(np.median([m.memory for m in last]) / np.median([m.memory for m in first])) - 1,
        "seconds a step": min(m.seconds for m in last) / min(m.seconds for m in first) - 1,
    }
