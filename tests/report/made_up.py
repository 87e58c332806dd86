"""A made-up evaluation for tests of figures, pictures and pages: a strip that swings, errors that are chosen."""

import numpy as np

from hodsim.report import Evaluation, Failure, Record
from hodsim.report.machine import environment

CASES, STEPS, FRAMES = 5, 40, 6
TRIANGLES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])  # a slender tetrahedron
REST = np.array([[0.0, -0.1, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.2], [1.0, 0.0, 0.0]])


def record(name: str, r: int, scale: float, *, milliseconds: float, is_network: bool = False, lost: int = 0) -> Record:
    """A model whose motion is (1 - scale) times the full one's; in its first case the last `lost` steps are missing."""
    times, amplitudes = np.linspace(0.05, 2, STEPS), np.linspace(0.1, 0.5, CASES)
    swing = (1 - scale) * amplitudes[:, None] * np.sin(3 * times)
    tip = np.stack([0.2 * swing**2, 0.3 * swing, swing], axis=2)
    energy = 4 * swing**2
    seconds = 1e-3 * milliseconds * np.linspace(0.9, 1.1, STEPS) * np.ones((CASES, 1))
    iterations = np.full((CASES, STEPS), 2.0)
    failures = ()
    if lost:
        for array in (tip, energy, seconds, iterations):
            array[0, STEPS - lost :] = np.nan
        failures = (Failure(name, "test-0000", STEPS - lost + 1, 0.05 * (STEPS - lost + 1), "it was made to fail <&>", lost),)
    error = np.full(CASES, scale) * np.linspace(0.5, 1.5, CASES)
    frames = np.linspace(0, STEPS - 1, FRAMES).astype(int)
    surface = np.zeros((CASES, FRAMES, len(REST), 3), np.float32)
    surface[:, :, 3] = tip[:, frames]
    deviation = np.full((CASES, STEPS), scale) * np.linspace(0.5, 8, STEPS) if is_network else np.full((CASES, STEPS), np.nan)
    light = np.where(deviation < 0.04, 0.0, np.where(deviation < 0.12, 1.0, 2.0)) + 0 * deviation
    return Record(
        name, r, "exact", is_network, tip, energy, seconds, iterations, deviation, 1.2 * deviation, light, error, error, 2 * error, 0.5 * error,
        surface, failures,
    )  # fmt: skip


def evaluation(*models: Record) -> Evaluation:
    chosen = models or (
        record("HoD-Net", 6, 0.02, milliseconds=0.5, is_network=True),
        record("PCA 6", 6, 0.8, milliseconds=0.4),
        record("PCA 12", 12, 0.1, milliseconds=0.6, lost=7),
    )
    return Evaluation(
        full=record("full", 1542, 0.0, milliseconds=2.5),
        models=tuple(chosen),
        cases=tuple((f"test-{i:04d}", ("tip", "body + twist")[i % 2]) for i in range(CASES)),
        dofs=1542,
        dt=0.05,
        tolerance=1e-5,
        tip=3,
        length=1.0,
        rest=REST,
        triangles=TRIANGLES,
        frames=np.linspace(0, STEPS - 1, FRAMES).astype(int),
        environment=environment(),
    )
