"""Colours of the widgets, in one place."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import polyscope.imgui as imgui

PAPER, CLEAR = (1.0, 1.0, 1.0, 0.93), (1.0, 1.0, 1.0, 0.0)
INK, FAINT, ACCENT, WARNING = (0.16, 0.19, 0.24, 1.0), (0.45, 0.49, 0.55, 1.0), (0.16, 0.47, 0.73, 1.0), (0.75, 0.15, 0.05, 1.0)
PALE, HOVERED, GRAB = (0.90, 0.92, 0.95, 1.0), (0.76, 0.85, 0.94, 1.0), (0.58, 0.75, 0.90, 1.0)
LIGHTS = ((0.18, 0.65, 0.33, 1.0), (0.95, 0.66, 0.10, 1.0), (0.85, 0.20, 0.15, 1.0))  # green, amber, red


@contextmanager
def light() -> Iterator[None]:
    """Dark ink on white paper."""
    colours = {
        imgui.ImGuiCol_WindowBg: PAPER, imgui.ImGuiCol_Text: INK,
        imgui.ImGuiCol_SliderGrab: GRAB, imgui.ImGuiCol_SliderGrabActive: GRAB, imgui.ImGuiCol_CheckMark: ACCENT,
        imgui.ImGuiCol_TitleBg: PAPER, imgui.ImGuiCol_TitleBgActive: PAPER, imgui.ImGuiCol_FrameBg: PALE,
        imgui.ImGuiCol_Button: (0.86, 0.90, 0.95, 1.0), imgui.ImGuiCol_ButtonHovered: HOVERED, imgui.ImGuiCol_PlotHistogram: HOVERED,
        imgui.ImGuiCol_ButtonActive: GRAB, imgui.ImGuiCol_HeaderActive: HOVERED, imgui.ImGuiCol_FrameBgHovered: HOVERED,
        imgui.ImGuiCol_FrameBgActive: HOVERED,
        imgui.ImGuiCol_Header: (0.93, 0.95, 0.98, 1.0), imgui.ImGuiCol_HeaderHovered: (0.86, 0.90, 0.95, 1.0),
    }  # fmt: skip
    for which, colour in colours.items():
        imgui.PushStyleColor(which, colour)
    yield
    imgui.PopStyleColor(len(colours))
