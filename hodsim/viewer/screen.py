"""Polyscope's beginning and end: a window or a canvas off screen, and how widgets look on it."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import os
import sys

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

SIZE, SMALLER_SIZE = (1280, 800), (1000, 720)  # the smaller one where a processor does the drawing, which is paid by the pixel
FRAMES_PER_SECOND = 60
ROOM = 512 << 20  # [B] of address space, below which Mesa may end the process when it starts


def has_display() -> bool:
    """Whether a window can be opened: always on Windows and macOS, elsewhere where an X or Wayland display is named."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def set_up(title: str, *, off_screen: bool = False) -> None:
    """Start Polyscope, with a window or without one. Raises OSError saying why it cannot draw, MemoryError."""
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
    ps.set_configure_imgui_style_callback(_style)
    ps.set_max_fps(FRAMES_PER_SECOND)
    ps.set_frame_tick_limit_fps_mode("block_to_hit_target")  # rather than return at once, which would keep a processor busy
    np.empty(ROOM, np.uint8)  # nothing touches it
    try:
        ps.init("openGL3_egl" if off_screen and sys.platform == "linux" else "auto")
    except RuntimeError as error:
        if "Out of memory" in str(error):
            raise MemoryError from error
        need = "EGL (Debian: libegl1, libgl1-mesa-dri)" if off_screen else "OpenGL 3.3 (Debian: libgl1-mesa-dri)"
        raise OSError(f"Polyscope cannot draw here ({str(error).strip()}); it needs {need}") from None
    ps.set_up_dir("z_up")
    ps.set_ground_plane_mode("none")  # its soft shadow costs more than all the rest where a processor does the drawing
    ps.set_SSAA_factor(2 if off_screen else 1)
    if not off_screen and draws_in_software():
        ps.set_window_size(*SMALLER_SIZE)


def draws_in_software() -> bool:
    """Whether a processor draws, as far as OpenGL's name of the present renderer says: Mesa's llvmpipe or softpipe, on Linux."""
    try:
        name = ctypes.CDLL("libGL.so.1").glGetString
    except OSError:  # not Linux, or OpenGL by another way
        return False
    name.restype, renderer = ctypes.c_char_p, 0x1F01
    return any(word in (name(renderer) or b"") for word in (b"llvmpipe", b"softpipe"))


def tear_down() -> None:
    """End Polyscope: nothing of it is left behind."""
    ps.clear_user_callback()
    ps.remove_all_structures()
    ps.shutdown()


def _style() -> None:
    """A light panel with room to breathe."""
    imgui.StyleColorsLight()
    look = imgui.GetStyle()
    look.WindowRounding, look.FrameRounding, look.GrabRounding = 8.0, 5.0, 5.0
    look.WindowPadding, look.FramePadding, look.ItemSpacing = (14.0, 12.0), (8.0, 4.0), (8.0, 6.0)
    look.WindowBorderSize, look.SeparatorTextBorderSize = 0.0, 1.0
