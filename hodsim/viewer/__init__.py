"""The viewer: a reduced model live in a window. Importing it opens nothing."""

from hodsim.viewer.player import Player
from hodsim.viewer.window import has_display, show

__all__ = ["Player", "has_display", "show"]
