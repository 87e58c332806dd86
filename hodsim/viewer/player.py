"""What happens behind the window: bodies that move in real time under loads and pulls that a person sets. Knows nothing of screens.

Time is kept by an accumulator: real seconds go in, steps of a fixed dt come out, so that the motion does not depend on the frame rate.
A machine that is too slow falls behind the clock instead of into a spiral of ever more steps a frame.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hodsim.dynamics import State
from hodsim.fem import FullModel, gravity
from hodsim.reduced import Compilation, ReducedModel
from hodsim.solve import ConvergenceError
from hodsim.viewer.body import Body, coordinates
from hodsim.viewer.recording import VARIATIONAL, Inputs, Recording

LONGEST_FRAME = 0.2  # [s] of motion that one frame may ask for; what is more is dropped
PATIENCE = 0.1  # [s] of computing that one frame may take
GRIP = 4.0  # stiffness of the hand over that of the tip: a tip pulled gently follows four fifths of the way
STRETCH = 0.2  # of the length: as far as a pull may be from its vertex, which bounds its force at 0.8 length / tip compliance


class Player:
    """Models of one body, full or reduced, under the same inputs, paused or running.

    models: by the name to show; the first leads. shapes: load shapes of unit amplitude (d, c) [N] by name, as `bending_loads` makes them.
    The inputs are attributes, to be set at will and read at each step: dt [s]; scheme, a key of `SCHEMES`; amplitudes, by the name of
    a load shape its components (c,); pulls, by vertex the place (3,) [m] it is pulled to; damping, of all bodies; pose, latent
    coordinates (r,) that hold the first body still, or None for motion. trouble says why the motion stopped by itself. recording holds the
    steps since the last reset. gravity is the name of the load that is a uniform acceleration, if one is, and that of amplitude one [m/s^2].
    compilation is there while the compiled step is not, and the reference takes the steps.
    """

    def __init__(
        self,
        models: Mapping[str, FullModel | ReducedModel],
        shapes: Mapping[str, np.ndarray],
        *,
        dt: float,
        scheme: str = VARIATIONAL,
    ):
        self.bodies = [Body(name, model, shapes) for name, model in models.items()]
        self.full = self.bodies[0].full
        self.inputs = Inputs(dt, scheme, {name: (0.0,) * columns.shape[1] for name, columns in shapes.items()}, {}, self.full.damping)
        self.compilation: Compilation | None = None
        self.tip, self.length, compliance = _tip(self.full)
        self.grip = GRIP / compliance
        self.gravity = next(filter(None, (_acceleration(self.full, name, columns) for name, columns in shapes.items())), None)
        self.replaying: Recording | None = None
        self.reset()

    def reset(self) -> None:
        """Back to rest at time 0; loads and pulls stay as they are set."""
        for body in self.bodies:
            body.reset()
        self.paused, self.trouble = False, None
        self.recording = Recording(self.full.fingerprint, self.grip)
        self._owed, self._last_dt = 0.0, self.dt

    @property
    def is_compiled(self) -> bool:
        """Whether no body's step has to be compiled first."""
        return all(body.is_compiled(self.dt, self.scheme) for body in self.bodies)

    def warm_up(self, *, wait: bool = True) -> None:
        """Take a step that leaves no trace, so that none takes long later.

        The compiled step takes one to two minutes, once on a machine: wait for it, or have another process compile it, until when the
        reference takes the steps."""
        if not wait and not self.is_compiled:
            self.compilation = Compilation(*{type(material).__name__ for material in self.full.material.constituents})
        for body in self.bodies:
            body.after(self.dt, loads={}, pulls={}, grip=self.grip, scheme=self.scheme, index=0, compiled=self.compilation is None)
            body.milliseconds.clear()

    @property
    def truth(self) -> Body | None:
        """The full model among the bodies."""
        return next((body for body in self.bodies if isinstance(body.model, FullModel)), None)

    @property
    def time(self) -> float:
        """[s] since the last reset."""
        return self.bodies[0].state.time

    @property
    def inputs(self) -> Inputs:
        """As they are set now."""
        return Inputs(
            self.dt,
            self.scheme,
            {name: tuple(map(float, amplitudes)) for name, amplitudes in self.amplitudes.items()},
            {vertex: tuple(map(float, place)) for vertex, place in self.pulls.items()},
            self.damping,
            None if self.pose is None else tuple(map(float, self.pose)),
        )

    @inputs.setter
    def inputs(self, inputs: Inputs) -> None:
        self.dt, self.scheme, self.damping = inputs.dt, inputs.scheme, inputs.damping
        self.amplitudes = {name: np.array(amplitudes) for name, amplitudes in inputs.loads.items()}
        self.pulls: dict[int, np.ndarray] = {vertex: np.array(place) for vertex, place in inputs.pulls.items()}
        self.pose = None if inputs.pose is None else np.array(inputs.pose)

    def advance(self, elapsed: float, *, patient: bool = False) -> int:
        """Let real seconds pass; returns the number of steps taken. The patient take all steps, however long they need."""
        if self.paused:
            return 0
        self._owed += elapsed if patient else min(elapsed, LONGEST_FRAME)
        deadline = np.inf if patient else time.perf_counter() + PATIENCE
        taken = 0
        while self._owed >= self.dt * (1 - 1e-9) and not self.paused:
            if time.perf_counter() > deadline:  # slower than real time: forget the rest
                self._owed = 0.0
                break
            self._owed -= self.dt
            taken += self.step()
        return taken

    def step(self) -> bool:
        """Take one step, all bodies or none; one that fails pauses the motion at the last good state, the reason in `trouble`."""
        if self.replaying is not None and not self._follow(self.replaying):
            return False
        try:
            states = self._after(self.inputs)
        except (ConvergenceError, ValueError, FloatingPointError) as error:
            self.paused, self.trouble = True, getattr(error, "reason", str(error))
            return False
        for body, state in zip(self.bodies, states, strict=True):
            body.state = state
        self.recording.note(self.inputs)
        return True

    def replay(self, recording: Recording) -> None:
        """Do again, from a reset, what was recorded; pauses at its end. Raises ValueError for poses of another latent dimension."""
        lead = self.bodies[0]
        for _, inputs in recording.changes:
            if inputs.pose is not None and len(inputs.pose) != lead.dim:
                raise ValueError(
                    f"the recording holds {len(inputs.pose)} latent coordinates still; expected {lead.dim}, as {lead.name} has"
                )
        self.grip, self.replaying = recording.grip, recording
        self.reset()

    def toggle(self) -> None:
        """Pause or run; not after trouble, which only a reset ends."""
        self.paused = not self.paused or self.trouble is not None

    def single_step(self) -> None:
        """Pause, and take one step."""
        self.paused = True
        if self.trouble is None:
            self.step()

    def start_over(self) -> None:
        """Reset and give up a replay."""
        self.replaying = None
        self.reset()

    def let_go(self) -> None:
        """Take off all loads and pulls."""
        self.pulls.clear()
        for amplitudes in self.amplitudes.values():
            amplitudes[:] = 0.0

    def error(self, body: Body) -> float:
        """Distance of a body's tip from that of the full model among the bodies, over the length; NaN if it is not among them."""
        if self.truth is None:
            return float("nan")
        return float(np.linalg.norm(body.place(self.tip) - self.truth.place(self.tip))) / self.length

    def close(self) -> None:
        """End what goes on at the side."""
        if self.compilation is not None:
            self.compilation.stop()

    def _follow(self, recording: Recording) -> bool:
        """Take the inputs of the next step from a recording; False at its end."""
        if self.recording.steps >= recording.steps:
            self.paused, self.replaying = True, None
            return False
        self.inputs = recording.inputs(self.recording.steps)
        return True

    def _after(self, inputs: Inputs) -> list[State]:
        """The states a step later."""
        if inputs.dt != self._last_dt:  # a multistep scheme starts anew with another step length
            for body in self.bodies:
                body.state = replace(body.state, previous=None)
            self._last_dt = inputs.dt
        for body in self.bodies:
            body.damp(inputs.damping)
        if self.compilation is not None and self.compilation.done and self.is_compiled:
            self.compilation = None
        compiled = self.compilation is None
        arguments = {"loads": self.amplitudes, "pulls": self.pulls, "grip": self.grip, "scheme": inputs.scheme, "compiled": compiled}
        index, now = self.recording.steps + 1, self.time + inputs.dt
        if inputs.pose is None:
            states = []
            for body in self.bodies:
                try:
                    states.append(body.after(inputs.dt, index=index, **arguments))
                except ConvergenceError as error:
                    error.reason = f"{body.name}: {error.reason}"
                    raise
        else:
            displacement = self.bodies[0].decode(np.array(inputs.pose))
            poses = [np.array(inputs.pose), *(body.encode(displacement) for body in self.bodies[1:])]
            states = [body.at_rest(q, self.amplitudes) for body, q in zip(self.bodies, poses, strict=True)]
        return [replace(state, time=now) for state in states]


def _tip(full: FullModel) -> tuple[int, float, float]:
    """The vertex farthest from the pinned ones, its distance [m] from their centre, and how far [m/N] a force moves it at most."""
    vertices = full.mesh.vertices
    distance = np.linalg.norm(vertices - vertices[full.pinned].mean(axis=0), axis=1)
    tip = int(distance.argmax())
    rows = coordinates(full, np.array([tip])).toarray()
    compliance = rows @ full.solver.factor(full.rest_stiffness.data).solve(np.ascontiguousarray(rows.T))
    return tip, float(distance[tip]), float(np.linalg.eigvalsh(compliance).max())


def _acceleration(full: FullModel, name: str, columns: np.ndarray) -> tuple[str, float] | None:
    """The name of a load with columns (d, c) and its acceleration [m/s^2] at amplitude one, if these are the weights of the body along x, y, z."""
    weights = np.stack([gravity(full, axis) for axis in np.eye(3).tolist()], axis=1)  # of 1 m/s^2, (d, 3)
    if columns.shape != weights.shape:
        return None
    acceleration = float(np.sum(columns * weights) / np.sum(weights**2))
    return (name, acceleration) if np.allclose(columns, acceleration * weights, rtol=1e-6) else None
