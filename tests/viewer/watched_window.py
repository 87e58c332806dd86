"""`hodsim` in a process of its own whose window tells, as a line of JSON a frame, what a test wants to know."""

import json
import sys

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

from hodsim.apps.cli import main
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


class Watched(window.Window):
    def frame(self):
        super().frame()
        player, body = self.player, self.player.bodies[0]
        tip = body.place(player.tip)
        inside = 0.9 * tip + 0.1 * body.positions.mean(axis=0)  # seen from anywhere, near the tip
        report = {
            "time": player.time, "paused": player.paused, "trouble": player.trouble, "tip": tip.tolist(), "on_screen": on_screen(inside),
            "held": self.hand.vertex, "pulls": len(player.pulls), "frames_per_second": self.panel.frames, "places": places,
            "loads": {name: amplitudes.tolist() for name, amplitudes in player.amplitudes.items()},
        }  # fmt: skip
        print(json.dumps(report), flush=True)


imgui.Button, imgui.SliderFloat3 = watched(imgui.Button), watched(imgui.SliderFloat3)
window.Window = Watched
sys.argv[0] = "hodsim"
main()
