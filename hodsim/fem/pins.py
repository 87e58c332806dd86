"""What holds a body: masks of pinned vertices, and whether they leave it free to drift or to turn."""

from __future__ import annotations

import numpy as np

from hodsim import checks
from hodsim.mesh import TetMesh

STRAIGHT = 1e-6  # of a part's size: pins that lie so close to a line are on it, and leave the stiffness matrix singular to rounding


def pin_mask(pinned: np.ndarray | None, count: int) -> np.ndarray:
    """The mask (V,) of pinned vertices, from a mask or indices; of none where None.

    Raises ValueError for indices that are no vertices', and where nothing or everything is pinned."""
    mask = np.zeros(count, bool)
    if pinned is None:
        return mask
    pinned = np.asarray(pinned)
    if pinned.dtype == bool:
        mask |= checks.shape("pinned", pinned, (count,))
    elif pinned.size and not np.issubdtype(pinned.dtype, np.integer):
        raise ValueError(f"pinned has dtype {pinned.dtype}; expected a mask ({count},) or indices of vertices")
    else:
        outside = pinned[(pinned < 0) | (pinned >= count)]
        if outside.size:
            raise ValueError(f"pinned names vertex {outside[0]}; expected indices from 0 to {count - 1}")
        mask[pinned.astype(int)] = True
    if not mask.any():
        raise ValueError("no vertex is pinned: an unattached mesh has no equilibrium; pin some vertices, or pass pinned=None for a free body")
    if mask.all():
        raise ValueError(f"all {count} vertices are pinned; expected some that can move")
    return mask


def check_every_part_is_held(mesh: TetMesh, pinned: np.ndarray) -> None:
    """Raises ValueError when a connected part of the mesh has no pinned vertex (a mask (V,)); it names the first."""
    adrift = np.setdiff1d(mesh.components, mesh.components[pinned])
    if len(adrift):
        vertex = int(np.argmax(mesh.components == adrift[0]))
        place = ", ".join(f"{value:.4g}" for value in mesh.vertices[vertex])
        raise ValueError(
            f"{len(adrift)} of {mesh.components.max() + 1} connected parts of the mesh are pinned nowhere, the first around vertex {vertex}, "
            f"at ({place}) m: they have no equilibrium; pin them too, join them or leave them out"
        )


def check_no_rigid_motion(mesh: TetMesh, pinned: np.ndarray) -> None:
    """Raises ValueError when a connected part of the mesh can turn although its pinned vertices (a mask (V,)) do not move.

    One vertex leaves three rotations, vertices on a line the one about it. Dynamics goes on regardless, as a pendulum does, but
    there is no equilibrium under a static load. Raises it for a part that is pinned nowhere too."""
    check_every_part_is_held(mesh, pinned)
    for part in range(mesh.components.max() + 1):
        vertices = mesh.components == part
        pins = np.flatnonzero(vertices & pinned)
        motions = _rigid_motions_left(mesh.vertices[pins], float(np.ptp(mesh.vertices[vertices], axis=0).max()))
        if motions:
            place = ", ".join(f"{value:.4g}" for value in mesh.vertices[pins[:1]].ravel())
            held = f"at one vertex, at ({place}) m" if len(pins) == 1 else f"at {len(pins)} vertices on one line, through ({place}) m"
            where = "the body" if mesh.components.max() == 0 else f"part {part + 1} of {mesh.components.max() + 1} of the mesh"
            raise ValueError(
                f"{where} is pinned {held}, which leaves {motions} rigid motion{'s' * (motions > 1)} without resistance; "
                "expected pins on at least three vertices that are not on a line"
            )


def _rigid_motions_left(pins: np.ndarray, size: float) -> int:
    """Independent rigid motions that leave points (n, 3), n > 0, where they are, in a body of that size [m]."""
    extents = np.linalg.svd(pins - pins.mean(axis=0), compute_uv=False)
    return {0: 3, 1: 1}.get(int((extents > STRAIGHT * size).sum()), 0)
