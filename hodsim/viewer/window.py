"""The window: a `Player` shown in Polyscope, with a panel of controls. The only file that imports polyscope."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

from hodsim.viewer.player import Player

BODY, EDGES = (0.16, 0.45, 0.70), (0.08, 0.2, 0.32)
LARGEST_LOAD = 1.0  # of a slider, in units of the training loads
PANEL = (330, 470)


def has_display() -> bool:
    """Whether a window can be opened: always on Windows and macOS, elsewhere where an X or Wayland display is named."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(player: Player, *, title: str, frames: int | None = None, picture: Path | None = None) -> None:
    """Run a player in a window until it is closed, or for a number of frames; then save a picture, if one is asked for.

    Without a display the frames are drawn off screen where the system's EGL allows it. Raises RuntimeError if there is no way to draw.
    """
    if not has_display():
        if frames is None:
            raise RuntimeError("there is no display to open a window on; give a number of frames to draw them off screen")
        ps.set_allow_headless_backends(True)
    ps.set_program_name(f"hodsim: {title}")
    ps.set_verbosity(0)
    ps.set_use_prefs_file(False)
    ps.set_build_gui(True)
    ps.set_build_default_gui_panels(False)
    ps.set_open_imgui_window_for_user_callback(False)
    ps.set_up_dir("z_up")
    ps.set_ground_plane_mode("shadow_only")
    ps.set_max_fps(60)
    ps.init()
    window = _Window(player, title)
    _look_at(player)
    ps.set_user_callback(window.frame)
    if frames is None:
        ps.show()
    else:
        for _ in range(frames):
            ps.frame_tick()
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        ps.screenshot(str(picture), transparent_bg=False, include_UI=True)
    ps.clear_user_callback()
    ps.remove_all_structures()


def _look_at(player: Player) -> None:
    """A view from the side and a little above, wide enough for the body to swing by its own length."""
    low, high = player.positions.min(axis=0), player.positions.max(axis=0)
    centre, size = (low + high) / 2, float(np.linalg.norm(high - low))
    ps.set_automatically_compute_scene_extents(False)
    ps.set_length_scale(size)
    ps.set_bounding_box(low - 0.4 * size, high + 0.4 * size)
    target = centre - size * np.array([0.15, 0.0, 0.15])  # the panel covers the left of the window
    ps.look_at(target + size * np.array([0.15, -1.4, 0.5]), target)


class _Window:
    """The mesh on screen and what happens in a frame."""

    def __init__(self, player: Player, title: str):
        self.player, self.title = player, title
        self.mesh = ps.register_surface_mesh("body", player.positions, player.surface, color=BODY, smooth_shade=False, material="clay")
        self.mesh.set_edge_width(0.6)
        self.mesh.set_edge_color(EDGES)
        self.clock = time.perf_counter()
        self.speed = 0.0

    def frame(self) -> None:
        """Called by Polyscope once a frame: let time pass, move the mesh, draw the panel."""
        now = time.perf_counter()
        elapsed, self.clock = now - self.clock, now
        before = self.player.state
        taken = self.player.advance(elapsed)
        # seconds simulated a second of real time, smoothed over about a second
        self.speed += min(1.0, elapsed) * (taken * self.player.dt / max(elapsed, 1e-6) - self.speed)
        self.panel()
        if self.player.state is not before:
            self.mesh.update_vertex_positions(self.player.positions)

    def panel(self) -> None:
        player = self.player
        imgui.SetNextWindowPos((16, 16), imgui.ImGuiCond_Once)
        imgui.SetNextWindowSize(PANEL, imgui.ImGuiCond_Once)
        imgui.Begin(self.title, True)
        if imgui.Button("Run" if player.paused else "Pause") and player.trouble is None:
            player.paused = not player.paused
        imgui.SameLine()
        if imgui.Button("Step") and player.trouble is None:
            player.paused = True
            player.step()
        imgui.SameLine()
        if imgui.Button("Reset"):
            player.reset()
            self.mesh.update_vertex_positions(player.positions)
        if player.trouble is not None:
            imgui.TextWrapped(f"Stopped: {player.trouble}. Take load off and reset.")
        imgui.SeparatorText("Loads")
        for name, amplitudes in player.amplitudes.items():
            labels = [f"{name} {axis}" for axis in "xyz"] if len(amplitudes) == 3 else [name]
            for i, label in enumerate(labels):
                _, amplitudes[i] = imgui.SliderFloat(label, float(amplitudes[i]), -LARGEST_LOAD, LARGEST_LOAD)
        if imgui.Button("Let go"):
            for amplitudes in player.amplitudes.values():
                amplitudes[:] = 0.0
        imgui.SeparatorText("Motion")
        for line in self.readings():
            imgui.TextUnformatted(line)
        imgui.End()

    def readings(self) -> list[str]:
        player = self.player
        model, recent = player.model, player.milliseconds
        return [
            f"{model.subspace.dim} coordinates for {model.full.n_dofs} degrees of freedom",
            f"time {player.state.time:.2f} s, {self.speed:.2f}x real time",
            f"{np.median(recent):.2f} ms a step of {1e3 * player.dt:g} ms" if recent else "no step yet",
            f"{player.state.iterations} Newton iterations",
        ]


