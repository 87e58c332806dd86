"""What the plots show: energy and tip error of every body over the last seconds of simulated time. Knows nothing of screens."""

from __future__ import annotations

from collections import deque

import numpy as np

from hodsim.viewer.player import Player

SECONDS, SAMPLES = 8.0, 240  # of simulated time that are kept, and values in them


class History:
    """Times (n,) [s], energies (n, bodies) [J] and tip errors (n, bodies), over the length, NaN without a full model to compare with."""

    def __init__(self, player: Player):
        self._player = player
        self._rows: deque[np.ndarray] = deque(maxlen=SAMPLES)

    def note(self) -> None:
        """Take the present values, if enough time has gone by since the last ones; a reset begins anew."""
        player = self._player
        if self._rows and player.time < self._rows[-1][0]:
            self._rows.clear()
        if not self._rows or player.time - self._rows[-1][0] >= SECONDS / SAMPLES:
            energies, errors = [body.energy for body in player.bodies], [player.error(body) for body in player.bodies]
            self._rows.append(np.array([player.time, *energies, *errors]))

    @property
    def times(self) -> np.ndarray:
        return self._columns[:, 0]

    @property
    def energies(self) -> np.ndarray:
        return self._columns[:, 1 : 1 + len(self._player.bodies)]

    @property
    def errors(self) -> np.ndarray:
        return self._columns[:, 1 + len(self._player.bodies) :]

    @property
    def _columns(self) -> np.ndarray:
        return np.array(self._rows).reshape(len(self._rows), 1 + 2 * len(self._player.bodies))
