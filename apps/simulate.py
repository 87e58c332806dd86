"""`hodsim simulate`: move a model under a constant load, from the shell."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hodsim import dynamics, fem
from hodsim.apps.arguments import ModelPath, Set, model_file, time_step, trained_under
from hodsim.apps.console import progress_bar, say
from hodsim.checks import finite
from hodsim.fem import FullModel
from hodsim.mesh import MOTIONS, TetMesh, save_motion
from hodsim.reduced import CompiledStep, ReducedModel, simulate_with_fallback
from hodsim.report import Body, Scene, animation, picture
from hodsim.storage import write_atomically
from hodsim.subspace import Model

VARIATIONAL = "variational"  # a network's best form of backward Euler, which is what the full model then takes
FRAMES_PER_SECOND = 50
OUTPUTS = (".mp4", ".gif", ".png", ".csv", *MOTIONS)


def simulate(
    model: ModelPath,
    output: Annotated[Path, typer.Option(help="Film (.mp4, .gif), last picture (.png), path of the tip (.csv); for ParaView (.pvd), "
                                          "a file a frame (.ply, .obj, .glb), USD (.usd).")],
    tip: Annotated[tuple[float, float, float], typer.Option(help="Force at the tip, in units of the training loads.")] = (0, 0, 0),
    body: Annotated[tuple[float, float, float], typer.Option(help="Force on the whole body, likewise.")] = (0, 0, -0.5),
    twist: Annotated[float, typer.Option(help="Couple about the axis, likewise.")] = 0.0,
    traction: Annotated[
        tuple[str, float, float, float] | None, typer.Option(help="Force per area on a group of the mesh or a side, x-max for one: NAME X Y Z [Pa].")
    ] = None,
    force: Annotated[
        tuple[str, float, float, float] | None, typer.Option(help="Force in all on a group of the mesh or a side, x-max for one: NAME X Y Z [N].")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 200,
    dt: Annotated[float | None, typer.Option(help="Time step in seconds; default: that of the training.")] = None,
    scheme: Annotated[str, typer.Option(help=", ".join((VARIATIONAL, *dynamics.SCHEMES)))] = VARIATIONAL,
    compare: Annotated[bool, typer.Option(help="Run the full model beside it.")] = False,
    fallback: Annotated[bool, typer.Option(help="Let the full model take over where the error indicator shows red.")] = False,
    set: Set = None,
) -> None:
    """Simulate a model under a load that is switched on at rest and kept, and save its motion.

    Example: hodsim simulate out/beam/model.hod --tip 0 0 -0.8 --output out/swing.mp4
    """
    if scheme not in (VARIATIONAL, *dynamics.SCHEMES):
        raise ValueError(f"scheme is {scheme!r}; expected one of {', '.join((VARIATIONAL, *dynamics.SCHEMES))}")
    if output.suffix not in OUTPUTS:
        raise ValueError(f"output is {output}; expected a name that ends in one of {', '.join(OUTPUTS)}")
    file, wanted = model_file(model, set)
    loaded = Model.load(file)
    full, reduced = loaded.full, ReducedModel.of(loaded)
    shapes = trained_under(loaded)
    given = (("tip", tip), ("body", body), ("twist", (twist,)))
    load = np.sum([shapes[name] @ finite(f"--{name}", np.array(amplitudes, float)) for name, amplitudes in given], axis=0)
    for named, on_group in ((traction, fem.group_traction), (force, fem.group_force)):
        if named is not None:
            load = load + on_group(full, named[0], named[1:])
    interval = time_step(dt, wanted, loaded.notes["dt"])
    run = partial(_run, dt=interval, steps=steps)
    integrator = dynamics.SCHEMES.get(scheme, dynamics.backward_euler)
    motions = {}
    if compare:
        motions["full model"] = [state.q for state in run(full, load, "full model", advance=partial(dynamics.step, scheme=integrator))]
    name, form = loaded.subspace.name, "variational" if scheme == VARIATIONAL else "euler-lagrange"
    if fallback:
        motions[name] = guarded(reduced, load, dt=interval, steps=steps, integrator=integrator, form=form)
    else:
        advance = partial(CompiledStep(reduced, form=form), scheme=integrator)
        states = run(reduced, loaded.subspace.basis.T @ load, name, advance=advance)
        motions[name] = [reduced.displacement(state) for state in states]
        report_trust(reduced, states)
    fields = {label: np.array([full.full_displacement(u) for u in motion]) for label, motion in motions.items()}
    say(f"saved {save(output, full.mesh, fields, interval)}")


def _run(
    system: FullModel | ReducedModel, force: np.ndarray, label: str, *, dt: float, advance: dynamics.Advance, steps: int
) -> list[dynamics.State]:
    states, started = [], time.perf_counter()
    with progress_bar(f"{label} (steps)") as update:
        for number, state in enumerate(dynamics.simulate(system, system.state(), dt, force=force, advance=advance, steps=steps), 1):
            states.append(state)
            update(number, steps)
    seconds, iterations = time.perf_counter() - started, np.mean([state.iterations for state in states])
    say(f"{label}: {steps} steps of {dt} s, {1e3 * seconds / steps:.2f} ms and {iterations:.1f} Newton iterations a step")
    return states


def guarded(
    model: ReducedModel, force: np.ndarray, *, dt: float, steps: int, integrator: dynamics.Scheme, form: str
) -> list[np.ndarray]:
    """The motion of a model that falls back to the full one, and a word on how often it did."""
    taken = []
    with progress_bar(f"{model.subspace.name} (steps)") as update:
        for each in simulate_with_fallback(model, dt, force=force, steps=steps, scheme=integrator, form=form):
            taken.append(each)
            update(len(taken), steps)
    by_full = sum(each.by_full for each in taken)
    first = next((f", first at {each.time:.2f} s" for each in taken if each.by_full), "")
    say(f"the full model took {by_full} of {steps} steps{first}")
    return [each.displacement for each in taken]


def report_trust(model: ReducedModel, states: list[dynamics.State]) -> None:
    """What the model's indicator says of a motion, if it has one."""
    if (indicator := model.indicator) is None:
        return
    worst = max(states, key=indicator.estimate)
    say(f"estimated error up to {indicator.estimate(worst):.1%} of a typical motion, at {worst.time:.2f} s; five times out of six below "
        f"{indicator.bound(worst):.1%}")  # fmt: skip
    if (left := next((state for state in states if indicator.left(state)), None)) is not None:
        say(f"[yellow]it leaves the training range[/] at {left.time:.2f} s; --fallback lets the full model take over where it is not to be trusted")


def save(output: Path, mesh: TetMesh, fields: dict[str, np.ndarray], dt: float) -> Path:
    """Write displacement fields (steps, V, 3) as a film, a picture, the path of the vertex that moved farthest or a motion for others."""
    times = dt * np.arange(1, 1 + len(next(iter(fields.values()))))
    if output.suffix == ".csv":
        tip = int(np.argmax(np.linalg.norm(next(iter(fields.values())), axis=2).max(axis=0)))
        names = [f"{label} {axis}".replace(" ", "_") for label in fields for axis in "xyz"]
        rows = np.column_stack([times, *(field[:, tip] for field in fields.values())])
        lines = [f"time,{','.join(names)}"] + [",".join(f"{value:.9g}" for value in row) for row in rows]
        return write_atomically(output, "\n".join(lines) + "\n")
    if output.suffix in MOTIONS:
        with progress_bar("Writing (frames)") as update:
            named = {output if len(fields) == 1 else output.with_stem(f"{output.stem}-{label.replace(' ', '-')}"): field
                     for label, field in fields.items()}  # fmt: skip
            return [save_motion(file, mesh, field, times, progress=update) for file, field in named.items()][-1]
    stride = max(1, round(1 / (FRAMES_PER_SECOND * dt)))
    colours = dict(zip(fields, ("#5f6b7a", "#0072b2") if len(fields) > 1 else ("#0072b2",), strict=True))
    bodies = [Body(label, field[stride - 1 :: stride], colours[label]) for label, field in fields.items()]
    scene = Scene(mesh.vertices, mesh.surface, bodies, times[stride - 1 :: stride])
    if output.suffix == ".png":
        return picture(output, scene)
    with progress_bar("Drawing (frames)") as update:
        return animation(output, scene, fps=1 / (stride * dt), progress=update)
