"""The error indicator: its defect against a reference, its calibration against what is then measured."""

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.dynamics import State, simulate
from hodsim.fem import Rayleigh
from hodsim.reduced import CompiledStep, Indicator, ReducedModel, calibrate
from hodsim.reduced.calibration import spread_out
from hodsim.reduced.compiled import independent, slowest_frequency
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import Model, modal, vibrations

DT = 0.01


@pytest.fixture(scope="module")
def swung(tmp_path_factory):
    """Snapshots of a small sweep, and a linear subspace that follows some of them better than others."""
    full = small_beam()
    shapes = bending_loads(full)
    cases = sweep(train=6, validation=3, duration=0.3)
    snapshots = generate_snapshots(full, shapes, cases, directory=tmp_path_factory.mktemp("swung"), dt=DT, steps=30)
    return shapes, snapshots, ReducedModel(full, modal(full, 4))


@pytest.mark.parametrize("damping", [Rayleigh(), Rayleigh(mass=0.5, stiffness=1e-3)])
@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
@pytest.mark.parametrize("curved", [False, True])
def test_a_defect_is_the_newton_step_that_all_features_would_take(form, damping, curved):
    full = small_beam(damping=damping)
    model = ReducedModel(full, curved_subspace(full) if curved else modal(full, 4))
    W, n = model.subspace.basis, 12
    forces = np.random.default_rng(0).normal(size=(n, full.n_dofs)) @ W * 0.05
    run = CompiledStep(model, form=form).rollout(model.state(), DT, forces)
    assert run.failure is None
    g = np.array([model.features.value(q) for q in (np.zeros(model.subspace.dim), np.zeros(model.subspace.dim), *run.q)])
    dg = np.array([model.features.rate(q, v) for q, v in zip(run.q, run.v, strict=True)])
    B = independent(model.mass)
    mass, damped, stiffness = (B @ matrix @ B.T for matrix in (model.mass, model.damping, model.rest_stiffness))
    squares, average, step = 0.0, [], mass / DT**2 + damped / DT + stiffness
    fading = np.exp(-DT * slowest_frequency(stiffness, mass))
    for i in range(n):
        if form == "variational":
            inertia = model.mass @ (g[i + 2] - 2 * g[i + 1] + g[i]) / DT**2 + model.damping @ (g[i + 2] - g[i + 1]) / DT
        else:
            motion = model.features.motion(run.q[i], run.v[i])
            inertia = model.mass @ (motion.jacobian @ run.a[i] + motion.curvature) + model.damping @ dg[i]
        p = inertia + model.elasticity.force(g[i + 2]) - forces[i]
        x = np.linalg.solve(step, B @ p)
        squares = fading * squares + (1 - fading) * x @ mass @ x
        average.append(np.sqrt(squares))
    scale = max(average) if curved else np.abs(run.q).max()
    np.testing.assert_allclose(run.defect, average, rtol=1e-5, atol=1e-6 * scale)
    if not curved:  # Galerkin leaves nothing where every feature is free
        assert run.defect.max() < 1e-4 * scale


def test_the_memory_is_that_of_the_slowest_vibration():
    full = small_beam()
    model = ReducedModel(full, modal(full, 5))
    _, frequencies = vibrations(full, 1)
    assert slowest_frequency(model.rest_stiffness, model.mass) == pytest.approx(frequencies[0], rel=1e-6)
    rigid = np.diag([0.0, 1e-12, 4.0, 9.0])
    assert slowest_frequency(rigid, np.eye(4)) == pytest.approx(2.0)


def test_points_are_spread_out():
    points = np.array([[0.1, 0], [0, 0], [5, 0], [5.1, 0], [0, 3]], dtype=float)
    chosen, covering = spread_out(points, 3)
    assert chosen.tolist() == [1, 3, 4] and covering == pytest.approx(0.1)
    everything, none = spread_out(points, 9)
    assert sorted(everything) == [0, 1, 2, 3, 4] and none == 0


def test_estimates_miss_by_the_factor_that_calibration_found(swung):
    """On the cases it was calibrated on, under their loads and under twice these: as much above as below, by as much as it says."""
    shapes, snapshots, model = swung
    full, network = model.full, ReducedModel(model.full, curved_subspace(model.full, dim=4, strength=1.0))
    indicator = calibrate(network, snapshots, shapes)
    assert indicator.codes.shape[1] == 4 and indicator.reach > 0
    step, missed = CompiledStep(network), []
    for case in snapshots.split("validation").cases:
        for times in (1.0, 2.0):
            forces = times * case.load(shapes).at_steps(DT, 30)
            acting = iter(forces)
            truth = np.array([state.q for state in simulate(full, full.state(), DT, force=lambda _, a=acting: next(a), steps=30)])
            run = step.rollout(network.state(), DT, forces @ network.subspace.basis)
            difference = network.subspace.decode(run.q) - truth
            error = np.sqrt(np.einsum("td,td->t", difference, (full.mass @ difference.T).T)) / indicator.scale
            missed.append(np.log(indicator.estimates(run.q, run.defect) / error))
    missed = np.concatenate(missed)
    assert abs(missed.mean()) < 0.01  # snapshots are stored in single precision
    assert np.exp(np.sqrt(np.mean(missed**2))) == pytest.approx(indicator.factor, rel=0.01)
    with pytest.raises(ValueError, match="0 validation cases"):
        calibrate(network, snapshots.split("train"), shapes)


def made_up(**changes) -> Indicator:
    values = {
        "codes": np.zeros((1, 2)), "spread": np.array([1.0, 2.0]), "coefficients": np.array([0.0, 1.0, 0.0]),
        "scale": 2.0, "reach": 3.0, "factor": 2.0,
    }  # fmt: skip
    return Indicator(**(values | changes))


@pytest.mark.parametrize(
    ("defect", "q", "level"), [(0.02, (0, 0), 0), (0.04, (0, 0), 1), (0.2, (0, 0), 2), (0.0, (2.9, 0), 0), (0.0, (0, 6.1), 2)]
)
def test_a_light_is_for_the_bound_or_for_leaving_the_training_range(defect, q, level):
    state = State(0.0, np.array(q, float), np.zeros(2), np.zeros(2), defect=defect)
    indicator = made_up()
    assert indicator.estimate(state) == pytest.approx(defect / 2, abs=2e-6)
    assert indicator.bound(state) == pytest.approx(2 * indicator.estimate(state))
    assert indicator.level(state) == level
    assert indicator.left(state) == (level == 2 and defect == 0)


def test_an_indicator_comes_back_from_a_model_file_and_is_for_its_cubature_alone(swung, tmp_path):
    *_, model = swung
    file = Model(model.full, model.subspace, {}, indicator=made_up().arrays()).save(tmp_path / "beam.hod")
    loaded = ReducedModel.of(Model.load(file))
    for name, value in made_up().arrays().items():
        np.testing.assert_array_equal(getattr(loaded.indicator, name), value)
    assert isinstance(loaded.indicator.scale, float)
    assert loaded.with_elasticity(loaded.elasticity).indicator is None
    assert model.indicator is None
    lacking = {name: value for name, value in made_up().arrays().items() if name != "reach"}
    with pytest.raises(ValueError, match="lacks reach"):
        ReducedModel.of(Model(model.full, model.subspace, {}, indicator=lacking))
