"""How far a reduced model is to be trusted: an estimate of its error at every step, and whether it is where it was trained.

A step makes the residual vanish along the subspace. What is left of it across, p on the decoder's features, pushes the body out of the
subspace: with every feature free, one Newton step would go by (M^ / dt^2 + C^ / dt + K^)^-1 p. The length of that in the norm of M, averaged
over the time 1 / omega of the slowest vibration, is the state's `defect`. It reads no element that the step has not read, and costs one
product. The second sign is the distance of q from the codes of the training poses. Both are calibrated on validation rollouts,

    log(|u - u_full|_M / scale) ~ b_0 + b_1 log(defect / scale) + b_2 log(distance),

where scale is the root mean square of |u|_M over the training motions, so that an estimate of 0.02 is 2 % of a typical motion. See
`calibration` for how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hodsim.dynamics import State

LIMITS = (0.03, 0.1)  # of the bound of an error: green below the first, red above the second
SMALLEST = 1e-6  # of errors, defects and distances: what is smaller is rounding


@dataclass(frozen=True)
class Indicator:
    """codes (n, r) of training poses and the spread (r,) of their coordinates; coefficients b (3,); scale [m kg^(1/2)]; reach, the distance
    at which the training range is left; factor, by which estimates missed in calibration (root mean square of the logarithm)."""

    codes: np.ndarray
    spread: np.ndarray
    coefficients: np.ndarray
    scale: float
    reach: float
    factor: float

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Indicator:
        """From what `arrays` gave. Raises ValueError naming what is missing."""
        if missing := [f.name for f in fields(cls) if f.name not in arrays]:
            raise ValueError(f"the error indicator lacks {', '.join(missing)}; train the model again")
        values: dict[str, Any] = {f.name: arrays[f.name].item() if f.type == "float" else arrays[f.name] for f in fields(cls)}
        return cls(**values)

    def arrays(self) -> dict[str, np.ndarray]:
        """All there is to it, by name, as a model file keeps it."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}

    def distances(self, q: np.ndarray) -> np.ndarray:
        """Of latent coordinates (*B, r) to the nearest code, in units of the spread (*B,)."""
        differences = (q[..., None, :] - self.codes) / self.spread
        return np.sqrt(np.einsum("...nr,...nr->...n", differences, differences).min(axis=-1))

    def signs(self, q: np.ndarray, defect: np.ndarray) -> np.ndarray:
        """What the logarithm of the error is linear in (*B, 3)."""
        logarithms = np.log(defect / self.scale + SMALLEST), np.log(self.distances(q) + SMALLEST)
        return np.stack([np.ones_like(logarithms[0]), *logarithms], axis=-1)

    def estimates(self, q: np.ndarray, defect: np.ndarray) -> np.ndarray:
        """The error |u - u_full|_M over that of a typical motion, for latent coordinates (*B, r) and defects (*B,)."""
        return np.exp(self.signs(q, defect) @ self.coefficients)

    def estimate(self, state: State) -> float:
        """The error |u - u_full|_M over that of a typical motion."""
        return float(self.estimates(state.q, np.asarray(state.defect)))

    def bound(self, state: State) -> float:
        """What the error stays below, five times out of six: the estimate times the factor by which estimates miss."""
        return self.factor * self.estimate(state)

    def left(self, state: State) -> bool:
        """Whether the state is out of the training range."""
        return bool(self.distances(state.q) > self.reach)

    def level(self, state: State) -> int:
        """0, 1 or 2: trust it, take care, do not trust it, for the bound of its error or for being out of the training range."""
        bound = self.bound(state)
        return 2 if self.left(state) or bound > LIMITS[1] else int(bound > LIMITS[0])
