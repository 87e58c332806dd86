"""Reduced simulation of the beam against the full model at its best: accuracy, time, Newton iterations, failed steps; one thread.

The beam of meshes/beam.msh, StVK, r = 6. Its snapshots and the training are made once in the output folder and used again. Five parts:

    models    the network with its cubature, without, and in Euler-Lagrange form; PCA of 6, 12 and 20 directions with the cubic polynomial
              force (Barbic & James 2005) and with cubature, PCA at the network's cost, the quadratic manifold: `hodsim report` without its page
    kernel    a step of the network against its own multiply-adds at the speed of a matrix product in the same process
    batches   steps a second of B rollouts, one by one on one thread and at once on all
    endurance ten minutes of simulated time under random loads of up to three times those of the training, each second another
    regimes   what the second and third derivative of the decoder buy: Newton iterations and failed steps of the Euler-Lagrange form with
              the exact tangent, without D^3 f, and without D^2 f and D^3 f, over amplitude, dt and stiffness

simkit and neural-physics-subspaces have no installable package (November 2026); they are named as absent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from hodsim.benchmarks.chart import png
from hodsim.dynamics import State, simulate, step
from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.reduced import CompiledStep, Cubature, ReducedModel, Sampling, choose_cubature, kernel, subspace_error
from hodsim.report import contenders, evaluate, summary
from hodsim.snapshots import Snapshots, bending_loads, generate_snapshots, sweep
from hodsim.solve import ConvergenceError, Dense
from hodsim.storage import write_atomically
from hodsim.subspace import Model
from hodsim.trainers.autoencoder import Training, train_autoencoder

DT, STEPS = 0.01, 200
BATCHES = (1, 2, 4, 8, 16, 32, 64)
TANGENTS = ("exact", "without D3", "without D2 and D3")
ABSENT = ("simkit", "neural-physics-subspaces")


def run(output: Path, quick: bool) -> None:
    """Measure and write simulation.json, simulation.md and simulation.png."""
    output.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        report = measure(output / "simulation", quick)
    write_atomically(output / "simulation.json", json.dumps(report, indent=1))
    write_atomically(output / "simulation.md", table(report))
    write_atomically(output / "simulation.png", figure(report))


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    full, snapshots, model, curve = prepare(folder, quick)
    shapes = bending_loads(full)
    sampled = ReducedModel.of(model)
    forces = random_forces(sampled, shapes, STEPS)
    return {
        "quick": quick,
        "absent": list(ABSENT),
        **models(full, snapshots, model, curve, quick),
        "kernel": kernel_time(sampled, forces),
        "threads": numba.get_num_threads(),
        "batches": batches(sampled, forces, quick),
        "endurance": endurance(sampled, shapes, 60.0 if quick else 600.0),
        "regimes": regimes(model, quick),
    }


def sampled_beam(folder: Path, quick: bool) -> tuple[FullModel, Snapshots]:
    """The full model and its snapshots; those that lie in the folder are used."""
    with as_file(files("hodsim.meshes") / "beam.msh") as file:
        mesh = TetMesh.load(file)
    full = beam(mesh)
    sizes = {"train": 24, "validation": 4, "test": 4} if quick else {"train": 100, "validation": 10, "test": 20}
    cases = sweep(**sizes, duration=STEPS * DT)
    return full, generate_snapshots(full, bending_loads(full), cases, dt=DT, steps=STEPS, directory=folder / "snapshots")


def prepare(folder: Path, quick: bool) -> tuple[FullModel, Snapshots, Model, tuple[Sampling, ...]]:
    """The full model, its snapshots, a trained model with cubature and the curve of its elements; whatever lies in the folder is used."""
    folder /= "quick" if quick else "full"
    full, snapshots = sampled_beam(folder, quick)
    shapes = bending_loads(full)
    file, training = folder / "model.hod", replace(Training(), **({"epochs": 60, "rounds": 1} if quick else {}))
    if file.exists():
        model = Model.load(file, full=full)
    else:
        judge = partial(subspace_error, full, snapshots.split("validation"), shapes)
        subspace, *_ = train_autoencoder(full, snapshots, training, checkpoint=folder / "checkpoint.safetensors", judge=judge)
        cubature, curve = choose_cubature(full, subspace, snapshots, shapes)
        notes = {"dt": DT, "cubature": [asdict(sampling) for sampling in curve]}
        model = Model(full, subspace, notes, (cubature.chosen, cubature.weights))
        model.save(file)
    return full, snapshots, model, tuple(Sampling(**sampling) for sampling in model.notes["cubature"])


def beam(mesh: TetMesh, youngs_modulus: float = 1e6) -> FullModel:
    return FullModel(mesh, StVK(youngs_modulus, 0.4), density=1e3, pinned=mesh.vertices[:, 0] < 1e-9)


def models(full: FullModel, snapshots: Snapshots, model: Model, curve: tuple[Sampling, ...], quick: bool) -> dict[str, Any]:
    """report.json of all models on the test cases."""
    cases = [case for case in snapshots.cases if case.split == "test"]
    evaluation = evaluate(full, contenders(model, snapshots, bending_loads(full)), cases, bending_loads(full), dt=DT, steps=STEPS, frames=2)
    return summary(evaluation, offline={"snapshots_s": float(snapshots.seconds.sum()), "training_s": 0.0}, rough=quick, samplings=curve)


def random_forces(reduced: ReducedModel, shapes: dict[str, np.ndarray], steps: int, scale: float = 0.5) -> np.ndarray:
    """Smooth random tip forces and twists (steps, m) in feature space."""
    times, rng = DT * np.arange(1, steps + 1), np.random.default_rng(0)
    columns = np.concatenate([shapes["tip"], shapes["twist"]], axis=1)
    waves = np.sin(2 * np.pi * (rng.uniform(0.3, 2, columns.shape[1]) * times[:, None] + rng.random(columns.shape[1])))
    return scale * waves @ (reduced.subspace.basis.T @ columns).T


def timed(f: Callable[[], Any], seconds: float = 0.5) -> float:
    """Median seconds of a call."""
    f()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        f()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def kernel_time(reduced: ReducedModel, forces: np.ndarray) -> dict[str, float]:
    """A step's microseconds, its iterations, its multiply-adds, and how many a matrix product does in that time."""
    advance = CompiledStep(reduced)
    seconds = timed(lambda: advance.rollout(reduced.state(), DT, forces)) / len(forces)
    iterations = float(advance.rollout(reduced.state(), DT, forces).iterations.mean())
    residual, tangent = multiply_adds(advance.plan(DT))
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 256, 256))
    peak = 256**3 / timed(lambda: A @ B)
    count = (1 + iterations) * residual + iterations * tangent
    return {
        "us_per_step": 1e6 * seconds, "newton_iterations": iterations, "multiply_adds_per_step": count, "peak_multiply_adds_per_s": peak,
        "times_its_multiply_adds_at_peak": seconds / (count / peak),
    }  # fmt: skip


def multiply_adds(plan: kernel.Plan) -> tuple[float, float]:
    """Of a residual, values and a reverse sweep, and of a tangent, r lanes, in the variational form; padding does not count.

    An element's stress is some 60, its variation 81 and 9 more a direction; a neuron's activation some 20."""
    r, m = int(plan.widths[0]), plan.strain.shape[1]
    layers = [int(a) * int(b) for a, b in pairwise(plan.widths)]
    elements, neurons = int(np.count_nonzero(plan.volumes)), int(plan.widths[1:].sum())
    rows = 9 * elements + len(plan.pull) + len(plan.tethers)
    residual = 2 * (sum(layers) + plan.mixing.size + rows * m) + 60 * elements + 20 * neurons
    lanes = sum(layers[1:]) + neurons + plan.mixing.size + rows * m + 90 * elements  # the first layer's are constant
    return float(residual), float(r * lanes + r * r * (rows + neurons))


def batches(reduced: ReducedModel, forces: np.ndarray, quick: bool) -> list[dict[str, float]]:
    """Steps a second of B rollouts under scaled copies of one load: one after the other, and at once on all of numba's threads."""
    advance, found = CompiledStep(reduced), []
    for B in BATCHES[:4] if quick else BATCHES:
        states, loads = [reduced.state()] * B, np.linspace(0.2, 1.0, B)[:, None, None] * forces

        def each(states=states, loads=loads):
            return [advance.rollout(state, DT, load) for state, load in zip(states, loads, strict=True)]

        def at_once(states=states, loads=loads):
            return advance.rollouts(states, DT, loads)

        found.append({"B": B, "one by one": B * len(forces) / timed(each, 0.3), "at once": B * len(forces) / timed(at_once, 0.3)})
    return found


def endurance(reduced: ReducedModel, shapes: dict[str, np.ndarray], seconds: float) -> dict[str, Any]:
    """Every second new constant forces at the tip and twists, up to three times the training's; after a failure from rest again."""
    advance, rng, start, failures = CompiledStep(reduced), np.random.default_rng(0), reduced.state(), []
    columns = reduced.subspace.basis.T @ np.concatenate([shapes["tip"], shapes["twist"]], axis=1)
    finite, taken, farthest, steps = True, 0, 0.0, round(1 / DT)
    for second in range(round(seconds)):
        direction = rng.standard_normal(columns.shape[1])
        force = columns @ (direction * rng.uniform(0, 3) / np.linalg.norm(direction))
        run = advance.rollout(start, DT, np.tile(force, (steps, 1)))
        finite &= bool(np.isfinite(run.q).all() and np.isfinite(run.v).all())
        taken += len(run.q)
        farthest = max(farthest, float(np.abs(reduced.subspace.decode(run.q[::10])).max()) if len(run.q) else 0.0)
        if run.failure is None:
            before, last = (State(DT * i, run.q[i], run.v[i], run.a[i]) for i in (-2, -1))
            start = replace(last, time=second + 1.0, previous=before)
        else:
            failures.append(str(run.failure))
            start = reduced.state()
    return {"simulated_s": seconds, "steps": taken, "finite": finite, "largest_displacement_m": farthest, "failures": failures}


class Truncated:
    """A reduced model whose tangent lacks the terms with D^3 f, and with D^2 f if second is False; its residual is exact."""

    def __init__(self, model: ReducedModel, *, second: bool):
        self._model, self._second, self.rounding_force = model, second, model.rounding_force
        self.residual = model.residual

    def tangent(self, q: np.ndarray, v: np.ndarray, a: np.ndarray, s1: float, s2: float, force: np.ndarray) -> Dense:
        model = self._model
        motion, _ = model.evaluate(q, v)
        Dg = motion.jacobian
        if self._second:
            third = Dg.T @ model.mass @ motion.third
            return Dense(model.tangent_matrix(q, v, a, s1, s2, force) - third)
        return Dense(Dg.T @ (s2 * model.mass + s1 * model.damping) @ Dg + model.elasticity.stiffness(motion.value, Dg))


def regimes(model: Model, quick: bool) -> list[dict[str, Any]]:
    """Newton iterations a step and steps completed, by amplitude of the load, dt [s] and Young's modulus [Pa]."""
    assert model.cubature is not None
    found = []
    amplitudes, intervals, moduli = ((0.3, 1.0), (0.01,), (1e6,)) if quick else ((0.3, 1.0, 2.0), (0.01, 0.03, 0.1), (1e5, 1e6))
    for modulus in moduli:
        full = beam(model.full.mesh, modulus)
        reduced = ReducedModel(full, model.subspace, elasticity=Cubature(full, model.subspace, *model.cubature))
        # the load of the model that was trained: a softer body goes farther
        load = model.subspace.basis.T @ (bending_loads(model.full)["tip"] @ [0.0, 0.6, 0.8])
        systems = dict(zip(TANGENTS, (reduced, Truncated(reduced, second=True), Truncated(reduced, second=False)), strict=True))
        for amplitude in amplitudes:
            for dt in intervals:
                row: dict[str, Any] = {"youngs_modulus": modulus, "amplitude": amplitude, "dt": dt}
                for name, system in systems.items():
                    row[name] = completed(partial(simulate, system, reduced.state(), dt, force=amplitude * load, advance=step), round(0.6 / dt))
                found.append(row)
    return found


def completed(start: Callable[..., Any], steps: int) -> dict[str, float]:
    states: list[State] = []
    try:
        states += start(steps=steps)
    except ConvergenceError as error:
        return {"newton_iterations": float("nan"), "steps": error.step - 1, "of": steps}
    return {"newton_iterations": float(np.mean([state.iterations for state in states])), "steps": len(states), "of": steps}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    full, time_of, batch, lasting = report["full"], report["kernel"], report["batches"], report["endurance"]
    lines = [
        "# Reduced simulation of the beam",
        "",
        f"{report['dofs']} degrees of freedom, {len(report['cases'])} held-out cases of {report['steps']} steps of {report['dt']} s, one thread; "
        f"every step to a relative residual of {report['tolerance']:g}." + (" **Rough figures: --quick.**" if report["quick"] else ""),
        f"The full model takes {full['ms_per_step']['p50']:.2f} ms and {full['newton_iterations']:.2f} Newton iterations a step. "
        f"Not measured, for want of a package: {', '.join(report['absent'])}.",
        "",
        "| model | elasticity | tip error, mean | median | worst | us a step | Newton iterations | failed steps | speed-up |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in report["models"]:
        tip = model["tip_error"]
        lines.append(
            f"| {model['name']} | {model['elasticity']} | {100 * tip['mean']:.2f} % | {100 * tip['median']:.2f} % | {100 * tip['max']:.2f} % "
            f"| {1e3 * model['ms_per_step']['p50']:.1f} | {model['newton_iterations']:.2f} | {model['failed_steps']} | {model['speedup']:.1f} |"
        )
    lines += [
        "",
        f"A step of the network takes {time_of['us_per_step']:.1f} us, {time_of['times_its_multiply_adds_at_peak']:.1f} times what its own "
        f"{time_of['multiply_adds_per_step'] / 1e3:.0f} thousand multiply-adds take at the "
        f"{time_of['peak_multiply_adds_per_s'] / 1e9:.0f} G/s of a matrix product of order 256.",
        "",
        f"| rollouts | steps/s, one by one | steps/s, at once on {report['threads']} threads |",
        "|---|---|---|",
        *(f"| {row['B']} | {row['one by one']:,.0f} | {row['at once']:,.0f} |" for row in batch),
        "",
        f"{lasting['simulated_s']:g} s under random loads of up to three times the training's: {lasting['steps']} steps, "
        f"{'no' if lasting['finite'] else 'A'} value that is not finite, {len(lasting['failures'])} failed steps, displacements of up to "
        f"{lasting['largest_displacement_m']:.2f} m.",
        "",
        "Newton iterations a step of the Euler-Lagrange form by what the tangent contains, and steps done where one failed:",
        "",
        "| E [Pa] | amplitude | dt [s] | " + " | ".join(TANGENTS) + " |",
        "|---|---|---|" + "---|" * len(TANGENTS),
    ]
    for row in report["regimes"]:
        cells = [f"{row[name]['newton_iterations']:.2f}" if row[name]["steps"] == row[name]["of"] else f"failed after {row[name]['steps']}"
                 for name in TANGENTS]  # fmt: skip
        lines.append(f"| {row['youngs_modulus']:g} | {row['amplitude']:g} | {row['dt']:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(report: dict[str, Any]) -> bytes:
    """Error against cost of every model, and the error by which the elements were chosen."""
    drawing = Figure((11, 4.2), layout="constrained")
    cost, elements = drawing.subplots(1, 2)
    drawn: list[np.ndarray] = []
    for model in report["models"]:
        network = model["name"].startswith("HoD")
        x, y = 1e3 * model["ms_per_step"]["p50"], 100 * model["tip_error"]["mean"]
        cost.loglog(x, y, "o" if network else "s", color="#0072b2" if network else "#d55e00")
        place = np.log10([x, y])
        close = any((np.abs(place - other) < 0.1).all() for other in drawn)  # to a point whose label lies above
        cost.annotate(model["name"], (x, y), (5, -10 if close else 4), textcoords="offset points", fontsize=8)
        drawn.append(place)
    cost.axvline(1e3 * report["full"]["ms_per_step"]["p50"], color="#5c626b", linestyle="--")
    cost.set(xlabel="a step [us]; dashed: the full model", ylabel="mean tip error [%]")
    cost.margins(0.2)
    *some, everything = report["cubature"]
    sizes = [sampling["elements"] for sampling in some]
    elements.loglog(sizes, [100 * sampling["error"] for sampling in some], "o-", color="#0072b2", label="validation rollouts")
    refined = [(sampling["elements"], 100 * sampling["refined"]) for sampling in some if sampling["refined"] is not None]
    if refined:
        elements.loglog(*zip(*refined, strict=True), "^-", color="#009e73", label="weights refined by rollouts")
    elements.loglog(sizes, [100 * sampling["validation_fit"] for sampling in some], "s--", color="#d55e00", label="fit on validation poses")
    elements.axhline(100 * everything["error"], color="#0072b2", linestyle=":", label=f"all {everything['elements']} elements")
    elements.set(xlabel="elements", ylabel="error [%]")
    elements.legend(frameon=False)
    return png(drawing, 130)
