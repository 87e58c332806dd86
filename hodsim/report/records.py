"""What a report knows: for each model the errors against the full model, the cost of each step and the steps that failed.

Errors compare trajectories of one load case, over its time steps t:

    tip        sqrt( sum_t |x_tip - x_tip_full|^2 / sum_t |u_tip_full|^2 )
    position   sqrt( sum_t |u - u_full|_M^2 / sum_t |u_full|_M^2 )          |u|_M^2 = u^T M u
    velocity   sqrt( sum_t |u' - u'_full|_M^2 / sum_t |u'_full|_M^2 )
    energy     sqrt( mean_t (E - E_full)^2 ) / max_t E_full                 E = u'^T M u' / 2 + V(u)

A failed step never flatters a model: missing steps count as a body at rest, and a case in which a step failed counts with an error of
at least 1 (100 %) in every measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hodsim.reduced.indicator import LIMITS

LIGHTS = ("green", "amber", "red")


def relative_rms(difference: np.ndarray, reference: np.ndarray) -> float:
    """sqrt(sum difference^2 / sum reference^2) for norms over time (steps,); 0 when both vanish.

    A step whose difference is NaN is one the model did not reach: it counts as a body at rest, and the result is at least 1.
    """
    missing = np.isnan(difference)
    error = _ratio(math.sqrt(np.sum(np.where(missing, reference, difference) ** 2)), math.sqrt(np.sum(reference**2)))
    return max(error, 1.0) if missing.any() else error


def energy_deviation(energy: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square over time of energy - reference (steps,) [J], relative to the peak of the reference; NaN as in `relative_rms`."""
    missing = np.isnan(energy)
    difference = np.where(missing, 0.0, energy) - reference
    error = _ratio(math.sqrt(np.mean(difference**2)), float(np.max(np.abs(reference))))
    return max(error, 1.0) if missing.any() else error


def _ratio(numerator: float, denominator: float) -> float:
    if numerator == 0:
        return 0.0
    return numerator / denominator if denominator > 0 else math.inf


@dataclass(frozen=True)
class Failure:
    """A step that could not be taken: the model, the load case, the step's number from 1, its time [s], the reason.

    lost counts the steps of the case that are missing because of it, this one included.
    """

    model: str
    case: str
    step: int
    time: float
    reason: str
    lost: int


@dataclass(frozen=True)
class Spread:
    """Mean, median and maximum over the load cases."""

    mean: float
    median: float
    max: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        return cls(float(np.mean(values)), float(np.median(values)), float(np.max(values)))


@dataclass(frozen=True)
class Record:
    """One model on every load case; the full model's errors are zero. Steps that were not reached are NaN.

    tip (cases, steps, 3) is the tip's displacement [m]; energy (cases, steps) [J]; seconds and iterations (cases, steps) the cost of
    each step and its Newton iterations; deviation, estimate and light (cases, steps) the error |u - u_full|_M over that of a typical
    motion, what the model's indicator took it for, and the light it showed (0 green, 1 amber, 2 red), NaN for a model without;
    tip_error, position_error, velocity_error and energy_error (cases,) as defined above; surface (cases, frames, vertices, 3) the
    displacement of the surface's vertices at the evaluation's frames [m].
    """

    name: str
    r: int
    elasticity: str
    is_network: bool
    tip: np.ndarray
    energy: np.ndarray
    seconds: np.ndarray
    iterations: np.ndarray
    deviation: np.ndarray
    estimate: np.ndarray
    light: np.ndarray
    tip_error: np.ndarray
    position_error: np.ndarray
    velocity_error: np.ndarray
    energy_error: np.ndarray
    surface: np.ndarray
    failures: tuple[Failure, ...] = ()

    @property
    def failed_steps(self) -> int:
        return sum(failure.lost for failure in self.failures)

    @property
    def newton_iterations(self) -> float:
        """Mean over the steps that were taken."""
        return _nan_statistic(np.mean, self.iterations)

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the time of a step [ms]; NaN when no step was taken."""
        return 1e3 * _nan_statistic(lambda seconds: np.percentile(seconds, percentile), self.seconds)


@dataclass(frozen=True)
class Trust:
    """What a light of the indicator was worth: the share of the steps it was shown in, and among these the share whose error was beyond each
    of the indicator's limits."""

    light: str
    share: float
    beyond: tuple[float, ...]


def trust(record: Record) -> list[Trust]:
    """Each light of a record's indicator; empty for a model without."""
    shown = ~np.isnan(record.light)
    if not shown.any():
        return []
    found = []
    for level, light in enumerate(LIGHTS):
        errors = record.deviation[record.light == level]
        beyond = tuple(float((errors > limit).mean()) if len(errors) else math.nan for limit in LIMITS)
        found.append(Trust(light, len(errors) / int(shown.sum()), beyond))
    return found


def _nan_statistic(statistic, values: np.ndarray) -> float:
    taken = values[~np.isnan(values)]
    return float(statistic(taken)) if len(taken) else math.nan


@dataclass(frozen=True)
class Evaluation:
    """The full model and reduced models side by side on held-out load cases.

    cases (name, loads) are those the full model completed; frames are the steps (from 0) at which surfaces were kept, shown over
    rest (vertices, 3) [m] and triangles (n, 3); length [m] is the tip's distance from the pins.
    """

    full: Record
    models: tuple[Record, ...]
    cases: tuple[tuple[str, str], ...]
    dofs: int
    dt: float
    tolerance: float
    tip: int
    length: float
    rest: np.ndarray
    triangles: np.ndarray
    frames: np.ndarray
    environment: dict[str, object] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.full.tip.shape[1]

    @property
    def times(self) -> np.ndarray:
        """The time at the end of each step (steps,) [s]."""
        return self.dt * np.arange(1, self.steps + 1)

    @cached_property
    def headline(self) -> Record:
        """The model the report is about: the first network, or else the first model."""
        return next((model for model in self.models if model.is_network), self.models[0])

    @property
    def rival(self) -> Record | None:
        """The linear subspace of the headline's dimension, if there is one."""
        same = (model for model in self.models if not model.is_network and model.r == self.headline.r and model is not self.headline)
        return next(same, None)

    def better(self) -> list[Record]:
        """The models with both a smaller mean tip error and a smaller median time of a step than the headline's."""
        head = self.headline
        return [
            model
            for model in self.models
            if model.tip_error.mean() < head.tip_error.mean() and model.milliseconds(50) < head.milliseconds(50)
        ]

    def speedup(self, model: Record) -> float:
        """Ratio of the median times of a step."""
        return self.full.milliseconds(50) / model.milliseconds(50)

    def tip_deviation(self, model: Record) -> np.ndarray:
        """|x_tip - x_tip_full| over the root mean square of |u_tip_full| of its case (cases, steps): its RMS over time is the tip error."""
        scale = np.sqrt(np.mean(np.sum(self.full.tip**2, axis=2), axis=1, keepdims=True))
        return np.linalg.norm(model.tip - self.full.tip, axis=2) / np.where(scale > 0, scale, 1.0)

    def representative(self) -> int:
        """The load case of the largest motion among the middle half by the headline model's tip error."""
        errors = self.headline.tip_error
        low, high = np.percentile(errors, [25, 75], method="nearest")
        return int(np.argmax(np.where((errors >= low) & (errors <= high), self.peak_deflection(), -1.0)))

    def worst(self) -> int:
        """The load case of the headline model's largest tip error."""
        return int(np.argmax(self.headline.tip_error))

    def peak_deflection(self) -> np.ndarray:
        """Largest displacement of the full model's tip in each case, relative to length (cases,)."""
        return np.linalg.norm(self.full.tip, axis=2).max(axis=1) / self.length

    def break_even_steps(self, offline_seconds: float) -> int | None:
        """Steps after which the headline model has earned its offline cost, by median times; None when it saves nothing a step."""
        saved = (self.full.milliseconds(50) - self.headline.milliseconds(50)) / 1e3
        return math.ceil(offline_seconds / saved) if saved > 0 else None

    @property
    def failures(self) -> Sequence[Failure]:
        return [failure for record in (self.full, *self.models) for failure in record.failures]
