"""The plots at the upper right of the window: energy and tip error of every body, in its colour."""
# The names of polyscope.imgui and polyscope.implot are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui
import polyscope.implot as implot

from hodsim.viewer.history import SECONDS, History
from hodsim.viewer.player import Player
from hodsim.viewer.scene import COLOURS
from hodsim.viewer.theme import CLEAR, FAINT

SIZE = (270.0, 104.0)


class Plots:
    """Draws a history; `act` once a frame."""

    def __init__(self, player: Player, history: History):
        self._player, self._history = player, history
        self._highest: dict[str, float] = {}  # value so far, by title

    def act(self) -> None:
        width, _ = ps.get_window_size()
        imgui.SetNextWindowPos((width - 16, 16), imgui.ImGuiCond_Always, (1.0, 0.0))
        imgui.PushStyleColor(imgui.ImGuiCol_WindowBg, CLEAR)
        frame = imgui.ImGuiWindowFlags_NoDecoration | imgui.ImGuiWindowFlags_AlwaysAutoResize | imgui.ImGuiWindowFlags_NoMove
        imgui.Begin("plots", frame | imgui.ImGuiWindowFlags_NoFocusOnAppearing | imgui.ImGuiWindowFlags_NoBringToFrontOnFocus)
        times = self._history.times
        if self._player.truth is not None:
            self._plot("tip error, % of length", times, 100 * self._history.errors)
            imgui.SameLine()
        self._plot("energy, J", times, self._history.energies)
        imgui.End()
        imgui.PopStyleColor()

    def _plot(self, title: str, times: np.ndarray, values: np.ndarray) -> None:
        """values (n, bodies) over times (n,) [s]."""
        imgui.BeginGroup()
        imgui.TextColored(FAINT, title)
        plain = implot.ImPlotAxisFlags_NoMenus | implot.ImPlotAxisFlags_NoHighlight
        fixed = implot.ImPlotFlags_CanvasOnly | implot.ImPlotFlags_NoInputs | implot.ImPlotFlags_NoFrame
        colours = {implot.ImPlotCol_PlotBg: CLEAR, implot.ImPlotCol_PlotBorder: CLEAR, implot.ImPlotCol_AxisText: FAINT}
        for which, colour in colours.items():
            implot.PushStyleColor(which, colour)
        implot.PushStyleVar(implot.ImPlotStyleVar_PlotPadding, (2.0, 4.0))
        if implot.BeginPlot(f"##{title}", SIZE, fixed):
            end = max(SECONDS, times[-1]) if len(times) else SECONDS
            implot.SetupAxis(implot.ImAxis_X1, "", plain | implot.ImPlotAxisFlags_NoTickLabels | implot.ImPlotAxisFlags_NoTickMarks)
            implot.SetupAxis(implot.ImAxis_Y1, "", plain | implot.ImPlotAxisFlags_NoTickMarks)
            implot.SetupAxisLimits(implot.ImAxis_X1, end - SECONDS, end, implot.ImPlotCond_Always)
            implot.SetupAxisLimits(implot.ImAxis_Y1, 0.0, self._top(title, values), implot.ImPlotCond_Always)
            for body, colour, column in reversed(list(zip(self._player.bodies, COLOURS, values.T, strict=False))):  # the first on top
                implot.SetNextLineStyle((*colour, 1.0), 1.6)
                implot.PlotLine(body.name, np.ascontiguousarray(times), np.ascontiguousarray(column))
            implot.EndPlot()
        implot.PopStyleVar()
        implot.PopStyleColor(len(colours))
        imgui.EndGroup()

    def _top(self, title: str, values: np.ndarray) -> float:
        """The top of an axis for values, of which some may be NaN. A body come to rest is not looked at through a microscope."""
        most = float(values[np.isfinite(values)].max(initial=0.0))
        highest = self._highest[title] = max(most, self._highest.get(title, 0.0))
        return rounded_up(max(most, 0.02 * highest)) if highest > 0 else 1.0


def rounded_up(value: float) -> float:
    """The first of 1, 2, 5, 10, .. times a power of ten above a positive value, so that an axis rests while what it shows moves."""
    decade = 10.0 ** np.floor(np.log10(value))
    return float(next(k * decade for k in (1, 2, 5, 10, 20) if k * decade > value))
