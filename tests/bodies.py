"""The small body of many tests, by itself: processes of a sweep that have no other use for PyTorch start in a third of the time."""

from functools import lru_cache

from hodsim.fem import FullModel, Rayleigh, StVK
from hodsim.mesh import TetMesh


@lru_cache
def small_beam(*, material=StVK(youngs_modulus=1e5, poisson_ratio=0.3), damping=Rayleigh()) -> FullModel:  # noqa: B008
    """A soft beam of 4 x 1 x 1 cells, 48 free degrees of freedom."""
    mesh = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    return FullModel(mesh, material, density=1e3, pinned=mesh.vertices[:, 0] == 0, damping=damping)
