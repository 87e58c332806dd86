"""What is seen: the bodies of a player, their pins and pulls as Polyscope structures, updated in place, and the light they stand in."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
import polyscope as ps
from PIL import Image

from hodsim.dynamics import State
from hodsim.storage import write_atomically
from hodsim.viewer.body import Body
from hodsim.viewer.colour import FIELDS
from hodsim.viewer.player import Player

HAND, WALL, SHADOW = (0.84, 0.37, 0.0), (0.30, 0.33, 0.38), (0.93, 0.935, 0.945)
COLOURS = ((0.16, 0.47, 0.73), (0.87, 0.49, 0.16), (0.17, 0.62, 0.50), (0.75, 0.47, 0.64), (0.45, 0.50, 0.57))
EDGES = 0.7  # width of the lines between triangles [pixels]; half of it off screen, where it is drawn twice as large
BOX = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])  # faces of a box, corners in binary


class Scene:
    """Draws the bodies of a player, one behind the other or through one another.

    panel: whether the left of the window is covered by one."""

    def __init__(self, player: Player, *, panel: bool = True):
        self.player, self._panel = player, panel
        self.apart = len(player.bodies) > 1
        self.field = "none"
        self._floor = float(player.full.mesh.vertices[:, 2].min()) - 0.6 * player.length
        self._shadows = [self._shadow(number, body) for number, body in enumerate(player.bodies)]
        self._edges = EDGES if panel else EDGES / 2
        self._meshes = [body_mesh(b.name, b.positions, b.triangles, colour) for b, colour in zip(player.bodies, COLOURS, strict=False)]
        self._walls: list[ps.Structure] = []
        self._shown: tuple | None = None
        self._states: list[State] = []  # as shown; held, for the identity of an object that is gone may be given to its successor
        self._pulled: dict[str, int] = {}  # vertices pulled now, by the name of their lines
        self._pins()
        self.arrange()
        self.look()

    def _shadow(self, number: int, body: Body) -> ps.SurfaceMesh:
        """The body pressed flat onto the floor: the shadow of light from straight above, at the price of one more flat mesh."""
        positions = body.positions
        positions[:, 2] = self._floor
        mesh = ps.register_surface_mesh(f"shadow {number}", positions, body.triangles, color=SHADOW, material="flat")
        mesh.set_back_face_policy("identical")
        return mesh

    def _pins(self) -> None:
        """A plate behind the pinned vertices where they lie in a plane x, y or z = constant, else a dot at each."""
        full = self.player.full
        pinned, edge = full.mesh.vertices[full.pinned], full.mesh.edge_length
        low, high = pinned.min(axis=0), pinned.max(axis=0)
        flat = int((high - low).argmin())
        for number in range(len(self.player.bodies)):
            if high[flat] - low[flat] > 1e-3 * edge:
                dots = ps.register_point_cloud(f"pins {number}", pinned, color=WALL, material="clay")
                dots.set_radius(0.12 * edge, relative=False)
                self._walls.append(dots)
                continue
            side = np.sign(low[flat] - full.mesh.vertices[:, flat].mean())
            margin = 0.22 * float((high - low).max())
            corners = np.stack([low - margin, high + margin])
            corners[:, flat] = low[flat] + side * margin * np.array([0.03, 0.8])
            vertices = np.array(list(product(*corners.T)))
            plate = ps.register_surface_mesh(f"pins {number}", vertices, BOX, color=WALL, material="clay")
            plate.set_back_face_policy("identical")
            self._walls.append(plate)

    def offset(self, number: int) -> np.ndarray:
        """Where body number stands beside the first (3,) [m]."""
        vertices = self.player.full.mesh.vertices
        return np.array([0.0, self.apart * number * (1.0 * np.ptp(vertices[:, 1]) + 0.25 * self.player.length), 0.0])

    def arrange(self) -> None:
        """Put the bodies side by side, or one through the other: then all but the first are glass."""
        for number, mesh in enumerate(self._meshes):
            mesh.set_position(self.offset(number))
            self._shadows[number].set_position(self.offset(number))
            self._walls[number].set_position(self.offset(number))
            mesh.set_transparency(1.0 if self.apart or number == 0 else 0.45)
        overlaid = len(self._meshes) > 1 and not self.apart
        ps.set_transparency_mode("pretty" if overlaid else "none")

    def look(self) -> None:
        vertices, last = self.player.full.mesh.vertices, self.offset(len(self._meshes) - 1)
        look_at(vertices.min(axis=0), vertices.max(axis=0) + last, panel=self._panel)

    def number(self, name: str) -> int | None:
        """The number of the body of a name."""
        return next((number for number, body in enumerate(self.player.bodies) if body.name == name), None)

    def update(self) -> None:
        """Move everything to where it is now. Where nothing has moved, Polyscope shows again what it has drawn."""
        now, states = (self.player.inputs.pulls, self.field, self.apart), [body.state for body in self.player.bodies]
        if now == self._shown and all(state is before for state, before in zip(states, self._states, strict=True)):
            return
        self._shown, self._states = now, states
        for body, mesh, shadow in zip(self.player.bodies, self._meshes, self._shadows, strict=True):
            positions = body.positions
            mesh.update_vertex_positions(positions)
            positions[:, 2] = self._floor
            shadow.update_vertex_positions(positions)
        self.paint()
        self._draw_pulls()

    def paint(self) -> None:
        """Colour the bodies by the chosen field."""
        for mesh in self._meshes:
            mesh.set_edge_width(self._edges if self.field == "none" else 0.0)
        if self.field == "none":
            return
        for body, mesh in zip(self.player.bodies, self._meshes, strict=True):
            shown = FIELDS[self.field]
            high = shown.scale(self.player)
            mesh.add_scalar_quantity(self.field, shown.values(self.player, body), enabled=True, cmap="viridis", vminmax=(0.0, high))

    def unpaint(self) -> None:
        for mesh in self._meshes:
            mesh.remove_all_quantities()

    def image(self) -> np.ndarray:
        """What is seen, without the panel, RGB (height, width, 3)."""
        return np.ascontiguousarray(ps.screenshot_to_buffer(transparent_bg=False)[..., :3])

    def save_picture(self, path: Path) -> Path:
        """Write what is seen as PNG. Raises OSError naming the path."""
        file = io.BytesIO()
        Image.fromarray(self.image()).save(file, "PNG", optimize=True)
        return write_atomically(path, file.getvalue())

    def _draw_pulls(self) -> None:
        """A line from each pulled vertex to where it is pulled, on every body."""
        pulls = self.player.pulls
        for number, body in enumerate(self.player.bodies):
            name = f"pulls {number}"
            if not pulls:
                ps.remove_curve_network(name, error_if_absent=False)
                self._pulled.pop(name, None)
                continue
            ends = [body.place(vertex) for vertex in pulls]
            nodes = np.stack([ends, list(pulls.values())], axis=1).reshape(-1, 3) + self.offset(number)
            if self._pulled.get(name) == len(pulls):
                ps.get_curve_network(name).update_node_positions(nodes)
                continue
            lines = ps.register_curve_network(name, nodes, "segments", color=HAND, material="flat")
            lines.set_radius(0.006 * self.player.length, relative=False)
            self._pulled[name] = len(pulls)


def look_at(low: np.ndarray, high: np.ndarray, *, panel: bool) -> None:
    """A view of a box from the side and a little above, wide enough for a body to swing by its own length; right of a panel, if there is one."""
    centre, size = (low + high) / 2, float(np.linalg.norm(high - low))
    ps.set_automatically_compute_scene_extents(False)
    ps.set_length_scale(size)
    ps.set_bounding_box(low - 0.45 * size, high + 0.45 * size)
    target = centre - size * np.array([0.28 if panel else 0.0, 0.0, 0.02])
    ps.look_at(target + size * np.array([0.34, -1.65, 0.5]), target)


def body_mesh(name: str, positions: np.ndarray, triangles: np.ndarray, colour: tuple[float, float, float]) -> ps.SurfaceMesh:
    """A body in its colour, the lines between its triangles a little darker."""
    mesh = ps.register_surface_mesh(name, positions, triangles, color=colour, smooth_shade=False, material="clay")
    mesh.set_edge_width(EDGES)
    mesh.set_edge_color(tuple(0.55 * np.array(colour)))
    return mesh
