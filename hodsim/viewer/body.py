"""A model in motion: one interface for what is seen and pulled, whether the full model or a reduced one moves it.

The displacement is u = u0 + W g(q); for the full model W is the identity and g(q) = q. Of W, the rows of the visible vertices are
kept apart, so that a frame decodes what is seen and no more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix, identity

from hodsim.dynamics import Scheme, SecondOrderSystem, State, step
from hodsim.fem import FullModel, Rayleigh
from hodsim.reduced import CompiledStep, ReducedModel, variational_step
from hodsim.solve import ConvergenceError
from hodsim.viewer.recording import SCHEMES, VARIATIONAL
from hodsim.viewer.springs import Springs, SprungElasticity, SprungFullModel

SHORTEST = 1 / 16  # of a step, before one that does not converge is given up


class Body:
    """A model, its state, and how long its last steps took.

    shapes: nodal forces of unit amplitude (d, c) [N] by name, as `bending_loads` makes them.
    """

    def __init__(self, name: str, model: FullModel | ReducedModel, shapes: Mapping[str, np.ndarray]):
        self.name, self.model = name, model
        reduced = isinstance(model, ReducedModel)
        self.dim = model.subspace.dim if reduced else model.n_dofs
        self._basis = model.subspace.basis if reduced else identity(model.n_dofs, format="csr")
        self._origin = model.subspace.origin if reduced else np.zeros(model.n_dofs)
        self._shapes = {key: self._basis.T @ columns for key, columns in shapes.items()}
        self.vertices = np.unique(self.full.mesh.surface)  # the visible ones (n,)
        seen = coordinates(self.full, self.vertices)
        self._rest = self.full.mesh.vertices[self.vertices] + (seen @ self._origin).reshape(-1, 3)
        self._seen = seen @ self._basis
        self.milliseconds: deque[float] = deque(maxlen=100)  # of the last steps
        self._steps: dict[str, CompiledStep] = {}  # by form, as they are asked for
        self.reset()

    @property
    def full(self) -> FullModel:
        return self.model.full if isinstance(self.model, ReducedModel) else self.model

    def reset(self) -> None:
        """Back to rest at time 0."""
        self.state: State = self.model.state()
        self._gauged = True  # whether the state tells its defect, as that at rest and those of compiled steps do
        self.milliseconds.clear()

    def after(
        self,
        dt: float,
        *,
        loads: Mapping[str, np.ndarray],
        pulls: Mapping[int, np.ndarray],
        grip: float,
        scheme: str,
        index: int,
        compiled: bool = True,
    ) -> State:
        """The state a step later, under amplitudes (c,) of the load shapes and springs of stiffness grip [N/m] from vertices to places (3,).

        A reduced model takes the compiled step, or else the reference. Raises ConvergenceError as `dynamics.step` does; for the full model,
        which a hand can throw about, only where shorter steps fail as well."""
        started = time.perf_counter()
        force = self.force(loads)
        springs, self._gauged = None, compiled
        if pulls:
            rows, rest = self.rows(list(pulls))
            springs = Springs(rows, rest, np.concatenate(list(pulls.values())), grip)
        if isinstance(self.model, ReducedModel):
            state = self._reduced_step(self.model, dt, force, springs, scheme, index, compiled)
        else:
            model = self.model if springs is None else SprungFullModel(self.model, springs)
            state = _step_or_halves(model, self.state, dt, force=force, scheme=SCHEMES[scheme], index=index)
        self.milliseconds.append(1e3 * (time.perf_counter() - started))
        return state

    def _reduced_step(
        self, model: ReducedModel, dt: float, force: np.ndarray, springs: Springs | None, scheme: str, index: int, compiled: bool
    ) -> State:
        if compiled:
            advance = self._step(model, scheme)
            if springs is not None:
                advance = advance.pulled(springs.rows, springs.rest, springs.targets, springs.stiffness)
            return advance(model, self.state, dt, force=force, scheme=SCHEMES[scheme], index=index)
        if springs is not None:
            model = model.with_elasticity(SprungElasticity(model.elasticity, springs))
        if scheme == VARIATIONAL:
            return variational_step(model, self.state, dt, force=force, index=index)
        return step(model, self.state, dt, force=force, scheme=SCHEMES[scheme], index=index)

    def _step(self, model: ReducedModel, scheme: str) -> CompiledStep:
        form = "variational" if scheme == VARIATIONAL else "euler-lagrange"
        if form not in self._steps:
            self._steps[form] = CompiledStep(model, form=form)
        return self._steps[form]

    def is_compiled(self, dt: float, scheme: str) -> bool:
        """Whether a step of dt [s] needs no compiling first."""
        return not isinstance(self.model, ReducedModel) or self._step(self.model, scheme).is_compiled(self.state, dt)

    def damp(self, damping: Rayleigh) -> None:
        """Go on with another damping, if it is another."""
        if damping == self.full.damping:
            return
        self.model = self.model.with_damping(damping)
        if isinstance(self.model, ReducedModel):
            self._steps = {form: advance.damped(self.model.damping) for form, advance in self._steps.items()}

    def at_rest(self, q: np.ndarray, loads: Mapping[str, np.ndarray]) -> State:
        """The state at rest in a pose q, from which the loads move it."""
        self._gauged = False
        return self.model.state(q, force=self.force(loads))

    def encode(self, displacement: np.ndarray) -> np.ndarray:
        """The pose q nearest to a displacement (d,) [m]."""
        return self.model.subspace.encode(displacement) if isinstance(self.model, ReducedModel) else displacement

    def decode(self, q: np.ndarray) -> np.ndarray:
        """The displacement (d,) [m] of a pose."""
        return self._origin + self._basis @ self._features(q)

    def force(self, loads: Mapping[str, np.ndarray]) -> np.ndarray:
        """The loads in the model's own coordinates (m,)."""
        return sum((self._shapes[key] @ amplitudes for key, amplitudes in loads.items()), np.zeros(self._basis.shape[1]))

    @property
    def triangles(self) -> np.ndarray:
        """Triangles (S, 3) of the surface; they index into `positions`."""
        return np.searchsorted(self.vertices, self.full.mesh.surface)

    @property
    def positions(self) -> np.ndarray:
        """Where the visible vertices are (n, 3) [m]."""
        return self._rest + (self._seen @ self._features(self.state.q)).reshape(-1, 3)

    @property
    def energy(self) -> float:
        """Kinetic and elastic energy [J]."""
        return self.model.energy(self.state)

    @property
    def trust(self) -> tuple[int, float] | None:
        """Level 0, 1 or 2 and the estimated error over a typical motion; None for a model or after a step that cannot tell."""
        indicator = self.model.indicator if isinstance(self.model, ReducedModel) and self._gauged else None
        return None if indicator is None else (indicator.level(self.state), indicator.estimate(self.state))

    def place(self, vertex: int) -> np.ndarray:
        """Where a vertex of the mesh is (3,) [m]."""
        rows, rest = self.rows([vertex])
        return rest + rows @ self._features(self.state.q)

    def rows(self, vertices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """B (3 p, m) and x0 (3 p,) of vertices of the mesh: their places are x0 + B g(q)."""
        chosen = coordinates(self.full, np.array(vertices))
        rows = chosen @ self._basis
        rest = self.full.mesh.vertices[vertices].ravel() + chosen @ self._origin
        return rows.toarray() if isinstance(rows, csr_matrix) else rows, rest

    def _features(self, q: np.ndarray) -> np.ndarray:
        """g(q) (m,)."""
        return self.model.features.value(q) if isinstance(self.model, ReducedModel) else q


def coordinates(full: FullModel, vertices: np.ndarray) -> csr_matrix:
    """The matrix (3 n, d) that takes a displacement (d,) to the coordinates of n vertices, zero at pinned ones."""
    number = np.full(3 * len(full.mesh.vertices), -1)
    number[full.free] = np.arange(full.n_dofs)
    chosen = number[(3 * vertices[:, None] + np.arange(3)).ravel()]
    rows = np.flatnonzero(chosen >= 0)
    return csr_matrix((np.ones(len(rows)), (rows, chosen[rows])), (len(chosen), full.n_dofs))


def _step_or_halves(
    model: SecondOrderSystem, state: State, dt: float, *, force: np.ndarray, scheme: Scheme, index: int, shortest: float = SHORTEST
) -> State:
    """A step; where it does not converge two of half its length, where these do not two each, and so on."""
    try:
        return step(model, state, dt, force=force, scheme=scheme, index=index)
    except ConvergenceError as error:
        if shortest >= 1:
            raise
        for _ in range(2):
            try:
                state = replace(state, previous=None)  # a multistep scheme starts anew with another step length
                state = _step_or_halves(model, state, dt / 2, force=force, scheme=scheme, index=index, shortest=2 * shortest)
            except ConvergenceError:
                raise error from None
        return replace(state, previous=None)
