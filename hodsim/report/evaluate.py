"""Run held-out load cases with the full model and every reduced model, time each step and compare the trajectories.

All models run in one process, case by case, the order rotating from case to case, so that a busy machine slows all of them alike. Only
the steps are timed, Newton's method and linear solves: not loads, decoding, energies or anything else that a report wants. A compiled
model rolls out a case in one call, and its steps share that time equally. Each model takes a few untimed steps first, so that no
compilation is ever counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.spatial import cKDTree

from hodsim.checks import positive
from hodsim.dynamics import Advance, Scheme, State, backward_euler, simulate
from hodsim.fem import FullModel, Load
from hodsim.reduced import CompiledStep, Indicator, ReducedModel
from hodsim.report.machine import environment
from hodsim.report.records import Evaluation, Failure, Record, energy_deviation, relative_rms
from hodsim.snapshots import LoadCase
from hodsim.solve import ConvergenceError
from hodsim.subspace.autoencoder import Trunk

WARM_UP_STEPS = 3
BLOW_UP = 10.0  # a displacement beyond so many diagonals of the body's bounding box is no solution

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Contender:
    """A reduced model as the report shows it: named after its subspace unless a name is given, stepped by `advance` if given."""

    model: ReducedModel
    name: str | None = None
    elasticity: str = "exact"
    advance: Advance | None = None


def evaluate(
    full: FullModel,
    models: Sequence[ReducedModel | Contender],
    cases: Sequence[LoadCase],
    shapes: Mapping[str, np.ndarray],
    *,
    dt: float,
    steps: int,
    tip: int | None = None,
    scheme: Scheme = backward_euler,
    tolerance: float = 1e-5,
    frames: int = 100,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare models with the full one on load cases of `steps` steps of dt [s], made of the load shapes.

    tip is a vertex of the mesh, by default the one farthest from the pinned ones. frames bounds the number of surfaces kept of each
    run. A step that fails is recorded with its reason, and the rest of its case counts as failed. Cases that the full model itself
    cannot complete are left out for all models and named among its failures. progress is called with the runs done and in all.
    Raises ValueError for no case, no model, two models of one name, a tip that is pinned or that a case leaves at rest; ConvergenceError
    when the full model completes no case.
    """
    contenders = [model if isinstance(model, Contender) else Contender(model) for model in models]
    runners = [_full_runner(full), *map(_reduced_runner, contenders)]
    _check(runners, cases, dt, steps)
    observer = _Observer(full, tip, steps, frames)
    settings = {"dt": dt, "scheme": scheme, "tolerance": tolerance}
    for runner in runners:
        runner.run(cases[0], shapes, steps=min(WARM_UP_STEPS, steps), **settings)

    kept, failed, traces = [], [], []
    for number, case in enumerate(cases):
        runs: dict[int, _Run] = {}
        for turn, i in enumerate(_turns(len(runners), first=number), 1):
            runs[i] = runners[i].run(case, shapes, steps=steps, **settings)
            if progress is not None:
                progress(number * len(runners) + turn, len(cases) * len(runners))
        reference = observer.motion(runners[0], runs[0])
        if reference.failure is not None:
            failed.append(reference.failure)
            continue
        kept.append(case)
        traces.append([observer.trace(runner, runs[i], reference) for i, runner in enumerate(runners)])
    if not kept:
        reason = f"the full model completes none of the {len(cases)} load cases: {failed[0].reason}"
        raise ConvergenceError(reason=reason, step=failed[0].step, time=failed[0].time, dt=dt, history=())

    reference, *others = (_record(runner, [row[i] for row in traces]) for i, runner in enumerate(runners))
    return Evaluation(
        full=replace(reference, failures=tuple(failed)),
        models=tuple(others),
        cases=tuple((case.name, " + ".join(shape for shape, _ in case.terms)) for case in kept),
        dofs=full.n_dofs,
        dt=dt,
        tolerance=tolerance,
        tip=observer.tip,
        length=observer.length,
        rest=full.mesh.vertices[observer.vertices],
        triangles=observer.triangles,
        frames=observer.frames,
        environment=environment(),
    )


def _turns(number: int, *, first: int) -> list[int]:
    """0 to number - 1, beginning elsewhere each time."""
    return [(first + turn) % number for turn in range(number)]


def _check(runners: Sequence[_Runner], cases: Sequence[LoadCase], dt: float, steps: int) -> None:
    positive("dt", dt)
    positive("steps", steps)
    if not cases:
        raise ValueError("there are 0 load cases to evaluate on; expected at least one held-out case")
    if len(runners) < 2:
        raise ValueError("there are 0 models to evaluate; expected at least one reduced model")
    names = [runner.name for runner in runners]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"several models are named {', '.join(sorted(twice))}; give each Contender a name of its own")


@dataclass(frozen=True)
class _Run:
    """The states of one run up to its end or failure, and the seconds of each step."""

    case: str
    states: list[State]
    seconds: list[float]
    failure: Failure | None


@dataclass(frozen=True)
class _Runner:
    """A model and what it takes to run and to read it; `force` brings a load into the model's coordinates."""

    name: str
    r: int
    elasticity: str
    is_network: bool
    model: FullModel | ReducedModel
    force: Callable[[Load], Load]
    displacement: Callable[[State], np.ndarray]
    velocity: Callable[[State], np.ndarray]
    advance: Advance | None = None
    indicator: Indicator | None = None

    def run(self, case: LoadCase, shapes: Mapping[str, np.ndarray], *, dt: float, steps: int, scheme: Scheme, tolerance: float) -> _Run:
        """Step one load case from rest and time each step."""
        forces = self.force(case.load(shapes)).at_steps(dt, steps)
        if isinstance(self.advance, CompiledStep):
            return self._roll(case, self.advance, forces, dt=dt, scheme=scheme, tolerance=tolerance)
        acting = iter(forces)
        trajectory = simulate(
            self.model, self.model.state(), dt, force=lambda time: next(acting), scheme=scheme, steps=steps, tolerance=tolerance, advance=self.advance
        )
        states, seconds, failure = [], [], None
        for index in range(1, steps + 1):
            started = time.perf_counter()
            try:
                state = next(trajectory)
            except ConvergenceError as error:
                failure = self._failure(case, error, steps)
                break
            elapsed = time.perf_counter() - started
            if not np.isfinite(state.q).all():
                failure = Failure(self.name, case.name, index, index * dt, "the solution is not finite", steps - index + 1)
                break
            states.append(state)
            seconds.append(elapsed)
        return _Run(case.name, states, seconds, failure)

    def _roll(self, case: LoadCase, advance: CompiledStep, forces: np.ndarray, *, dt: float, scheme: Scheme, tolerance: float) -> _Run:
        start = self.model.state()
        started = time.perf_counter()
        run = advance.rollout(start, dt, forces, scheme=scheme, tolerance=tolerance)
        elapsed = time.perf_counter() - started
        done = len(run.q)
        states = [
            State((i + 1) * dt, q, v, a, iterations=int(iterations), defect=float(defect))
            for i, (q, v, a, iterations, defect) in enumerate(zip(run.q, run.v, run.a, run.iterations, run.defect, strict=True))
        ]
        failure = None if run.failure is None else self._failure(case, run.failure, len(forces))
        return _Run(case.name, states, [elapsed / max(done, 1)] * done, failure)

    def _failure(self, case: LoadCase, error: ConvergenceError, steps: int) -> Failure:
        return Failure(self.name, case.name, error.step, error.time, error.reason, steps - error.step + 1)


def _full_runner(full: FullModel) -> _Runner:
    return _Runner("full", full.n_dofs, "exact", False, full, lambda load: load, lambda state: state.q, lambda state: state.v)


def _reduced_runner(contender: Contender) -> _Runner:
    model, subspace = contender.model, contender.model.subspace
    return _Runner(
        contender.name or subspace.name,
        subspace.dim,
        contender.elasticity,
        isinstance(subspace.trunk, Trunk),
        model,
        lambda load: load.project(subspace.basis),
        model.displacement,
        model.velocity,
        contender.advance,
        model.indicator,
    )


@dataclass(frozen=True)
class _Motion:
    """A run in physical terms, NaN from the step that failed on: displacements u and velocities du (steps, d), the tip's displacement
    (steps, 3), the energy (steps,) and the surface's displacements (frames, vertices, 3)."""

    u: np.ndarray
    du: np.ndarray
    tip: np.ndarray
    energy: np.ndarray
    surface: np.ndarray
    failure: Failure | None


@dataclass(frozen=True)
class _Trace:
    """One load case of a Record."""

    tip: np.ndarray
    energy: np.ndarray
    seconds: np.ndarray
    iterations: np.ndarray
    deviation: np.ndarray
    estimate: np.ndarray
    light: np.ndarray
    tip_error: float
    position_error: float
    velocity_error: float
    energy_error: float
    surface: np.ndarray
    failure: Failure | None


class _Observer:
    """Reads tip, energy, surface and errors off the runs of a full model and of its reduced models."""

    def __init__(self, full: FullModel, tip: int | None, steps: int, frames: int):
        mesh = full.mesh
        distance = distance_to_pins(full)
        if tip is not None and not (0 <= tip < len(distance) and distance[tip] > 0):
            raise ValueError(f"tip is vertex {tip}; expected a vertex that is not pinned, 0 to {len(distance) - 1}")
        self.full, self.steps = full, steps
        self.tip = int(np.argmax(distance)) if tip is None else tip
        self.length = float(distance[self.tip])
        self.frames = np.unique(np.linspace(0, steps - 1, min(frames, steps)).round().astype(int))
        self.vertices, corners = np.unique(mesh.surface, return_inverse=True)
        self.triangles = corners.reshape(mesh.surface.shape)
        self._limit = BLOW_UP * np.linalg.norm(np.ptp(mesh.vertices, axis=0))

    def motion(self, runner: _Runner, run: _Run) -> _Motion:
        """Decode a run; a displacement out of all proportion counts as a failure too."""
        full, steps, frame_of = self.full, self.steps, {step: frame for frame, step in enumerate(self.frames)}
        u, du = np.full((2, steps, full.n_dofs), np.nan)
        tip, energy = np.full((steps, 3), np.nan), np.full(steps, np.nan)
        surface = np.full((len(self.frames), len(self.vertices), 3), np.nan, np.float32)
        failure = run.failure
        for i, state in enumerate(run.states):
            displacement, velocity = runner.displacement(state), runner.velocity(state)
            largest = np.abs(displacement).max()
            stored = 0.5 * velocity @ (full.mass @ velocity) + full.elastic_energy(displacement)
            if not (largest < self._limit and np.isfinite(stored)):
                reason = f"the solution blew up: displacements reach {largest:.3g} m, the energy {stored:.3g} J"
                failure = Failure(runner.name, run.case, i + 1, state.time, reason, steps - i)
                break
            u[i], du[i] = displacement, velocity
            energy[i] = stored
            positions = full.full_displacement(displacement)
            tip[i] = positions[self.tip]
            if i in frame_of:
                surface[frame_of[i]] = positions[self.vertices]
        if failure is None and runner.model is full and not tip.any():
            raise ValueError(
                f"load case {run.case} leaves the tip of the full model at rest: no error can be relative to that; leave it out"
            )
        return _Motion(u, du, tip, energy, surface, failure)

    def trace(self, runner: _Runner, run: _Run, reference: _Motion) -> _Trace:
        """Compare a run with the full model's motion under the same load."""
        motion = self.motion(runner, run)
        taken = self.steps if motion.failure is None else motion.failure.step - 1
        distance = self._norms(motion.u - reference.u)
        states, indicator = run.states[:taken], runner.indicator
        return _Trace(
            tip=motion.tip,
            energy=motion.energy,
            seconds=_padded(run.seconds[:taken], self.steps),
            iterations=_padded([state.iterations for state in states], self.steps),
            deviation=distance / (indicator.scale if indicator else np.nan),
            estimate=_padded([indicator.estimate(state) for state in states] if indicator else [], self.steps),
            light=_padded([indicator.level(state) for state in states] if indicator else [], self.steps),
            tip_error=relative_rms(np.linalg.norm(motion.tip - reference.tip, axis=1), np.linalg.norm(reference.tip, axis=1)),
            position_error=relative_rms(distance, self._norms(reference.u)),
            velocity_error=relative_rms(self._norms(motion.du - reference.du), self._norms(reference.du)),
            energy_error=energy_deviation(motion.energy, reference.energy),
            surface=motion.surface,
            failure=motion.failure,
        )

    def _norms(self, fields: np.ndarray) -> np.ndarray:
        """|u|_M (steps,) of the rows of fields (steps, d)."""
        return np.sqrt(np.einsum("td,td->t", fields, (self.full.mass @ fields.T).T))


def distance_to_pins(full: FullModel) -> np.ndarray:
    """Distance of each vertex to the nearest pinned one, of a free body to its centre (V,) [m]."""
    vertices = full.mesh.vertices
    held = vertices[full.pinned] if full.pinned.any() else vertices.mean(axis=0, keepdims=True)
    return np.asarray(cKDTree(held).query(vertices)[0])


def _padded(values: Sequence[float], length: int) -> np.ndarray:
    """The values followed by NaN, (length,)."""
    return np.concatenate([np.asarray(values, float), np.full(length - len(values), np.nan)])


def _record(runner: _Runner, traces: Sequence[_Trace]) -> Record:
    """The load cases of one model, stacked."""
    columns = {f.name: np.stack([getattr(trace, f.name) for trace in traces]) for f in fields(_Trace) if f.name != "failure"}
    failures = tuple(trace.failure for trace in traces if trace.failure is not None)
    return Record(runner.name, runner.r, runner.elasticity, runner.is_network, **columns, failures=failures)
