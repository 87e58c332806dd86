"""Where a reduced model says how far it is to be trusted."""

from __future__ import annotations

from typing import Protocol

from hodsim.dynamics import State


class Indicator(Protocol):
    """An error indicator of a reduced model."""

    def level(self, state: State) -> int:
        """0, 1 or 2: trust it, take care, do not trust it."""
        ...

    def estimate(self, state: State) -> float:
        """The error of the tip's place, over the length."""
        ...
