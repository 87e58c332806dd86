"""Steps of a reduced model, compiled: the face of `kernel`.

`CompiledStep(model)` takes the place of `dynamics.step` or `variational_step` in `simulate`, and rolls whole trajectories, one or many
at once. It covers linear subspaces, quadratic ones and hodsim's own network, the three materials, and each elasticity of this package; what it
computes is what `ReducedModel` and `variational_step` compute, which stay as the reference and for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import cast

import numba
import numpy as np
import scipy.linalg
from torch import nn

from hodsim.checks import finite, positive, shape
from hodsim.dynamics import Scheme, State, backward_euler
from hodsim.fem import FullModel
from hodsim.fem.materials import Isotropic
from hodsim.reduced import kernel
from hodsim.reduced.ahead import wait_until_compiled
from hodsim.reduced.cubature import visited
from hodsim.reduced.cubic import CubicForce
from hodsim.reduced.model import ReducedModel
from hodsim.reduced.strain import strain_operator
from hodsim.solve import ConvergenceError
from hodsim.subspace import Subspace
from hodsim.subspace.autoencoder import Trunk
from hodsim.subspace.quadratic import Squares

EACH = (4, 6, *range(9, 15))  # of the arguments of `kernel.rollouts`, those with a row for each rollout
FORMS = {"variational": kernel.VARIATIONAL, "euler-lagrange": kernel.EULER_LAGRANGE}


@dataclass(frozen=True)
class Rollout:
    """A trajectory: q, v and a after each step (steps, r), its Newton iterations (steps,) and its defect (steps,), as `State` has them, up to a
    failure, if there is one."""

    q: np.ndarray
    v: np.ndarray
    a: np.ndarray
    iterations: np.ndarray
    defect: np.ndarray
    failure: ConvergenceError | None


class CompiledStep:
    """A step of a reduced model in variational (backward Euler in displacements) or Euler-Lagrange form; an `Advance`.

    memory [s] is the time over which the defect of a state is averaged: 1 / omega of the slowest vibration.

    Raises ValueError for a model that has no compiled form: a trunk of another kind, a material of one's own."""

    def __init__(self, model: ReducedModel, *, form: str = "variational"):
        self.form = form_of(form)
        wait_until_compiled()
        self._mixing = np.ascontiguousarray(independent(model.mass))
        self._constants = _constants(model, self._mixing)
        matrices = model.mass, model.damping, model.rest_stiffness
        self._mass, self._damping, self._stiffness = (self._mixing @ matrix @ self._mixing.T for matrix in matrices)
        self.memory = 1 / slowest_frequency(self._stiffness, self._mass)
        self._springs: tuple[np.ndarray, np.ndarray] | None = None
        self._plans: dict[float, kernel.Plan] = {}

    def pulled(self, rows: np.ndarray, rest: np.ndarray, targets: np.ndarray, stiffness: float) -> CompiledStep:
        """This step with springs of a stiffness [N/m] on points x = rest + rows g (s,), rows (s, m), that pull them to targets (s,)."""
        other = copy(self)
        root = math.sqrt(stiffness)
        other._springs = root * rows @ self._mixing.T, root * (targets - rest)
        return other

    def damped(self, damping: np.ndarray) -> CompiledStep:
        """This step with another damping C^ = W^T C W (m, m)."""
        other = copy(self)
        other._damping, other._plans = self._mixing @ damping @ self._mixing.T, {}
        return other

    def is_compiled(self, state: State, dt: float) -> bool:
        """Whether a step can be taken at once, for numba has compiled it here before; else it takes one to two minutes first."""
        return kernel.is_compiled(kernel.rollouts, self._arguments([state], dt, np.zeros((1, 1, self._mixing.shape[1])), backward_euler, 1e-5, 1))

    def __call__(
        self,
        system: ReducedModel,
        state: State,
        dt: float,
        *,
        force: np.ndarray,
        scheme: Scheme = backward_euler,
        tolerance: float = 1e-5,
        max_iterations: int = 25,
        index: int = 0,
    ) -> State:
        """The state one time step dt [s] later under a force in feature space (m,). Raises ConvergenceError as `dynamics.step` does."""
        (run,) = self._roll([state], dt, force[None, None], scheme, tolerance, max_iterations, index)
        if run.failure is not None:
            raise run.failure
        previous = replace(state, previous=None)
        return State(state.time + dt, run.q[0], run.v[0], run.a[0], previous, int(run.iterations[0]), float(run.defect[0]))

    def rollout(
        self,
        state: State,
        dt: float,
        forces: np.ndarray,
        *,
        scheme: Scheme = backward_euler,
        tolerance: float = 1e-5,
        max_iterations: int = 25,
    ) -> Rollout:
        """The trajectory from a state under forces (steps, m) in feature space, each acting at the end of its step of dt [s].

        A failure ends it, and is a value, not an exception."""
        positive("dt", dt)
        shape("forces", finite("forces", forces), (None, self._mixing.shape[1]))
        (run,) = self._roll([state], dt, forces[None], scheme, tolerance, max_iterations, 1)
        return run

    def rollouts(
        self,
        states: Sequence[State],
        dt: float,
        forces: np.ndarray,
        *,
        scheme: Scheme = backward_euler,
        tolerance: float = 1e-5,
        max_iterations: int = 25,
    ) -> list[Rollout]:
        """Independent trajectories, one a state, under forces (B, steps, m), or (steps, m) for all; on as many threads as numba would take."""
        forces = forces_of_each(states, dt, forces, self._mixing.shape[1])
        return self._roll(states, dt, forces, scheme, tolerance, max_iterations, 1)

    def _roll(
        self, states: Sequence[State], dt: float, forces: np.ndarray, scheme: Scheme, tolerance: float, max_iterations: int, first: int
    ) -> list[Rollout]:
        arguments = self._arguments(states, dt, forces, scheme, tolerance, max_iterations)
        threads = min(len(states), numba.get_num_threads()) if len(states) > 1 else 1
        if threads == 1:
            kernel.rollouts(*arguments)
        else:
            bounds = np.linspace(0, len(states), threads + 1).astype(int)
            shares = [[a[start:stop] if i in EACH else a for i, a in enumerate(arguments)] for start, stop in pairwise(bounds)]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(kernel.rollouts, *zip(*shares, strict=True)))
        return [self._rolled(start, dt, first, *each) for start, *each in zip(states, *arguments[-6:], strict=True)]

    def _arguments(
        self, states: Sequence[State], dt: float, forces: np.ndarray, scheme: Scheme, tolerance: float, max_iterations: int
    ) -> tuple:
        """What `kernel.rollouts` takes; the last six it writes: states, iterations, norms of residuals, defects, steps done and how they ended."""
        (B, steps, _), r = forces.shape, len(states[0].q)
        return (
            self.plan(dt), self.form, scheme_table(scheme, dt), dt, np.stack([history_of(state) for state in states]),
            states[0].previous is not None, np.ascontiguousarray(forces), tolerance, max_iterations,
            np.empty((B, steps, 3, r)), np.empty((B, steps), np.int64), np.empty((B, max_iterations + 1)), np.empty((B, steps)),
            np.empty(B, np.int64), np.empty(B, np.int64),
        )  # fmt: skip

    def _rolled(
        self, start: State, dt: float, first: int, states: np.ndarray, iterations: np.ndarray, norms: np.ndarray, defects: np.ndarray,
        done: int, ended: int,
    ) -> Rollout:  # fmt: skip
        """What the kernel wrote, as a Rollout."""
        failure = None
        if done < len(states):
            history = tuple(norms[: 1 + iterations[done]])
            reason = reason_of(ended, len(norms) - 1)
            failure = ConvergenceError(reason=reason, step=first + done, time=start.time + (1 + done) * dt, dt=dt, history=history)
        q, v, a = states[:done].transpose(1, 0, 2)
        fading, squares = math.exp(-dt / self.memory), (defects[:done] ** 2).tolist()
        faded = accumulate(squares, lambda before, square: fading * before + (1 - fading) * square, initial=start.defect**2)
        return Rollout(q, v, a, iterations[:done], np.sqrt(list(faded)[1:]), failure)

    def plan(self, dt: float) -> kernel.Plan:
        """What the kernel reads for steps of dt [s]. Inertia enters by R with R^T R = M + .. (of the variational form, M/dt^2 + C/dt)."""
        if dt not in self._plans:
            mixing, mass, damping = self._mixing, self._mass, self._damping
            matrix = mass if self.form == kernel.EULER_LAGRANGE else mass / dt**2 + damping / dt
            root = np.ascontiguousarray(np.linalg.cholesky(matrix).T)  # R (m, m)
            step = mass / dt**2 + damping / dt + self._stiffness
            pull = np.linalg.inv(root).T  # R^-T
            self._plans[dt] = self._constants._replace(
                strain=_stacked(self._constants.strain, root),
                root=root,
                pull=pull @ mixing,
                drag=pull @ damping if damping.any() else np.empty((0, len(mass))),
                momentum=pull @ mass / dt**2,
                gauge=np.linalg.cholesky(mass).T @ np.linalg.inv(step),
            )
        plan = self._plans[dt]
        if self._springs is None:
            return plan
        rows, tethers = self._springs
        return plan._replace(strain=_stacked(self._constants.strain, plan.root, rows), tethers=tethers)


def independent(mass: np.ndarray) -> np.ndarray:
    """B (m, M) with orthonormal rows: mixtures of the features, as many as M^ = W^T M W (M, M) has independent ones.

    A decoder that was trained in fewer principal coordinates than it has features has only so many."""
    sizes, directions = np.linalg.eigh(mass)
    kept = sizes > len(mass) * np.finfo(float).eps * sizes[-1]
    return np.eye(len(mass)) if kept.all() else directions[:, kept].T


def slowest_frequency(stiffness: np.ndarray, mass: np.ndarray) -> float:
    """The lowest angular frequency [rad/s] of vibrations under these matrices (m, m), rigid motions of a free body left out."""
    squares = scipy.linalg.eigh(stiffness, mass, eigvals_only=True)
    return math.sqrt(squares[squares > 1e-8 * squares[-1]][0])


def _constants(model: ReducedModel, mixing: np.ndarray) -> kernel.Plan:
    """The plan of a model, less its inertia. Raises ValueError for one that the kernel does not cover."""
    full, subspace, elasticity = model.full, model.subspace, model.elasticity
    trunk = subspace.trunk
    if not (trunk is None or isinstance(trunk, Trunk | Squares)):
        raise ValueError(f"a trunk of type {type(trunk).__name__} has no compiled step; expected hodsim's own Trunk or Squares, or a linear subspace")
    for material in full.material.constituents:
        if type(material) not in kernel.LAWS:
            raise ValueError(f"{type(material).__name__} has no compiled step; expected one of {', '.join(law.__name__ for law in kernel.LAWS)}")
    widths, network = [subspace.dim], [np.empty(0)]
    for layer in () if trunk is None else trunk.h:
        if isinstance(layer, nn.Linear):
            widths.append(layer.out_features)
            network += [layer.weight.detach().numpy().ravel(), layer.bias.detach().numpy()]
    cubic = np.empty((0, 0))
    elements_visited = visited(elasticity, len(full.elements.volumes))
    if elements_visited is not None:
        chosen, weights = elements_visited
    elif isinstance(elasticity, CubicForce):
        chosen, weights = np.arange(0), np.empty(0)
        cubic = elasticity.matrix if len(mixing) == subspace.width else CubicForce(full, _mixed(subspace, mixing)).matrix
    else:
        raise ValueError(f"an elasticity of type {type(elasticity).__name__} has no compiled step")
    elements = _blocks(full, subspace, chosen, weights)
    mixed = len(mixing) < subspace.width
    if mixed:
        elements["strain"] = elements["strain"] @ mixing.T
    nothing = np.empty((0, len(mixing)))
    return kernel.Plan(
        widths=np.array(widths),
        network=np.concatenate(network),
        activation=kernel.SQUARE if isinstance(trunk, Squares) else kernel.SILU,
        mixing=mixing if mixed else np.empty((0, 0)),
        **elements,
        root=nothing,
        cubic=cubic,
        pull=nothing,
        drag=nothing,
        momentum=nothing,
        tethers=np.empty(0),
        gauge=nothing,
        rounding=model.rounding_force,
    )


def _blocks(full: FullModel, subspace: Subspace, chosen: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """What the plan says of chosen elements (n,) with weights (n,): blocks of one material, one after the other, each filled up to whole vectors
    with elements that have no volume and stay undeformed."""
    shares = full.material.shares(chosen) if len(chosen) else []
    strains, rests, volumes = [np.empty((0, subspace.width))], [np.empty(0)], [np.empty(0)]
    for _, positions in shares:
        n = len(positions)
        more = -n % kernel.ELEMENTS
        strain, rest = strain_operator(full, subspace, chosen[positions])
        strains.append(np.pad(strain.reshape(9, n, -1), ((0, 0), (0, more), (0, 0))).reshape(9 * (n + more), -1))
        rests.append(np.hstack([rest.reshape(9, n), np.eye(3).reshape(9, 1).repeat(more, axis=1)]).ravel())
        volumes.append(np.pad(weights[positions] * full.elements.volumes[chosen[positions]], (0, more)))
    return {
        "laws": np.array([kernel.addresses(type(material)) for material, _ in shares], np.int64).reshape(-1, 3),
        "constants": np.array([[*cast(Isotropic, material).constants, 0.0][:3] for material, _ in shares]).reshape(-1, 3),
        "ends": np.cumsum([len(block) for block in volumes[1:]], dtype=np.int64),
        "strain": np.concatenate(strains),
        "rest": np.concatenate(rests),
        "volumes": np.concatenate(volumes),
    }


def _stacked(*strains: np.ndarray) -> np.ndarray:
    """Strains (n, m) of elements, inertia and springs as the kernel reads them: in tiles, padded with zeros to pairs of these."""
    together = np.concatenate(strains)
    padded = np.pad(together, ((0, -len(together) % (2 * kernel.ROWS)), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, kernel.ROWS, padded.shape[1]).transpose(0, 2, 1))


def _mixed(subspace: Subspace, mixing: np.ndarray) -> Subspace:
    """The linear subspace of the mixed features."""
    basis = subspace.basis @ mixing.T
    return Subspace(subspace.name, len(mixing), subspace.origin, basis, np.zeros(basis.T.shape))


def form_of(name: str) -> int:
    """The kernel's number of a form. Raises ValueError for another name."""
    if name not in FORMS:
        raise ValueError(f"form is {name!r}; expected one of {', '.join(FORMS)}")
    return FORMS[name]


def forces_of_each(states: Sequence[State], dt: float, forces: np.ndarray, width: int) -> np.ndarray:
    """Forces (B, steps, width) of independent trajectories, one a state, from those or from (steps, width) for all. Raises ValueError for what no
    rollouts can be made of."""
    positive("dt", dt)
    forces = np.broadcast_to(finite("forces", forces), (len(states), *np.shape(forces)[-2:]))
    shape("forces", forces, (len(states), None, width))
    if len({state.previous is None for state in states}) > 1:
        raise ValueError("some of the states have a previous one and some have none; expected all to have taken a step, or none")
    return forces


def reason_of(ended: int, most: int) -> str:
    """Why Newton's method, of at most so many iterations, did not find a step."""
    return {
        kernel.NOT_FINITE: "the residual of the first guess is not finite",
        kernel.TOO_MANY: f"{most} Newton iterations did not reach the tolerance",
        kernel.NO_DECREASE: "the line search found no decrease",
    }[ended]


@lru_cache(maxsize=64)
def scheme_table(scheme: Scheme, dt: float) -> np.ndarray:
    """A scheme as numbers: [0] without, [1] with a previous state; there row 0 has v0's coefficients of q, v, a, previous q and v, and s1;
    row 1 those of a0, and s2. A scheme is linear in these, so its values at the unit vectors say everything."""
    q, v, a, previous_q, previous_v = np.eye(5)
    table = np.empty((2, 2, 6))
    for started, previous in enumerate((None, State(0.0, previous_q, previous_v, np.zeros(5)))):
        rates = scheme(State(0.0, q, v, a, previous), dt)
        table[started] = np.stack([np.append(rates.v0, rates.s1), np.append(rates.a0, rates.s2)])
    return table


def history_of(state: State) -> np.ndarray:
    """What a scheme reads of a state, (5, r): q, v, a, and the previous q and v."""
    before = state.previous or state
    return np.stack([state.q, state.v, state.a, before.q, before.v])
