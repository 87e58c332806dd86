"""`hodsim` in a process of its own whose window tells, as a line of JSON a frame, what a test wants to know, and does two things for it:
its first body has a stand-in for an error indicator, and while there is a file `broken` in the working directory, no step succeeds."""

import json
import sys
from pathlib import Path

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

from hodsim.apps import main
from hodsim.viewer import window

places: dict[str, list[float]] = {}  # label of a widget -> its rectangle in the window


def watched(draw):
    def drawn(label, *arguments):
        result = draw(label, *arguments)
        places[label] = [*imgui.GetItemRectMin(), *imgui.GetItemRectMax()]
        return result

    return drawn


def on_screen(point: np.ndarray) -> list[float]:
    """Where a point in space is in the window."""
    camera = ps.get_view_camera_parameters()
    x, y, z, _ = camera.get_view_mat() @ [*point, 1.0]
    width, height = ps.get_window_size()
    scale = height / 2 / np.tan(np.radians(camera.get_fov_vertical_deg()) / 2)
    return [width / 2 + scale * x / -z, height / 2 - scale * y / -z]


class StandIn:
    """Trusts a body less the farther its tip hangs down."""

    def __init__(self, player):
        self._player = player

    def estimate(self, state):
        player = self._player
        return float(player.full.mesh.vertices[player.tip, 2] - player.bodies[0].place(player.tip)[2]) / player.length

    def level(self, state):
        return int(np.digitize(self.estimate(state), [0.005, 0.02]))


class Watched(window.Window):
    def __init__(self, player, title):
        super().__init__(player, title)
        player.bodies[0].model.indicator = StandIn(player)

    def frame(self):
        player, io = self.player, imgui.GetIO()
        if Path("broken").exists():
            player.amplitudes["tip"][:] = np.nan
        super().frame()
        body, tip = player.bodies[0], player.bodies[0].place(player.tip)
        inside = 0.9 * tip + 0.1 * body.positions.mean(axis=0)  # seen from anywhere, near the tip
        report = {
            "time": player.time, "paused": player.paused, "trouble": player.trouble, "tip": tip.tolist(), "places": places,
            "on_screen": on_screen(inside), "middle": on_screen(body.positions.mean(axis=0)),
            "held": self.hand.vertex, "pulls": sorted(player.pulls), "frames_per_second": self.panel.frames,
            "loads": {name: amplitudes.tolist() for name, amplitudes in player.amplitudes.items()},
            "field": self.scene.field, "pose": None if player.pose is None else player.pose.tolist(),
            "damping": player.damping.mass, "scheme": player.scheme, "trust": body.trust, "compiling": player.compilation is not None,
            "replaying": player.replaying is not None, "ahead": ps.get_view_camera_parameters().get_look_dir().tolist(),
            "mouse": list(io.MousePos), "down": imgui.IsMouseDown(0), "shift": io.KeyShift, "F": imgui.IsKeyDown(imgui.ImGuiKey_F),
        }  # fmt: skip
        print(json.dumps(report), flush=True)


for widget in ("Button", "InvisibleButton", "CollapsingHeader", "Combo", "Selectable", "Checkbox", "SliderFloat", "SliderFloat3"):
    setattr(imgui, widget, watched(getattr(imgui, widget)))
window.Window = Watched
sys.argv[0] = "hodsim"
main()
