"""A dial for a load: drag its knob to where the load is to pull, as seen on the screen; the farther out, the stronger."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

from hodsim.viewer.theme import ACCENT, FAINT, PALE

RADIUS = 34.0  # [pixels]


def dial(label: str, load: np.ndarray, largest: float) -> None:
    """Draw the dial of a load (3,) and change the load as it is turned: in the plane of the screen, its length at most the largest."""
    camera = ps.get_view_camera_parameters()
    axes = np.array([camera.get_right_dir(), camera.get_up_dir()])  # (2, 3)
    corner = np.array(imgui.GetCursorScreenPos())
    centre = corner + RADIUS
    imgui.InvisibleButton(label, (2 * RADIUS, 2 * RADIUS))
    held = imgui.IsItemActive()
    if held:
        load[:] = turned(np.array(imgui.GetIO().MousePos) - centre, axes, largest)
    tip = centre + RADIUS * np.array([1, -1]) * (axes @ load) / largest
    draw = imgui.GetWindowDrawList()
    paper, faint, ink = (imgui.GetColorU32(colour) for colour in (PALE, FAINT, ACCENT))
    draw.AddCircleFilled(tuple(centre), RADIUS, paper, 48)
    draw.AddCircleFilled(tuple(centre), 2.0, faint)
    draw.AddLine(tuple(centre), tuple(tip), ink, 2.5)
    draw.AddCircleFilled(tuple(tip), 7.0 if held or imgui.IsItemHovered() else 5.5, ink)


def turned(offset: np.ndarray, axes: np.ndarray, largest: float) -> np.ndarray:
    """The load (3,) of a knob that is offset (2,) [pixels], right and down, from the middle, for the screen's axes (2, 3), right and up."""
    out = np.array([1, -1]) * offset / RADIUS
    return largest * out / max(1.0, float(np.linalg.norm(out))) @ axes
