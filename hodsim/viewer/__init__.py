"""The viewer: models of an elastic body live in a window, pulled by the mouse. Importing it opens nothing."""

from hodsim.viewer.colour import FIELDS
from hodsim.viewer.film import render
from hodsim.viewer.player import Player
from hodsim.viewer.recording import SCHEMES, Recording
from hodsim.viewer.screen import has_display
from hodsim.viewer.window import show

__all__ = ["FIELDS", "SCHEMES", "Player", "Recording", "has_display", "render", "show"]
