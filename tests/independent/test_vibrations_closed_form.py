"""Frequencies against closed forms: bending of a cantilever (Euler-Bernoulli) and stretching of a free bar, as the mesh is refined."""

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from hodsim.fem import FullModel, StVK
from hodsim.mesh import TetMesh
from hodsim.subspace.modal import vibrations

E, RHO, LENGTH = 1e6, 1e3, 1.0
WAVES = np.array([1.875104068711961, 4.694091132974175])  # roots of cos x cosh x = -1


def test_bending_converges_to_euler_bernoulli_with_the_square_of_the_cell():
    """Two modes about the weak axis of a slender strip, nu = 0, by the squares of their frequencies, which are stiffnesses over masses.

    The theory leaves out shear and rotary inertia, which lower a square by about wave^2 r^2 (1 + E / (5/6 G)), r^2 = height^2 / 12."""
    width, height = 0.1, 0.05
    expected = WAVES**4 / LENGTH**4 * E * height**2 / (12 * RHO)
    found = []
    for cells in (1, 2, 4):
        mesh = TetMesh.box((LENGTH, width, height), (20 * cells, 2 * cells, cells))
        full = FullModel(mesh, StVK(E, 0.0), density=RHO, pinned=mesh.vertices[:, 0] == 0)
        modes, frequencies = vibrations(full, 8)
        downwards = [np.abs(full.full_displacement(mode)).max(axis=0).argmax() == 2 for mode in modes.T]
        found.append(frequencies[downwards][:2] ** 2 / expected - 1)
    coarse, middle, fine = found
    assert (fine > 0).all()  # linear elements are too stiff
    np.testing.assert_allclose(np.log2((coarse - middle) / (middle - fine)), 2, atol=0.1)
    left_out = WAVES**2 * height**2 / 12 / LENGTH**2 * (1 + 2 * 6 / 5)
    extrapolated = fine - (middle - fine) / 3
    assert (-1.5 * left_out < extrapolated).all() and (extrapolated < 0).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_free_bar_stretches_at_the_closed_form(n):
    """omega_n = n pi / L sqrt(E / rho), nu = 0; the error is of second order in the cell."""
    expected = n * np.pi / LENGTH * np.sqrt(E / RHO)
    errors = []
    for cells in (1, 2, 3):
        mesh = TetMesh.box((LENGTH, 0.1, 0.1), (10 * cells, cells, cells))
        full = FullModel(mesh, StVK(E, 0.0), density=RHO, pinned=None)
        # around the square of the frequency sought, the one whose shape is cos(n pi x / L) along the bar
        squares, modes = eigsh(full.rest_stiffness, 12, full.mass, sigma=expected**2, v0=np.ones(full.n_dofs))
        shape = np.zeros((full.n_dofs // 3, 3))
        shape[:, 0] = np.cos(n * np.pi * mesh.vertices[:, 0] / LENGTH)
        shape = shape.ravel() / np.sqrt(shape.ravel() @ (full.mass @ shape.ravel()))
        overlap = np.abs(modes.T @ (full.mass @ shape))
        assert overlap.max() > 0.99
        errors.append(np.sqrt(squares[overlap.argmax()]) / expected - 1)
    coarse, middle, fine = errors
    assert np.log(coarse / fine) / np.log(3) == pytest.approx(2, abs=0.05)
    assert 0 < fine < (n * np.pi / 30) ** 2 / 24  # that of linear elements along a line, (k h)^2 / 24
