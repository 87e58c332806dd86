"""What a person did, step by step, so that it can be done again: the inputs of every step since the last reset.

Steps have a fixed length and read their inputs once, so that a replay repeats the motion exactly, whatever the frame rate was; but for
steps that the reference took while the compiled one was not there yet: these it repeats to the tolerance of the solver.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path

from hodsim.checks import positive
from hodsim.dynamics import Scheme, backward_euler, bdf2, newmark
from hodsim.fem import FullModel, Rayleigh
from hodsim.storage import write_atomically

FORMAT, UNDAMPED_FORMAT = "hodsim recording 2", "hodsim recording 1"  # the damping was not set in the viewer, then
MOST_STEPS = 10**9  # of a recording: four months without a pause
VARIATIONAL = "variational"  # reduced models by `variational_step`, the full model by backward Euler, whose form in displacements it is
SCHEMES: dict[str, Scheme] = {VARIATIONAL: backward_euler, "backward Euler": backward_euler, "BDF2": bdf2, "Newmark": newmark}


@dataclass(frozen=True)
class Inputs:
    """What acts on a step: its length dt [s], the scheme, amplitudes of the loads, places (3,) [m] that vertices are pulled to, the damping,
    and, with the dynamics off, the latent coordinates that the first body is put at."""

    dt: float
    scheme: str
    loads: dict[str, tuple[float, ...]]
    pulls: dict[int, tuple[float, ...]]
    damping: Rayleigh
    pose: tuple[float, ...] | None = None

    def __post_init__(self):
        positive("dt", self.dt)
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme is {self.scheme!r}; expected one of {', '.join(SCHEMES)}")


@dataclass
class Recording:
    """Inputs from the step on which each began to act, for a number of steps; grip is the stiffness [N/m] of the pulls."""

    fingerprint: str
    grip: float
    steps: int = 0
    changes: list[tuple[int, Inputs]] = field(default_factory=list)

    def note(self, inputs: Inputs) -> None:
        """Add a step."""
        if not self.changes or self.changes[-1][1] != inputs:
            self.changes.append((self.steps, inputs))
        self.steps += 1

    def inputs(self, step: int) -> Inputs:
        """Those of a step, counted from zero."""
        return self.changes[bisect_right(self.changes, step, key=lambda change: change[0]) - 1][1]

    @property
    def duration(self) -> float:
        """[s]"""
        ends = [step for step, _ in self.changes[1:]] + [self.steps]
        return sum((end - start) * inputs.dt for (start, inputs), end in zip(self.changes, ends, strict=True))

    def save(self, path: Path | str) -> Path:
        """Write the recording. Raises OSError naming the path."""
        return write_atomically(path, json.dumps({"format": FORMAT, **asdict(self)}) + "\n")

    @classmethod
    def load(cls, path: Path | str, full: FullModel, loads: dict[str, int]) -> Recording:
        """Read a recording for a full model and loads with so many components each.

        Raises FileNotFoundError, or ValueError naming the file and what is wrong with it."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"recording {path} does not exist or is no file")
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] not in (FORMAT, UNDAMPED_FORMAT):
                raise ValueError(f"its format is {data['format']!r}, this version reads {FORMAT!r} and {UNDAMPED_FORMAT!r}")
            own = {"damping": asdict(full.damping)} if data["format"] == UNDAMPED_FORMAT else {}
            changes = [(int(step), _inputs(own | inputs)) for step, inputs in data["changes"]]
            recording = cls(data["fingerprint"], positive("grip", float(data["grip"])), int(data["steps"]), changes)
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is corrupt or not a recording ({error}); expected one that the viewer saved") from None
        except ValueError as error:
            raise ValueError(f"recording {path} cannot be replayed: {error}") from None
        if recording.fingerprint != full.fingerprint:
            raise ValueError(
                f"recording {path} was made with another body (fingerprint {recording.fingerprint}; expected {full.fingerprint}); "
                "replay it with the model that it was made with"
            )
        recording._check(path, full, loads)
        return recording

    def _check(self, path: Path | str, full: FullModel, loads: dict[str, int]) -> None:
        starts = [step for step, _ in self.changes]
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts or self.steps <= starts[-1]:
            raise ValueError(f"recording {path} has no steps or steps out of order; expected changes at increasing steps from 0")
        if self.steps > MOST_STEPS:
            raise ValueError(f"recording {path} has {self.steps} steps; expected at most {MOST_STEPS}")
        for step, inputs in self.changes:
            here = {name: len(amplitudes) for name, amplitudes in inputs.loads.items()}
            if here != loads:
                raise ValueError(f"recording {path} has the loads {here} at step {step}; expected {loads}")
            numbers = [*chain(*inputs.loads.values(), *inputs.pulls.values()), *(inputs.pose or ())]
            if not all(map(isfinite, numbers)):
                raise ValueError(f"recording {path} holds a number that is not finite at step {step}; expected finite loads and places")
            for vertex, place in inputs.pulls.items():
                if not 0 <= vertex < len(full.mesh.vertices) or full.pinned[vertex] or len(place) != 3:
                    raise ValueError(f"recording {path} pulls vertex {vertex} at step {step}, which is not a free vertex of the mesh")


def _inputs(data: dict) -> Inputs:
    numbers = partial(map, float)
    return Inputs(
        float(data["dt"]),
        data["scheme"],
        {name: tuple(numbers(amplitudes)) for name, amplitudes in data["loads"].items()},
        {int(vertex): tuple(numbers(place)) for vertex, place in data["pulls"].items()},
        Rayleigh(**{name: float(value) for name, value in data["damping"].items()}),
        None if data["pose"] is None else tuple(numbers(data["pose"])),
    )
