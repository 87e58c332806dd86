"""Time and memory of every stage on beams of 1.5k to 1M degrees of freedom: what must not grow with the mesh is the reduced step.

The same physical beam, 1 x 3/32 x 3/32 m, StVK, held at x = 0, on finer and finer meshes, one process and one thread each. A few poses of
the full model, pushed about at its tip, give the principal directions; the reduced models are PCA and a decoder with a random trunk, both
with six unknowns and 30 cubature elements. Steps are of 0.01 s under a constant force to a relative residual of 1e-5, full and
reduced alike; medians. The reduced steps of all sizes are timed side by side, in rounds, so that a machine whose speed changes slows all alike.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hodsim.benchmarks.apart import process
from hodsim.benchmarks.chart import png
from hodsim.benchmarks.memory import peak, reset_peak
from hodsim.dynamics import Advance, simulate, step
from hodsim.fem import FullModel, Load, StVK
from hodsim.mesh import TetMesh
from hodsim.reduced import CompiledStep, Cubature, ReducedModel, variational_step
from hodsim.report.machine import environment
from hodsim.snapshots import bending_loads
from hodsim.storage import write_atomically
from hodsim.subspace import Autoencoder, Subspace, pca, principal_directions

DIVISIONS = {"1.5k": (32, 3, 3), "10k": (64, 6, 6), "100k": (149, 14, 14), "1M": (330, 31, 31)}
SIZE = (1.0, 3 / 32, 3 / 32)  # [m]
DT = 0.01
POSES, POSE_DT, POSE_TOLERANCE = 10, 0.05, 1e-3
POSE_AMPLITUDES, POSE_RHYTHMS = np.array([0.2, 0.2, 0.2, 0.02]), np.array([3.0, 7.0, 17.0, 29.0])  # [1/s]
DIM, COORDINATES, HIDDEN, ELEMENTS = 6, 8, (32, 32), 30
REDUCED_STEPS, ROUNDS = 100, 15
FORMS: dict[str, Callable[[ReducedModel], Advance]] = {  # how a reduced model is advanced
    "Euler-Lagrange": lambda model: step,
    "variational": lambda model: variational_step,
    "compiled": CompiledStep,  # of the variational form
}


Progress = Callable[..., None]
Row = dict[str, Any]  # seconds, peak memory [MiB], and of steps the mean iterations
Reduced = dict[str, tuple[ReducedModel, Advance, np.ndarray | Load]]  # by name: model, how it is advanced, load

KEPT: dict[tuple[int, int, int], Reduced] = {}  # in the process that measured a size: its reduced models, for the rounds


class Stages:
    """Collects the seconds and the peak memory [MiB] of named stages."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        reset_peak()
        start = time.perf_counter()
        yield
        self.rows[name] = {"seconds": time.perf_counter() - start, "peak_mib": peak()}

    def median(self, name: str, f: Callable[[], Any], *, seconds: float = 0.3) -> None:
        """Call f again and again for some time, at least three times."""
        f()
        reset_peak()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            f()
            times.append(time.perf_counter() - start)
        self.rows[name] = {"seconds": statistics.median(times), "peak_mib": peak()}


def measure(divisions: tuple[int, int, int]) -> dict[str, Any]:
    """All stages of one size, in this process."""
    with threadpool_limits(1), torch.no_grad():
        return _measure(divisions)


def _measure(divisions: tuple[int, int, int]) -> dict[str, Any]:
    stages = Stages()
    with stages.stage("mesh"):
        mesh = TetMesh.box(SIZE, divisions)
    with stages.stage("full model"):
        full = FullModel(mesh, StVK(youngs_modulus=1e6, poisson_ratio=0.4), density=1e3, pinned=mesh.vertices[:, 0] == 0)
    with stages.stage("load shapes"):
        shapes = bending_loads(full)
    force = shapes["tip"] @ [0.0, 0.03, 0.06]
    u = np.zeros(full.n_dofs)
    stages.median("force", lambda: full.internal_force(u))
    stages.median("tangent", lambda: full.stiffness(u))
    stages.rows["first full step"], stages.rows["full step"] = _step_times(full, force, 1), _step_times(full, force, 4)
    with stages.stage(f"{POSES} poses"):
        poses = _poses(full, np.concatenate([shapes["tip"], shapes["twist"]], axis=1))
    with stages.stage("PCA"):
        linear = pca(poses, DIM, mass=full.mass)
    with stages.stage("network"):
        curved = _random_decoder(full, poses)
    found: dict[str, Any] = {
        "n_dofs": full.n_dofs, "tetrahedra": len(mesh.tetrahedra), "solver": type(full.solver).__name__,
        "tip": float(np.linalg.norm(full.full_displacement(poses[-1])[mesh.vertices[:, 0] == SIZE[0]].mean(axis=0))),
    }  # fmt: skip
    kept: Reduced = {}
    for subspace in (linear, curved):
        with stages.stage(f"cubature, {subspace.name}"):
            cubature = Cubature.select(full, subspace, poses, tolerance=1e-12, elements=ELEMENTS)
        with stages.stage(f"reduced model, {subspace.name}"):
            reduced = ReducedModel(full, subspace, elasticity=cubature)
        load = reduced.generalized_force(force)
        for form, advance in FORMS.items():
            kept[f"reduced step, {subspace.name}, {form}"] = reduced, advance(reduced), load
        found[f"elements, {subspace.name}"] = len(cubature.chosen)
    _measure_decoding(full, curved, stages)
    KEPT[divisions] = kept
    return {**found, "stages": stages.rows}


def reduced_times(divisions: tuple[int, int, int]) -> dict[str, Row]:
    """One round of a size that this process has measured: the rows of its reduced steps."""
    with threadpool_limits(1), torch.no_grad():
        return {name: _step_times(model, load, REDUCED_STEPS, advance=advance) for name, (model, advance, load) in KEPT[divisions].items()}


def _poses(full: FullModel, shapes: np.ndarray) -> np.ndarray:
    """Displacements (POSES, d) of the body under the load shapes (d, 4), three forces on the tip and a twist, each at a rhythm of its own."""
    load = Load(shapes, lambda time: POSE_AMPLITUDES * np.sin(POSE_RHYTHMS * time))
    states = simulate(full, full.state(), POSE_DT, force=load, steps=POSES, tolerance=POSE_TOLERANCE)
    return np.array([state.q for state in states], np.float32)


def _step_times(system, force: np.ndarray | Load, steps: int, *, advance: Advance = step) -> Row:
    """Steps timed one by one, from rest: the median time of a Newton iteration times the mean number of iterations."""
    reset_peak()
    times, iterations, start = [], [], time.perf_counter()
    for state in simulate(system, system.state(), DT, force=force, steps=steps, advance=advance):
        now = time.perf_counter()
        times.append((now - start) / max(1, state.iterations))
        iterations.append(state.iterations)
        start = now
    mean = statistics.mean(iterations)
    return {"seconds": statistics.median(times) * mean, "peak_mib": peak(), "iterations": mean}


def _random_decoder(full: FullModel, poses: np.ndarray) -> Subspace:
    """An untrained autoencoder: principal directions plus a little of a random perceptron."""
    basis, energies = principal_directions(poses, COORDINATES, mass=full.mass)
    deviations = torch.from_numpy(np.sqrt(energies))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Autoencoder(deviations, DIM, HIDDEN)
        network.last.weight[:, DIM:] = 0.05 * deviations[:, None] * torch.randn(COORDINATES, HIDDEN[-1], dtype=torch.float64)
    return network.fold(basis, mass=full.mass, name="network")


def _measure_decoding(full: FullModel, subspace: Subspace, stages: Stages) -> None:
    """A displacement for display is one product, u0 + W g: of all vertices or of those on the surface, in double or single precision."""
    g = subspace.features(np.full(subspace.dim, 0.1))
    number = np.cumsum(~full.pinned) - 1  # of each free vertex
    shown = np.unique(full.mesh.surface)
    shown = number[shown[~full.pinned[shown]]]
    rows = (3 * shown[:, None] + np.arange(3)).ravel()
    for what, chosen in (("whole", slice(None)), ("surface", rows)):
        for dtype in (np.float64, np.float32):
            W, u0, features = subspace.basis[chosen].astype(dtype), subspace.origin[chosen].astype(dtype), g.astype(dtype)
            stages.median(f"decode {what}, {np.dtype(dtype).name}", lambda W=W, u0=u0, features=features: u0 + W @ features)


def run(output: Path, quick: bool = False, progress: Progress = lambda *_, **__: None) -> dict:
    """Measure, and write scale.json, scale.md and scale.png into the directory `output`. quick: the two smaller sizes."""
    chosen = dict(list(DIVISIONS.items())[: 2 if quick else None])
    work, sizes, rounds = len(chosen) + ROUNDS, {}, []
    with ExitStack() as opened:
        submit = {name: opened.enter_context(process()) for name in chosen}  # the memory of one size is not the next one's
        for name, divisions in chosen.items():
            progress(len(sizes), work, note=name)
            sizes[name] = submit[name](measure, divisions).result()
        for done in range(ROUNDS):
            progress(len(sizes) + done, work, note="reduced steps")
            rounds.append({name: submit[name](reduced_times, divisions).result() for name, divisions in chosen.items()})
    progress(work, work, note="")
    growth = {name: _growth(rounds, name) for name in rounds[0][next(iter(chosen))]}
    for size, found in sizes.items():
        for name in growth:
            rows = [of_all[size][name] for of_all in rounds]
            found["stages"][name] = {**rows[0], "seconds": statistics.median(row["seconds"] for row in rows)}
    report = {"quick": quick, "machine": environment(), "sizes": sizes, "growth": growth}
    write_atomically(output / "scale.json", json.dumps(report, indent=1))
    write_atomically(output / "scale.md", _table(report))
    write_atomically(output / "scale.png", _figure(report))
    return report


def _growth(rounds: list[dict[str, dict[str, Row]]], name: str) -> float:
    """The greatest over the least time of a Newton iteration among the sizes: medians over the rounds, of times relative to the first size's."""
    times = np.array([[rows[name]["seconds"] / rows[name]["iterations"] for rows in of_all.values()] for of_all in rounds])  # (rounds, sizes)
    relative = np.median(times / times[:, :1], axis=0)
    return float(relative.max() / relative.min())


def _table(report: dict) -> str:
    sizes, machine = report["sizes"], report["machine"]
    first = next(iter(sizes.values()))["stages"]
    names = list(first)
    lines = [f"# Scale: {machine['processor']}, one thread, commit {machine['commit']}", "",
             "Rough figures: a quick run.\n" if report["quick"] else "",
             "Seconds, and in brackets the peak of the process's memory [GiB].", "",
             "| stage | " + " | ".join(f"{name}: {size['n_dofs']} dofs, {size['tetrahedra']} tetrahedra" for name, size in sizes.items()) + " |",
             "|---" * (len(sizes) + 1) + "|"]
    for name in names:
        cells = [_cell(size["stages"][name]) for size in sizes.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in (name for name in names if "iterations" in first[name]):
        lines.append(f"| iterations, {name} | " + " | ".join(f"{size['stages'][name]['iterations']:.2f}" for size in sizes.values()) + " |")
    lines.append("| solver | " + " | ".join(size["solver"] for size in sizes.values()) + " |")
    lines += ["", "Time of a Newton iteration of a reduced step, slowest over fastest size:", ""]
    lines += [f"- {name}: {growth:.2f}" for name, growth in report["growth"].items()]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, float | None]) -> str:
    memory = row["peak_mib"]
    return f"{row['seconds']:.3g}" + ("" if memory is None else f" ({memory / 1024:.2f})")


OFFLINE = ("mesh", "full model", "load shapes", f"{POSES} poses", "PCA", "cubature, network", "reduced model, network")
ONLINE = ("full step", "tangent", "force", "reduced step, network, Euler-Lagrange", "reduced step, network, variational",
          "reduced step, network, compiled", "decode whole, float64", "decode surface, float32")


def _figure(report: dict) -> bytes:
    """Against the number of degrees of freedom: the time of what is done once, of what is done again and again, and peak memory."""
    from matplotlib.figure import Figure

    sizes = list(report["sizes"].values())
    dofs = [size["n_dofs"] for size in sizes]
    figure = Figure(figsize=(17, 5.5), layout="constrained")
    once, again, memory = figure.subplots(1, 3)
    for axes, names in ((once, OFFLINE), (again, ONLINE)):
        for name in names:
            axes.loglog(dofs, [size["stages"][name]["seconds"] for size in sizes], "-o", markersize=4, label=name)
    for name in (*OFFLINE, "full step"):
        memory.loglog(dofs, [(size["stages"][name]["peak_mib"] or np.nan) / 1024 for size in sizes], "-o", markersize=4, label=name)
    memory.axhline(24, color="black", linewidth=0.8, linestyle=":", label="24 GiB")
    once.set(ylabel="seconds", title="done once, one thread")
    again.set(ylabel="seconds", title="done again and again, one thread")
    memory.set(ylabel="GiB", title="peak memory of the process in each stage")
    for axes in (once, again, memory):
        axes.set_xlabel("degrees of freedom")
        axes.set_xticks(dofs, report["sizes"], minor=False)
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return png(figure, 120)
