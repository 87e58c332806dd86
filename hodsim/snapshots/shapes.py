"""Load shapes that fit a body: columns of nodal forces, scaled by what they do to its linear model, or loads on its groups in units of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from hodsim.fem import FullModel, group_force, group_traction
from hodsim.fem.pins import check_no_rigid_motion

BENDING = ("tip", "body", "twist")
LoadShapes = Mapping[str, np.ndarray]  # name -> nodal forces of unit amplitude (d, c) [N]


def bending_loads(full: FullModel, *, reach: float = 0.6, twist: float = 1.5) -> dict[str, np.ndarray]:
    """Load shapes for a body that is held at one end: `tip` (d, 3), `body` (d, 3) and `twist` (d, 1), scaled to the body itself.

    The tip is the slice of vertices farthest from the pinned ones. At amplitude one a force across the axis deflects the *linear*
    model by reach times the length, and the twist, a couple spread over the body, turns its tip by `twist` radians.
    Raises ValueError for a body that its pins leave free to turn: the linear model has no answer to a load then.
    """
    check_no_rigid_motion(full.mesh, full.pinned)
    vertices = full.mesh.vertices
    root = vertices[full.pinned].mean(axis=0)
    distance = np.linalg.norm(vertices - root, axis=1)
    axis = vertices[distance > 0.95 * distance.max()].mean(axis=0) - root
    length = float(np.linalg.norm(axis))
    axis /= length
    along = (vertices - root) @ axis
    mask = along > along.max() - 0.5 * full.mesh.edge_length

    solve = full.solver.factor(full.rest_stiffness.data).solve
    across = int(np.argmin(np.abs(axis)))  # the coordinate direction most nearly across the axis

    def scaled(fields: np.ndarray, response: Callable[[np.ndarray], float], target: float) -> np.ndarray:
        """Columns (d, c) of nodal force fields (V, 3, c), all scaled so that the response across the axis is the target."""
        columns = np.stack([full.restrict(fields[:, :, i]) for i in range(fields.shape[2])], axis=1)
        displacement = full.full_displacement(solve(columns[:, min(across, columns.shape[1] - 1)]))
        return columns * (target / response(displacement))

    def deflection(displacement: np.ndarray) -> float:
        return float(np.linalg.norm(displacement[mask].mean(axis=0)))

    arm = np.cross(axis, vertices - (root + np.outer(along, axis)))

    def rotation(displacement: np.ndarray) -> float:
        return float((arm[mask] * displacement[mask]).sum() / (arm[mask] ** 2).sum())

    everywhere = full.vertex_mass[:, None, None] * np.eye(3)
    return {
        "tip": scaled(everywhere * mask[:, None, None], deflection, reach * length),
        "body": scaled(everywhere, deflection, reach * length),
        "twist": scaled((arm * full.vertex_mass[:, None])[:, :, None], rotation, twist),
    }


def group_loads(full: FullModel, *, tractions: Mapping[str, float], forces: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Load shapes (d, 3), one column a direction, on groups of the mesh or sides by name: `traction NAME` of so many [Pa] over its area,
    `force NAME` of so many [N] in all.

    Raises ValueError for a name that the mesh does not have, and where there is nothing to load."""
    kinds = [(tractions, group_traction), (forces, group_force)]
    columns = [
        np.stack([load(full, name, size * axis) for axis in np.eye(3)], axis=1) for sizes, load in kinds for name, size in sizes.items()
    ]
    return dict(zip(group_names(tractions, forces), columns, strict=True))


def group_names(tractions: Iterable[str], forces: Iterable[str]) -> list[str]:
    """What the shapes of `group_loads` are called."""
    return [*(f"traction {name}" for name in tractions), *(f"force {name}" for name in forces)]


def load_shapes(
    full: FullModel, *, tractions: Mapping[str, float] | None = None, forces: Mapping[str, float] | None = None, **bending: float
) -> dict[str, np.ndarray]:
    """Those of `bending_loads`, which takes the rest, and of `group_loads`."""
    return bending_loads(full, **bending) | group_loads(full, tractions=tractions or {}, forces=forces or {})
