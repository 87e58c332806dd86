"""A body of several materials: which of them each element is made of.

Whatever is asked of deformation gradients F (T, 3, 3), one an element, is asked of each material for those of its own elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hodsim.fem.materials import InvertedElementError, Material
from hodsim.mesh import TetMesh


@dataclass(frozen=True, eq=False)
class Composite(Material):
    """kinds (T,): for each element the index of its material among `materials`. F has a deformation gradient for each of them, in their order.

    Raises ValueError for an index that is no material's."""

    materials: tuple[Material, ...]
    kinds: np.ndarray

    def __post_init__(self):
        kinds = np.array(self.kinds)
        if kinds.ndim != 1 or not np.issubdtype(kinds.dtype, np.integer):
            raise ValueError(f"kinds have shape {kinds.shape} and dtype {kinds.dtype}; expected a whole number for each element, (T,)")
        if (outside := (kinds < 0) | (kinds >= len(self.materials))).any():
            first, count = int(outside.argmax()), len(self.materials)
            raise ValueError(f"the kind of element {first} is {kinds[first]}; expected 0 to {count - 1}, for {count} materials")
        kinds.flags.writeable = False
        object.__setattr__(self, "kinds", kinds)

    @classmethod
    def of_regions(cls, mesh: TetMesh, regions: Mapping[str, Material], *, default: Material) -> Composite:
        """The materials of regions of a mesh by name, and the one everywhere else.

        Raises ValueError for a group without tetrahedra, and for regions that share an element but not the material."""
        materials = tuple(dict.fromkeys([default, *regions.values()]))
        numbers = {name: float(materials.index(material)) for name, material in regions.items()}
        return cls(materials, mesh.per_element(numbers, default=0.0).astype(np.int64))

    def __repr__(self) -> str:  # tells it from any other, whatever numpy prints of an array
        return f"Composite({self.materials!r}, {self.kinds.tolist()})"

    @property
    def constituents(self) -> tuple[Material, ...]:
        return self.materials

    def among(self, elements: np.ndarray | slice) -> Composite:
        return Composite(self.materials, self.kinds[elements])

    def shares(self, elements: np.ndarray) -> list[tuple[Material, np.ndarray]]:
        kinds = self.kinds[elements]
        found = [(material, np.flatnonzero(kinds == kind)) for kind, material in enumerate(self.materials)]
        return [(material, positions) for material, positions in found if len(positions)]

    def energy_density(self, F: np.ndarray) -> np.ndarray:
        return self._each(F, np.empty(len(F)), lambda material, F, out: material.energy_density(F))

    def stress(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return self._each(F, np.empty(F.shape) if out is None else out, lambda material, F, out: material.stress(F, out=out))

    def stiffness(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return self._each(F, np.empty((len(F), 3, 3, 3, 3)) if out is None else out, lambda material, F, out: material.stiffness(F, out=out))

    def _each(self, F: np.ndarray, out: np.ndarray, value: Callable[[Material, np.ndarray, np.ndarray | None], np.ndarray]) -> np.ndarray:
        """What each material gives for its own elements, (T, ..); where there is only one it writes to out by itself."""
        if F.shape != (len(self.kinds), 3, 3):
            raise ValueError(f"F has shape {F.shape}; expected ({len(self.kinds)}, 3, 3), one for each element")
        shares = self.shares(np.arange(len(F)))
        for material, elements in shares:
            try:
                if len(shares) == 1:
                    return value(material, F, out)
                out[elements] = value(material, F[elements], None)
            except InvertedElementError as error:
                raise error.at(int(elements[error.element])) from None
        return out
