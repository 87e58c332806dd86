"""The window: a `Player` live in Polyscope, with the mouse as a hand."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import sys
import time

import polyscope as ps
import polyscope.imgui as imgui

from hodsim.viewer import panel
from hodsim.viewer.hand import Hand
from hodsim.viewer.panel import Panel
from hodsim.viewer.player import Player
from hodsim.viewer.scene import Scene

SIZE = (1280, 800)
FRAMES_PER_SECOND = 60


def has_display() -> bool:
    """Whether a window can be opened: always on Windows and macOS, elsewhere where an X or Wayland display is named."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def set_up(title: str, *, off_screen: bool = False) -> None:
    """Start Polyscope, with a window or without one. Raises OSError saying why it cannot draw."""
    if not off_screen and not has_display():
        raise OSError("there is no display to open a window on; draw off screen, to a file")
    ps.set_program_name(f"hodsim: {title}")
    ps.set_verbosity(0)
    ps.set_use_prefs_file(False)
    ps.set_errors_throw_exceptions(True)
    ps.set_display_message_popups(False)
    ps.set_window_size(*SIZE)
    ps.set_build_default_gui_panels(False)
    ps.set_open_imgui_window_for_user_callback(False)
    ps.set_configure_imgui_style_callback(panel.style)
    ps.set_max_fps(FRAMES_PER_SECOND)
    ps.set_frame_tick_limit_fps_mode("block_to_hit_target")  # rather than return at once, which would keep a processor busy
    try:
        ps.init("openGL3_egl" if off_screen and sys.platform == "linux" else "auto")
    except RuntimeError as error:
        need = "EGL (Debian: libegl1, libgl1-mesa-dri)" if off_screen else "OpenGL 3.3 (Debian: libgl1-mesa-dri)"
        raise OSError(f"Polyscope cannot draw here ({str(error).strip()}); it needs {need}") from None
    ps.set_up_dir("z_up")
    ps.set_ground_plane_mode("none")  # its soft shadow costs more than all the rest where a processor does the drawing
    ps.set_SSAA_factor(2 if off_screen else 1)


def show(player: Player, *, title: str, frames: int | None = None) -> None:
    """Run a player in a window until it is closed, or for a number of frames. Raises OSError where no window can be opened."""
    set_up(title)
    window = Window(player, title)
    ps.set_user_callback(window.frame)
    left = frames
    while not ps.window_requests_close() and left != 0:
        ps.frame_tick()
        left = None if left is None else left - 1
    tear_down()


def tear_down() -> None:
    """End Polyscope: nothing of it is left behind."""
    ps.clear_user_callback()
    ps.remove_all_structures()
    ps.shutdown()


class Window:
    """The scene, the panel and the mouse; what happens in a frame."""

    def __init__(self, player: Player, title: str):
        self.player, self.scene, self.hand = player, Scene(player), Hand(player)
        self.panel = Panel(player, self.scene, title)
        self._held = 0  # number of the body that the hand holds
        self._clock = time.perf_counter()

    def frame(self) -> None:
        """Called by Polyscope once a frame: feel the mouse, let time pass, draw."""
        now = time.perf_counter()
        elapsed, self._clock = now - self._clock, now
        self._feel()
        taken = self.player.advance(elapsed)
        self.panel.observe(elapsed, taken * self.player.dt)
        self.panel.act()
        self._read_keys()
        self.scene.update()

    def _feel(self) -> None:
        """The mouse, or the key F: take hold, pull or push, let go."""
        io = imgui.GetIO()
        pulling, pushing = imgui.IsMouseDown(0), imgui.IsKeyDown(imgui.ImGuiKey_F)
        if self.hand.vertex is None:
            if not io.WantCaptureMouse and (imgui.IsMouseClicked(0) or imgui.IsKeyPressed(imgui.ImGuiKey_F, False)):
                self._seize(io.MousePos)
        elif pulling:
            camera = ps.get_view_camera_parameters()
            self.hand.drag(camera.get_position() - self.scene.offset(self._held), ps.screen_coords_to_world_ray(io.MousePos))
        elif pushing:
            self.hand.push(ps.screen_coords_to_world_ray(io.MousePos))
        else:
            self.hand.release(keep=io.KeyShift)
            ps.set_do_default_mouse_interaction(True)

    def _seize(self, pointer: tuple[float, float]) -> None:
        """Take hold of what is under the pointer, if it is a body; the camera stays still meanwhile."""
        hit = ps.pick(screen_coords=pointer)
        number = self.scene.number(hit.structure_name) if hit.is_hit else None
        if number is None:
            return
        self._held = number
        normal = ps.get_view_camera_parameters().get_look_dir()
        self.hand.seize(self.player.bodies[number], hit.position - self.scene.offset(number), normal)
        ps.set_do_default_mouse_interaction(False)

    def _read_keys(self) -> None:
        """Space pauses, S steps, R resets."""
        if imgui.GetIO().WantTextInput:
            return
        if imgui.IsKeyPressed(imgui.ImGuiKey_Space, False):
            self.player.toggle()
        if imgui.IsKeyPressed(imgui.ImGuiKey_S, False):
            self.player.single_step()
        if imgui.IsKeyPressed(imgui.ImGuiKey_R, False):
            self.player.start_over()
