"""Energy, force, tangent, statics and vibrations of the full model against scikit-fem, whose weak forms are in weak_forms.py.

The two programs share the vertices and nothing else: basis functions, quadrature, assembly and, in statics, Newton's method are the peer's.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from scipy.sparse.linalg import spsolve

from hodsim import fem
from hodsim.fem import FullModel, gravity
from hodsim.mesh import TetMesh
from hodsim.solve.newton import newton
from hodsim.subspace.modal import vibrations

skfem = pytest.importorskip("skfem", reason="scikit-fem is not installed; pip install 'hodsim[independent]'")

import weak_forms  # noqa: E402  (it needs scikit-fem)

E, NU, RHO = 1e5, 0.35, 1e3
EPS = np.finfo(float).eps
ROUNDING = 2000 * EPS  # of the largest entry: sums over some dozens of elements, stresses that cancel to a tenth, two orders of summation
MESHES = Path(__file__).parents[1] / "meshes"


def ball() -> TetMesh:
    peer = skfem.MeshTet.init_ball(2)
    tetrahedra = peer.t.T.astype(np.int64)
    x = peer.p.T[tetrahedra]
    inverted = np.linalg.det(x[:, 1:] - x[:, :1]) < 0
    tetrahedra[inverted] = tetrahedra[inverted][:, [1, 0, 2, 3]]
    return TetMesh(0.1 * peer.p.T, tetrahedra)


@lru_cache
def mesh(name: str) -> TetMesh:
    if name == "box":
        return TetMesh.box((0.5, 0.2, 0.1), (5, 2, 1))
    return ball() if name == "ball" else TetMesh.load(MESHES / "cube.node")


def deformation(body: TetMesh, seed: int) -> np.ndarray:
    """A random affine map of 20 % strain and noise of a thirtieth of an edge: (V, 3) [m], nothing inverted."""
    rng = np.random.default_rng(seed)
    affine = body.vertices @ (0.2 * rng.uniform(-1, 1, (3, 3)) / 3**0.5)
    shortest = np.linalg.norm(np.diff(body.vertices[body.tetrahedra][:, [0, 1, 2, 3, 0, 2, 1, 3]], axis=1), axis=2).min()
    u = affine + shortest / 30 * rng.standard_normal(body.vertices.shape)
    edges = (body.vertices + u)[body.tetrahedra]
    assert (np.linalg.det(edges[:, 1:] - edges[:, :1]) > 0).all()
    return u


every_material = pytest.mark.parametrize("kind", ["StVK", "NeoHookean", "StableNeoHookean"])
every_mesh = pytest.mark.parametrize("name", ["box", "ball", "cube"])


def pair(kind: str, name: str, pinned=None) -> tuple[FullModel, weak_forms.Solid]:
    body = mesh(name)
    ours = FullModel(body, getattr(fem, kind)(E, NU), density=RHO, pinned=pinned)
    return ours, weak_forms.Solid(body, getattr(weak_forms, kind)(E, NU), RHO)


def close(found, expected, *, scale=None, tolerance=ROUNDING):
    scale = np.abs(expected).max() if scale is None else scale
    assert np.abs(found - expected).max() <= tolerance * scale


@every_mesh
@every_material
def test_energy_force_and_tangent_match_scikit_fem(kind, name):
    ours, peer = pair(kind, name)
    for seed in range(3):
        u = deformation(ours.mesh, seed).ravel()
        assert ours.elastic_energy(u) == pytest.approx(peer.energy(u), rel=ROUNDING)
        close(ours.internal_force(u), peer.internal_force(u))
        close(ours.stiffness(u).data, _on_pattern(ours, peer.stiffness(u)))


@pytest.mark.parametrize("kind", ["StVK", "StableNeoHookean"])
def test_inverted_elements_match_scikit_fem(kind):
    ours, peer = pair(kind, "box")
    u = 0.08 * np.random.default_rng(0).standard_normal(ours.n_dofs)
    edges = (ours.mesh.vertices + u.reshape(-1, 3))[ours.mesh.tetrahedra]
    assert (np.linalg.det(edges[:, 1:] - edges[:, :1]) < 0).sum() >= 5
    assert ours.elastic_energy(u) == pytest.approx(peer.energy(u), rel=ROUNDING)
    close(ours.internal_force(u), peer.internal_force(u))
    close(ours.stiffness(u).data, _on_pattern(ours, peer.stiffness(u)))


@every_mesh
def test_mass_weight_and_stiffness_at_rest_match_scikit_fem(name):
    ours, peer = pair("StVK", name)
    close(ours.mass.toarray(), peer.mass.toarray())
    close(gravity(ours, (0.3, -2.0, -9.81)), peer.weight((0.3, -2.0, -9.81)))
    close(ours.rest_stiffness.data, _on_pattern(ours, peer.linear_stiffness))


@every_material
def test_static_sag_matches_scikit_fem(kind):
    """Each by its own Newton iteration, to its own rounding: a cantilever that sags by a tenth of its length."""
    body = TetMesh.box((0.5, 0.1, 0.1), (8, 2, 2))
    held = body.vertices[:, 0] == 0
    ours = FullModel(body, getattr(fem, kind)(5e5, NU), density=RHO, pinned=held)
    peer = weak_forms.Solid(body, getattr(weak_forms, kind)(5e5, NU), RHO)
    free = np.flatnonzero(np.repeat(~held, 3))
    expected = np.zeros(body.vertices.size)
    load = peer.weight((0, 0, -9.81))[free]
    for share in np.linspace(0.1, 1.0, 10):  # the load grows, so that Newton's method needs no line search
        for _ in range(12):
            correction = spsolve(peer.stiffness(expected)[free][:, free].tocsc(), peer.internal_force(expected)[free] - share * load)
            expected[free] -= correction
            if np.abs(correction).max() < 1e-13:
                break
    weight = gravity(ours)
    found = newton(lambda u: ours.internal_force(u) - weight, lambda u: ours.solver.factor(ours.stiffness(u).data), np.zeros(ours.n_dofs),
                   tolerance=lambda first: 1e-12 * first, max_iterations=100)  # fmt: skip
    assert found.converged, found.reason
    assert expected.reshape(-1, 3)[:, 2].min() < -0.05
    linear = ours.solver.factor(ours.rest_stiffness.data).solve(weight)
    assert np.abs(linear - found.x).max() > 0.01 * np.abs(linear).max()  # large enough for the law to matter
    np.testing.assert_allclose(found.x, expected[free], atol=1e-10 * 0.5)


def test_frequencies_match_the_dense_eigenvalues_of_scikit_fem():
    body = mesh("cube")
    held = body.vertices[:, 0] == body.vertices[:, 0].min()
    ours, peer = pair("StableNeoHookean", "cube", pinned=held)
    free = np.flatnonzero(np.repeat(~held, 3))
    squares = scipy.linalg.eigh(peer.linear_stiffness[free][:, free].toarray(), peer.mass[free][:, free].toarray(), eigvals_only=True,
                                subset_by_index=[0, 19])  # fmt: skip
    modes, frequencies = vibrations(ours, 20)
    np.testing.assert_allclose(frequencies**2, squares, rtol=1e-9)  # eps times a condition of some 1e6
    shifted = peer.linear_stiffness[free][:, free] @ modes - peer.mass[free][:, free] @ modes * squares
    assert np.abs(shifted).max() < 1e-6 * np.abs(peer.linear_stiffness[free][:, free] @ modes).max()


def _on_pattern(ours: FullModel, matrix) -> np.ndarray:
    """The entries of a peer's matrix where ours has any; elsewhere it has none that is not rounding."""
    pattern = ours.pattern.tocoo()
    dense = np.asarray(matrix.todense())
    values = dense[pattern.row, pattern.col].copy()
    dense[pattern.row, pattern.col] = 0.0
    assert np.abs(dense).max() <= ROUNDING * np.abs(values).max()
    return values
