"""What happens behind the window: a reduced model that runs in real time under loads that a person sets. Knows nothing of screens.

Time is kept by an accumulator: real seconds go in, steps of a fixed dt come out, so that the motion does not depend on the frame rate.
A machine that is too slow falls behind the clock instead of into a spiral of ever more steps a frame.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import numpy as np

from hodsim.checks import positive
from hodsim.dynamics import State
from hodsim.reduced import ReducedModel, variational_step
from hodsim.solve import ConvergenceError

LONGEST_FRAME = 0.1  # [s] of real time that one frame may ask for; what is more is dropped


class Player:
    """A reduced model at a state, with loads, paused or running.

    amplitudes: by the name of a load shape, its components (c,), to be set at will. trouble: why the motion stopped by itself, or None.
    """

    def __init__(self, model: ReducedModel, shapes: Mapping[str, np.ndarray], *, dt: float):
        self.model, self.dt = model, positive("dt", dt)
        self.amplitudes = {name: np.zeros(columns.shape[1]) for name, columns in shapes.items()}
        self._shapes = {name: model.subspace.basis.T @ columns for name, columns in shapes.items()}
        self._surface = np.unique(model.full.mesh.surface)
        self._rest = model.full.mesh.vertices[self._surface]
        self._origin, self._basis = self._surface_rows()
        self.reset()

    def reset(self) -> None:
        """Back to rest at time 0; loads stay as they are set."""
        self.state: State = self.model.state()
        self.paused, self.trouble = False, None
        self.milliseconds: deque[float] = deque(maxlen=100)
        self._owed = 0.0

    @property
    def force(self) -> np.ndarray:
        """The loads in feature space (m,)."""
        return sum((columns @ self.amplitudes[name] for name, columns in self._shapes.items()), np.zeros(self.model.subspace.width))

    def advance(self, elapsed: float) -> int:
        """Let real seconds pass; returns the number of steps taken."""
        if self.paused:
            return 0
        self._owed += min(elapsed, LONGEST_FRAME)
        deadline = time.perf_counter() + LONGEST_FRAME
        taken = 0
        while self._owed >= self.dt and not self.paused:
            if time.perf_counter() > deadline:  # slower than real time: forget the rest
                self._owed = 0.0
                break
            self._owed -= self.dt
            taken += self.step()
        return taken

    def step(self) -> bool:
        """Take one step; a step that fails pauses the motion at the last good state, the reason in `trouble`."""
        started = time.perf_counter()
        try:
            state = variational_step(self.model, self.state, self.dt, force=self.force)
        except ConvergenceError as error:
            self.paused, self.trouble = True, error.reason
            return False
        self.milliseconds.append(1e3 * (time.perf_counter() - started))
        self.state = state
        return True

    @property
    def surface(self) -> np.ndarray:
        """Triangles (S, 3) that index into `positions`."""
        return np.searchsorted(self._surface, self.model.full.mesh.surface)

    @property
    def positions(self) -> np.ndarray:
        """Where the vertices of the surface are now (n, 3) [m]."""
        features = self.model.features.value(self.state.q)
        return self._rest + (self._origin + self._basis @ features).reshape(-1, 3)

    def _surface_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Origin (3 n,) and basis (3 n, m) of the surface's coordinates, zero at pins: a frame decodes what is seen and no more."""
        full, subspace = self.model.full, self.model.subspace
        rows = np.zeros((full.mesh.vertices.size, 1 + subspace.width))
        rows[full.free] = np.column_stack([subspace.origin, subspace.basis])
        seen = rows.reshape(-1, 3, 1 + subspace.width)[self._surface].reshape(-1, 1 + subspace.width)
        return seen[:, 0].copy(), np.ascontiguousarray(seen[:, 1:])
