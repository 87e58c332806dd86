"""Modal derivatives against symmetry, static solutions and the span of the modes."""

import numpy as np
import pytest

from hodsim.fem import FullModel, StableNeoHookean, StVK
from hodsim.mesh import TetMesh
from hodsim.subspace import modal, modal_derivatives, vibrations
from hodsim.subspace.modal_derivatives import static_derivatives


def held_beam(material, *, held=True):
    mesh = TetMesh.box((0.6, 0.1, 0.1), (8, 1, 1))
    return FullModel(mesh, material, density=1e3, pinned=mesh.vertices[:, 0] == 0 if held else None)


@pytest.fixture(scope="module", params=[StVK(1e5, 0.3), StableNeoHookean(1e5, 0.3)], ids=["StVK", "stable neo-Hookean"])
def full(request):
    return held_beam(request.param)


def misfit(subspace, u, mass):
    """The share of u (d,) outside the subspace, in the mass norm."""
    rest = u - subspace.decode(subspace.encode(u))
    return np.sqrt(rest @ (mass @ rest) / (u @ (mass @ u)))


def bent(full, load):
    """Static equilibrium (d,) by Newton's method."""
    u = np.zeros(full.n_dofs)
    for _ in range(30):
        change = full.solver.factor(full.stiffness(u).data).solve(load - full.internal_force(u))
        u = u + change
        if np.abs(change).max() < 1e-13:
            return u
    raise AssertionError("no equilibrium")


def test_they_are_symmetric_in_their_indices(full):
    shapes, _ = vibrations(full, 4)
    derivatives = static_derivatives(full, shapes)
    np.testing.assert_allclose(derivatives, derivatives.transpose(0, 2, 1), atol=1e-5 * np.abs(derivatives).max())


def test_they_are_the_second_derivatives_of_static_solutions(full):
    """u(t) of the load t K Phi is t Phi + t^2 Phi_11 / 2 + O(t^3)."""
    shapes, _ = vibrations(full, 1)
    t = 1e-2 * full.mesh.edge_length / np.abs(shapes).max()
    load = t * (full.rest_stiffness @ shapes[:, 0])
    second = (bent(full, load) + bent(full, -load)) / t**2
    expected = static_derivatives(full, shapes)[:, 0, 0]
    np.testing.assert_allclose(second, expected, atol=1e-3 * np.abs(expected).max())


def test_the_basis_is_orthonormal_and_spans_the_modes_when_it_holds_all_columns(full):
    subspace = modal_derivatives(full, 5, modes=2)  # two modes, three derivatives
    np.testing.assert_allclose(subspace.basis.T @ (full.mass @ subspace.basis), np.eye(5), atol=1e-10)
    for shape in vibrations(full, 2)[0].T:
        assert misfit(subspace, shape, full.mass) < 1e-6


def test_they_hold_a_large_bending_better_than_as_many_modes(full):
    shape = vibrations(full, 1)[0][:, 0]
    u = bent(full, 0.1 / np.abs(shape).max() * (full.rest_stiffness @ shape))
    assert misfit(modal_derivatives(full, 6), u, full.mass) < 0.5 * misfit(modal(full, 6), u, full.mass)


def test_a_free_body_is_refused():
    with pytest.raises(ValueError, match="held"):
        modal_derivatives(held_beam(StVK(1e5, 0.3), held=False), 3)
