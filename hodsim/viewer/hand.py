"""The hand: from where the mouse points to where a vertex is pulled. Knows nothing of screens.

A vertex is held in the plane through it that faces the viewer; the pointer's ray meets that plane where the vertex is pulled to.
"""

from __future__ import annotations

import numpy as np

from hodsim.viewer.body import Body
from hodsim.viewer.player import STRETCH, Player


class Hand:
    """Holds at most one vertex of a player's bodies, through its first-seized body; vertices that were pinned stay in `player.pulls`."""

    def __init__(self, player: Player):
        self._player = player
        self.vertex: int | None = None
        self._body, self._point, self._normal = player.bodies[0], np.zeros(3), np.zeros(3)

    def seize(self, body: Body, place: np.ndarray, normal: np.ndarray) -> None:
        """Take hold of the free vertex of a body nearest to a place (3,) on it, seen along a normal (3,)."""
        free = np.flatnonzero(~body.full.pinned[body.vertices])
        nearest = free[np.linalg.norm(body.positions[free] - place, axis=1).argmin()]
        self.vertex = int(body.vertices[nearest])
        self._body, self._point, self._normal = body, body.place(self.vertex), np.asarray(normal, float)
        self._player.pulls[self.vertex] = self._point

    def drag(self, origin: np.ndarray, direction: np.ndarray) -> None:
        """Pull towards where a ray meets the plane, no farther from the vertex than the hand is strong."""
        towards = float(direction @ self._normal)
        if abs(towards) > 1e-6:  # else the ray runs along the plane: nowhere to pull to
            self._pull(origin + direction * (float((self._point - origin) @ self._normal) / towards))

    def push(self, direction: np.ndarray) -> None:
        """Push with all strength along a direction (3,)."""
        self._pull(self._point + direction * (1e3 * self._player.length / np.linalg.norm(direction)))

    def release(self, *, keep: bool = False) -> None:
        """Let go of the vertex; with keep it stays pinned where it is pulled to."""
        if self.vertex is not None and not keep:
            self._player.pulls.pop(self.vertex, None)
        self.vertex = None

    def _pull(self, place: np.ndarray) -> None:
        if self.vertex is None:
            return
        here, reach = self._body.place(self.vertex), STRETCH * self._player.length
        stretch = float(np.linalg.norm(place - here))
        self._player.pulls[self.vertex] = here + (place - here) * min(1.0, reach / max(stretch, 1e-12))
