"""The window: a `Player` live in Polyscope, with the mouse as a hand."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import polyscope as ps
import polyscope.imgui as imgui

from hodsim.mesh import TetMesh
from hodsim.viewer.hand import Hand
from hodsim.viewer.panel import Panel
from hodsim.viewer.player import Player
from hodsim.viewer.scene import COLOURS, Scene, body_mesh, look_at
from hodsim.viewer.screen import set_up, tear_down
from hodsim.viewer.theme import light

BREATH = 0.05  # [s] between two frames while something else is to go on: a frame holds Python's lock


def show(make: Callable[[], Player], mesh: TetMesh, *, title: str, frames: int | None = None, field: str = "none") -> None:
    """Run a player in a window until it is closed, or for a number of frames, coloured by a key of `FIELDS`.

    The window opens with the mesh at rest while make returns the player; on a machine where hodsim runs for the first time, that takes
    some seconds. Raises OSError where no window can be opened."""
    set_up(title)
    try:
        player = _made(make, mesh)
        window = Window(player, title)
        window.scene.field = field
        ps.set_user_callback(window.frame)
        left = frames
        try:
            while not ps.window_requests_close() and left != 0:
                ps.frame_tick()
                left = None if left is None else left - 1
        finally:
            window.close()
    finally:
        tear_down()


def _made(make: Callable[[], Player], mesh: TetMesh) -> Player:
    """What make returns, made by another thread while the window stays awake."""
    body_mesh("at rest", mesh.vertices, mesh.surface, COLOURS[0])
    look_at(mesh.vertices.min(axis=0), mesh.vertices.max(axis=0), panel=True)
    ps.set_user_callback(_wait)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(make)
        while not future.done():
            ps.frame_tick()
            wait([future], timeout=BREATH)
    ps.remove_all_structures()
    return future.result()


def _wait() -> None:
    with light():
        imgui.SetNextWindowPos((16, 16))
        imgui.Begin("Getting ready. The first time on a machine, this takes a few seconds.", imgui.ImGuiWindowFlags_AlwaysAutoResize)
        imgui.End()


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
        if self.panel.film is not None:
            self.panel.film.take(self.player.time, self.scene.image)

    def close(self) -> None:
        """Let a film that is being recorded be finished, and end what goes on at the side."""
        self.player.close()
        if self.panel.film is not None:
            self.panel.film.finish()
            self.panel.film.wait()

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
