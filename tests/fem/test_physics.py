"""The full model against the physics of beams and bodies: Euler-Bernoulli, conservation laws, modal damping."""

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from hodsim.dynamics import backward_euler, bdf2, newmark, simulate
from hodsim.fem import FullModel, NeoHookean, Rayleigh, StableNeoHookean, StVK, gravity, point_load, traction
from hodsim.mesh import TetMesh

E, RHO = 1e6, 1e3
LENGTH, SIDE = 1.0, 0.1
INERTIA = SIDE**4 / 12  # second moment of area [m^4]
MATERIALS = pytest.mark.parametrize("material", [StVK(1e5, 0.3), NeoHookean(1e5, 0.3), StableNeoHookean(1e5, 0.3)], ids=lambda m: type(m).__name__)


def cantilever(cells, *, material=None, **options):
    """A slender beam, pinned at x = 0. nu = 0 unless told otherwise: then the clamp of beam theory is the clamp of the body."""
    mesh = TetMesh.box((LENGTH, SIDE, SIDE), (10 * cells, cells, cells), corner=(0, -SIDE / 2, -SIDE / 2))
    return FullModel(mesh, material or StVK(E, 0.0), density=RHO, pinned=mesh.vertices[:, 0] == 0, **options)


def free_box(material):
    mesh = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
    return FullModel(mesh, material, density=RHO, pinned=None)


def tip(full):
    return full.mesh.vertices[:, 0] == LENGTH


# Statics


def test_tip_deflection_converges_to_beam_theory():
    force = 1.0
    bending, shear = force * LENGTH**3 / (3 * E * INERTIA), force * LENGTH / (5 / 6 * E / 2 * SIDE**2)
    excess = []  # stiffness beyond that of the beam
    for cells in (1, 2, 4, 8):
        full = cantilever(cells)
        load = traction(full, tip(full), (0, 0, -force / SIDE**2))
        u = full.full_displacement(full.solver.factor(full.rest_stiffness.data).solve(load))
        excess.append(-(bending + shear) / u[tip(full), 2].mean() - 1)
    # linear elements lock in bending: they carry a spurious stiffness that vanishes with the square of the cell
    assert 0 < excess[-1] < 0.04
    np.testing.assert_allclose(np.log2(np.divide(excess[:-1], excess[1:])), 2, atol=0.12)


def test_axial_stretch_is_exact():
    full = cantilever(2)
    u = full.full_displacement(full.solver.factor(full.rest_stiffness.data).solve(traction(full, tip(full), (50.0, 0, 0))))
    np.testing.assert_allclose(u[:, 0], 50 / E * full.mesh.vertices[:, 0], atol=1e-12)


@MATERIALS
def test_a_damped_cantilever_comes_to_rest_in_a_stable_equilibrium(material):
    full = cantilever(2, material=material, damping=Rayleigh(mass=4.0))
    weight = 0.2 * gravity(full)
    *_, end = simulate(full, full.state(), 0.05, force=weight, steps=200)
    u = end.q
    assert np.abs(full.internal_force(u) - weight).max() < 1e-4 * np.abs(weight).max()
    assert full.full_displacement(u)[tip(full), 2].mean() < -0.3 * LENGTH
    assert np.linalg.eigvalsh(full.stiffness(u).toarray()).min() > 0


# Vibration


def test_first_frequency_converges_to_beam_theory():
    expected = 1.875104068711961**2 / (2 * np.pi * LENGTH**2) * np.sqrt(E * INERTIA / (RHO * SIDE**2))
    frequencies = []
    for cells in (2, 4):
        full = cantilever(cells)
        squares = eigsh(full.rest_stiffness, 2, full.mass, sigma=0.0, v0=np.ones(full.n_dofs), return_eigenvectors=False)
        frequencies.append(np.sqrt(squares) / (2 * np.pi))
    coarse, fine = frequencies
    assert fine[0] == pytest.approx(fine[1], rel=1e-2)  # the two bending planes of a square section
    extrapolated = fine + (fine - coarse) / 3  # the error is of second order
    np.testing.assert_allclose(extrapolated, expected, rtol=0.02)  # beam theory itself neglects shear: 1 % at this slenderness
    assert (fine < coarse).all()


def test_damping_decays_a_mode_at_the_rayleigh_rate():
    full = cantilever(1, damping=Rayleigh(mass=0.4, stiffness=0.02))
    (square,), mode = eigsh(full.rest_stiffness, 1, full.mass, sigma=0.0, v0=np.ones(full.n_dofs))
    omega, mode = np.sqrt(square), mode[:, 0]
    rate = (0.4 + 0.02 * square) / 2
    period = 2 * np.pi / np.sqrt(square - rate**2)
    start, steps = 1e-6 * mode, 400
    *_, end = simulate(full, full.state(start), period / steps, force=0 * start, scheme=newmark, steps=steps, tolerance=1e-9)
    amplitude = mode @ (full.mass @ end.q) / 1e-6
    assert amplitude == pytest.approx(np.exp(-rate * period), rel=1e-3)  # the scheme's own error is (omega dt)^2 / 12
    assert rate / omega < 0.2


# Conservation


def momenta(full, state):
    """Linear momentum, and angular momentum about the centre of mass."""
    x = full.mesh.vertices + full.full_displacement(state.q)
    p = full.full_displacement(full.mass @ state.v)
    centre = full.vertex_mass @ x / full.vertex_mass.sum()
    return p.sum(axis=0), np.cross(x - centre, p).sum(axis=0)


def spinning(full):
    """Spin about every axis with some stretching, so that the body vibrates as it turns."""
    x = full.mesh.vertices - full.vertex_mass @ full.mesh.vertices / full.vertex_mass.sum()
    return full.restrict(np.cross((2.0, 5.0, 3.0), x) + (0.1, 0.2, 0.3) + 2.0 * x * (1, -0.3, -0.3))


@MATERIALS
@pytest.mark.parametrize("scheme", [backward_euler, bdf2, newmark], ids=lambda s: s.__name__)
def test_momentum_of_a_free_body_is_conserved(material, scheme):
    full = free_box(material)
    zero = np.zeros(full.n_dofs)
    start = full.state(v=spinning(full))
    before = momenta(full, start)[0]
    for state in simulate(full, start, 0.005, force=zero, scheme=scheme, steps=40, tolerance=1e-10):
        np.testing.assert_allclose(momenta(full, state)[0], before, rtol=1e-8)


@MATERIALS
def test_a_free_body_gains_the_momentum_of_its_weight(material):
    full = free_box(material)
    *_, end = simulate(full, full.state(v=spinning(full)), 0.005, force=gravity(full), steps=40, tolerance=1e-10)
    gained = momenta(full, end)[0] - momenta(full, full.state(v=spinning(full)))[0]
    np.testing.assert_allclose(gained, full.vertex_mass.sum() * 0.2 * np.array((0, 0, -9.81)), atol=1e-7)


def test_angular_momentum_drift_vanishes_with_the_square_of_the_step():
    full = free_box(StVK(1e5, 0.3))
    start = full.state(v=spinning(full))
    before = momenta(full, start)[1]
    drifts = []
    for dt in (0.004, 0.002, 0.001):
        *_, end = simulate(full, start, dt, force=np.zeros(full.n_dofs), scheme=newmark, steps=round(0.1 / dt), tolerance=1e-10)
        drifts.append(np.linalg.norm(momenta(full, end)[1] - before))
    assert drifts[-1] < 2e-3 * np.linalg.norm(before)
    np.testing.assert_allclose(np.log2(np.divide(drifts[:-1], drifts[1:])), 2, atol=0.4)


@MATERIALS
def test_energy_of_an_undamped_body_is_conserved_to_second_order(material):
    full = free_box(material)
    start = full.state(v=spinning(full))
    errors = []
    for dt in (0.004, 0.002, 0.001):
        run = simulate(full, start, dt, force=np.zeros(full.n_dofs), scheme=newmark, steps=round(0.1 / dt), tolerance=1e-10)
        errors.append(max(abs(full.energy(state) / full.energy(start) - 1) for state in run))
    assert errors[-1] < 1e-2
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 2, atol=0.4)


def test_a_swinging_cantilever_trades_potential_for_kinetic_energy():
    full = cantilever(1, material=StVK(E, 0.4))
    weight = gravity(full)
    for state in simulate(full, full.state(force=weight), 0.002, force=weight, scheme=newmark, steps=200, tolerance=1e-8):
        exchanged = full.kinetic_energy(state.v) + full.elastic_energy(state.q)
        assert exchanged == pytest.approx(weight @ state.q, abs=2e-3 * abs(weight).sum() * LENGTH)


def test_a_stepped_load_on_a_stiff_point_never_fails_silently():
    full = cantilever(1, material=NeoHookean(E, 0.45))
    corner = int(np.flatnonzero(tip(full))[0])
    pull = point_load(full, corner, (0, 0, 40.0))
    for state in simulate(full, full.state(), 0.02, force=pull, steps=30):
        assert np.isfinite(full.energy(state))
