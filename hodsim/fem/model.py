"""The full-order model: M u'' + C u' + f_int(u) = f_ext for the displacements u (d,) of the free vertices of a mesh.

C = c_M M + c_K K(0) is Rayleigh damping: linear, so that its tangent is exact, and dissipative. Stiffness, mass and damping share one
sparsity pattern; the tangent of a time step, K(u) + s1 C + s2 M, is a sum of data arrays and is factorised directly.
"""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, kron
from scipy.sparse.linalg import LinearOperator, cg

from hodsim import checks
from hodsim.dynamics import State
from hodsim.fem.composite import Composite
from hodsim.fem.elements import Elements, scalar_mass
from hodsim.fem.materials import InvertedElementError, Material
from hodsim.fem.pins import check_every_part_is_held, pin_mask
from hodsim.mesh import TetMesh
from hodsim.solve import Factorisation
from hodsim.solve.sparse import linear_solver

NEWTON_TOLERANCE = 1e-3  # of an iterative solver: a Newton correction gains about as many digits by itself


@dataclass(frozen=True)
class Rayleigh:
    """Damping C = mass M + stiffness K(0): mass [1/s] damps slow motion and falling, stiffness [s] damps fast vibration."""

    mass: float = 0.0
    stiffness: float = 0.0

    def __post_init__(self):
        checks.nonnegative("Rayleigh mass coefficient", self.mass)
        checks.nonnegative("Rayleigh stiffness coefficient", self.stiffness)

    def __bool__(self) -> bool:
        return self.mass > 0 or self.stiffness > 0


class FullModel:
    """An elastic body whose pinned vertices do not move.

    material: one for all elements, or a `Composite`; density [kg/m^3], a number or one of each element (T,), which `mesh.per_element` makes
    from the mesh's groups. pinned: mask (V,) or indices of vertices, or None for a free body; lumped: a diagonal mass matrix in place of the
    consistent one. Displacements, velocities and forces are flat (d,): x, y, z of each free vertex in the order of the mesh.

    Attributes: mesh, material, density, damping, lumped; pinned, a mask (V,); free, the d free ones of the 3 V coordinates; n_dofs;
    vertex_mass (V,) [kg]; rounding_force, the norm [N] below which a residual is rounding;
    pattern, mass, rest_stiffness and damping_matrix (or None), csr (d, d); solver, for matrices on pattern.

    An inadmissible deformation (an inverted element of a neo-Hookean body) has infinite energy, and an infinite internal force: a solver
    backs off from it. Raises ValueError when nothing is pinned."""

    def __init__(
        self,
        mesh: TetMesh,
        material: Material,
        *,
        density: float | np.ndarray,
        pinned: np.ndarray | None,
        damping: Rayleigh = Rayleigh(),
        lumped: bool = False,
    ):
        self.mesh, self.material, self.damping, self.lumped = mesh, material, damping, lumped
        count = len(mesh.tetrahedra)
        self.density = _positive_each("density", density, count) if isinstance(density, np.ndarray) else checks.positive("density", density)
        if isinstance(material, Composite):
            checks.shape("kinds of the materials", material.kinds, (count,))
        self.pinned = pin_mask(pinned, len(mesh.vertices))
        if pinned is not None:
            check_every_part_is_held(mesh, self.pinned)
        self._free_vertices = np.flatnonzero(~self.pinned)
        self.free = (3 * self._free_vertices[:, None] + np.arange(3)).ravel()
        self.n_dofs = len(self.free)
        self._build_elements()
        self._build_matrices()
        self.solver = linear_solver(self.pattern, order=self._along_the_body(), near_kernel=self._rigid_motions())

    def _build_elements(self) -> None:
        """Elements in a numbering with the free vertices first: u is then the head of a displacement field, f the head of a force field."""
        order = np.concatenate([self._free_vertices, np.flatnonzero(self.pinned)])
        number = np.argsort(order)
        tetrahedra = number[self.mesh.tetrahedra]
        self.elements = Elements(self.mesh.vertices[order], tetrahedra, len(self._free_vertices))
        self._field, self._force = np.zeros(self.mesh.vertices.shape), np.empty(self.mesh.vertices.shape)
        self._u, self._f = self._field.reshape(-1)[: self.n_dofs], self._force.reshape(-1)[: self.n_dofs]
        self.pattern = self.elements.pattern
        self._tangent_data = np.empty((2, self.pattern.nnz))

    def _build_matrices(self) -> None:
        scalar = scalar_mass(self.mesh.tetrahedra, self.density * self.mesh.volumes, len(self.mesh.vertices), lumped=self.lumped)
        self.vertex_mass = np.asarray(scalar.sum(axis=1)).ravel()
        self.mass = kron(scalar[self._free_vertices][:, self._free_vertices], np.eye(3), "csr")
        self.mass.eliminate_zeros()
        self._mass_data = _data_on(self.pattern, self.mass)
        self._build_damping()

    @cached_property
    def rest_stiffness(self) -> csr_matrix:
        """K(0) (d, d) [N/m]; when it is asked for, as it takes the elements' compiled functions."""
        return self.stiffness(np.zeros(self.n_dofs))

    @property
    def rounding_force(self) -> float:
        return self._rounding_force

    @cached_property
    def _rounding_force(self) -> float:
        """That of the forces of displacements in the last digits of an edge."""
        return 16 * np.finfo(float).eps * float(np.linalg.norm(self.rest_stiffness.data)) * self.mesh.edge_length

    def _build_damping(self) -> None:
        self.damping_matrix = None
        if self.damping:
            self._damping_data = self.damping.mass * self._mass_data + self.damping.stiffness * self.rest_stiffness.data
            self.damping_matrix = self._matrix(self._damping_data)

    def with_damping(self, damping: Rayleigh) -> FullModel:
        """The same body with another damping; all else, the buffers too, is shared."""
        other = copy(self)
        other.damping = damping
        other._build_damping()
        return other

    def _along_the_body(self) -> np.ndarray:
        """The degrees of freedom (d,) from one end of the body to the other: slice by slice, the band of a slender body is narrow."""
        centred = self.mesh.vertices[self._free_vertices] - self.mesh.vertices.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return (3 * np.argsort(centred @ axes[0], kind="stable")[:, None] + np.arange(3)).ravel()

    def _rigid_motions(self) -> np.ndarray:
        """Three translations and three infinitesimal rotations of the free vertices, (d, 6), of similar size."""
        x = self.mesh.vertices[self._free_vertices]
        x = (x - x.mean(axis=0)) / np.ptp(self.mesh.vertices, axis=0).max()
        rotations = [np.cross(axis, x).ravel() for axis in np.eye(3)]
        return np.stack([*np.tile(np.eye(3), len(x)), *rotations], axis=1)

    def __reduce__(self):  # solvers and buffers do not travel to another process: they are made again there
        pinned = self.pinned if self.pinned.any() else None
        return _rebuild, (self.mesh, self.material, self.density, pinned, self.damping, self.lumped)

    # Elasticity

    def elastic_energy(self, u: np.ndarray) -> float:
        """Elastic energy [J] of displacements u (d,) [m]; infinite for an inadmissible deformation."""
        return self.elements.energy(self.material, self._set(u))

    def internal_force(self, u: np.ndarray) -> np.ndarray:
        """Gradient of the elastic energy (d,) [N]; infinite for an inadmissible deformation."""
        try:
            self.elements.force(self.material, self._set(u), self._force)
        except InvertedElementError:
            return np.full(self.n_dofs, np.inf)
        return self._f.copy()

    def stiffness(self, u: np.ndarray) -> csr_matrix:
        """Derivative of the internal force (d, d) [N/m] on the fixed pattern, symmetric."""
        return self._matrix(self._stiffness_data(u))

    def generalized_element_forces(self, u: np.ndarray, J: np.ndarray) -> np.ndarray:
        """J^T f_e (r, T) of the internal force f_e of each element alone, for a Jacobian J (d, r); they sum to J^T f_int(u).

        Raises InvertedElementError for an inadmissible deformation."""
        return self.elements.generalized_forces(self.material, self._set(u), checks.shape("J", J, (self.n_dofs, None)))

    # Dynamics: what `dynamics.step` asks for

    def residual(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, force: np.ndarray) -> np.ndarray:
        """M a + C v + f_int(q) - force (d,) [N]; infinite for an inadmissible deformation."""
        unbalanced = self.internal_force(q)
        unbalanced += self.mass @ a
        if self.damping_matrix is not None:
            unbalanced += self.damping_matrix @ v
        unbalanced -= force
        return unbalanced

    def tangent(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> Factorisation:
        """K(q) + s1 C + s2 M, factorised, in place of the one before. Raises numpy.linalg.LinAlgError when it is singular."""
        data, part = self._tangent_data  # kept: fresh memory of that size may cost page faults
        self.elements.stiffness(self.material, self._set(q), data)
        data += np.multiply(self._mass_data, s2, out=part)
        if self.damping_matrix is not None:
            data += np.multiply(self._damping_data, s1, out=part)
        return self.solver.factor(data, tolerance=NEWTON_TOLERANCE)

    def kinetic_energy(self, v: np.ndarray) -> float:
        """v . M v / 2 [J] for velocities v (d,) [m/s]."""
        return 0.5 * float(v @ (self.mass @ v))

    def energy(self, state: State) -> float:
        """Kinetic and elastic energy [J]."""
        return self.kinetic_energy(state.v) + self.elastic_energy(state.q)

    def state(self, q: np.ndarray | None = None, v: np.ndarray | None = None, *, force: np.ndarray | None = None) -> State:
        """The state at time 0 with the acceleration that balances the force (d,) [N]; at rest and unloaded unless told otherwise.

        Raises ValueError for a wrong shape, a value that is not finite or an inadmissible deformation."""
        zero = np.zeros(self.n_dofs)
        q, v, force = (zero if x is None else self._check(name, x) for name, x in (("q", q), ("v", v), ("force", force)))
        if not np.isfinite(self.elastic_energy(q)):
            element = int(np.argmin(np.linalg.det(self.elements.deformation_gradient(self._set(q)))))
            ((material, _),) = self.material.shares(np.array([element]))
            raise ValueError(f"q inverts tetrahedron {element}, where {type(material).__name__} is not defined; start from a smaller q")
        unbalanced = self.residual(q, v, zero, force)
        return State(0.0, q, v, -self._over_mass(unbalanced))

    def _over_mass(self, force: np.ndarray) -> np.ndarray:
        """M^-1 f (d,). Scaled by its diagonal, M has a condition number of at most 5 (Wathen 1987): some 40 iterations to rounding."""
        diagonal = self.mass.diagonal()
        scaled = LinearOperator(self.mass.shape, matvec=lambda x: x / diagonal, dtype=float)
        return cg(self.mass, force, rtol=1e-15, M=scaled, maxiter=100)[0]

    # Fields on the mesh

    def full_displacement(self, u: np.ndarray) -> np.ndarray:
        """The field (V, 3) of u (d,), zero at pinned vertices."""
        field = np.zeros(self.mesh.vertices.shape)
        field[self._free_vertices] = self._check("u", u).reshape(-1, 3)
        return field

    def restrict(self, field: np.ndarray) -> np.ndarray:
        """The free degrees of freedom (d,) of a field on the vertices (V, 3)."""
        return checks.shape("field", field, self.mesh.vertices.shape)[self._free_vertices].ravel()

    @property
    def fingerprint(self) -> str:
        """What tells this model from any other: 16 hexadecimal digits of its mesh, material, density, mass, damping and pins."""
        density = self.density if isinstance(self.density, float | int) else self.density.tolist()
        parts = [self.mesh.fingerprint, self.material, density, self.lumped, self.damping, np.flatnonzero(self.pinned).tolist()]
        return hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()[:16]

    def _check(self, name: str, x: np.ndarray) -> np.ndarray:
        return checks.finite(name, checks.shape(name, np.asarray(x, float), (self.n_dofs,)))

    def _set(self, u: np.ndarray) -> np.ndarray:
        self._u[:] = u
        return self._field

    def _stiffness_data(self, u: np.ndarray) -> np.ndarray:
        data = np.empty(self.pattern.nnz)
        self.elements.stiffness(self.material, self._set(u), data)
        return data

    def _matrix(self, data: np.ndarray) -> csr_matrix:
        matrix = csr_matrix((data, self.pattern.indices, self.pattern.indptr), self.pattern.shape)
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix


def _data_on(pattern: csr_matrix, matrix: csr_matrix) -> np.ndarray:
    """Values of a matrix whose entries all lie on the pattern, as data on the pattern."""
    columns = pattern.shape[1]
    places = np.repeat(np.arange(columns), np.diff(pattern.indptr)) * columns + pattern.indices
    entries = matrix.tocoo()
    data = np.zeros(pattern.nnz)
    data[np.searchsorted(places, entries.row.astype(np.int64) * columns + entries.col)] = entries.data
    return data


def _positive_each(name: str, values: np.ndarray, count: int) -> np.ndarray:
    values = checks.finite(name, checks.shape(name, np.array(values, float), (count,)))
    if (values <= 0).any():
        first = int(np.argmax(values <= 0))
        raise ValueError(f"{name} of element {first} is {values[first]}; expected a number greater than 0")
    values.flags.writeable = False
    return values


def _rebuild(mesh, material, density, pinned, damping, lumped) -> FullModel:
    return FullModel(mesh, material, density=density, pinned=pinned, damping=damping, lumped=lumped)
