"""The full model: energy, force and tangent against each other and against independent assembly; what is refused."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from hodsim.fem import FullModel, Material, NeoHookean, Rayleigh, StableNeoHookean, StVK, gravity, traction
from hodsim.mesh import TetMesh

E, NU, RHO = 1e5, 0.3, 1e3
MATERIALS = pytest.mark.parametrize("material", [StVK(E, NU), NeoHookean(E, NU), StableNeoHookean(E, NU)], ids=lambda m: type(m).__name__)
EPS = np.finfo(float).eps


def crooked_box(seed=0):
    """A box whose inner vertices are moved at random, so that no two elements are alike."""
    box = TetMesh.box((0.4, 0.3, 0.3), (4, 3, 3))
    low, high = box.bounding_box
    inner = ((box.vertices > low + 1e-9) & (box.vertices < high - 1e-9)).all(axis=1)
    moved = box.vertices + inner[:, None] * np.random.default_rng(seed).uniform(-0.02, 0.02, box.vertices.shape)
    return TetMesh(moved, box.tetrahedra)


def held(material, mesh=None, **options):
    mesh = crooked_box() if mesh is None else mesh
    return FullModel(mesh, material, density=RHO, pinned=mesh.vertices[:, 0] == 0, **options)


def free(material, mesh=None):
    return FullModel(crooked_box() if mesh is None else mesh, material, density=RHO, pinned=None)


def deformed(full, seed=0, size=0.005):
    """Strong bending with noise, every element still the right way round."""
    x = full.mesh.vertices
    field = size * np.random.default_rng(seed).standard_normal(x.shape)
    field[:, 2] += 0.5 * x[:, 0] ** 2
    return full.restrict(field)


def richardson(f, h):
    """Derivative of f at 0 by central differences of fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def rotation(angle, axis):
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


# Elasticity


@MATERIALS
def test_patch_affine_deformation_is_balanced_by_its_tractions(material):
    full = free(material)
    x, surface = full.mesh.vertices, full.mesh.surface
    F = np.eye(3) + 0.2 * np.random.default_rng(0).standard_normal((3, 3))
    f = full.full_displacement(full.internal_force(full.restrict(x @ (F - np.eye(3)).T)))
    P, expected = material.stress(F), 0
    low, high = full.mesh.bounding_box
    for axis in range(3):
        for side, sign in ((low, -1), (high, 1)):
            expected += full.full_displacement(traction(full, np.isclose(x[:, axis], side[axis]), sign * P[:, axis]))
    np.testing.assert_allclose(f, expected, atol=1e-12 * np.abs(expected).max())
    inner = np.setdiff1d(np.arange(len(x)), surface)
    assert len(inner) and np.abs(f[inner]).max() < 1e-12 * np.abs(f).max()


@MATERIALS
def test_rigid_motion_gives_neither_force_nor_energy(material):
    full = free(material)
    x = full.mesh.vertices
    u = full.restrict(x @ rotation(2.5, (1, 2, -1)).T - x + (3, -2, 1))
    force_scale = E * full.mesh.edge_length**2
    assert np.abs(full.internal_force(u)).max() < 1e-12 * force_scale
    assert abs(full.elastic_energy(u)) < 1e-12 * E * full.mesh.volumes.sum()


@MATERIALS
def test_internal_forces_have_no_resultant_and_no_moment(material):
    full = free(material)
    u = deformed(full)
    f, x = full.full_displacement(full.internal_force(u)), full.mesh.vertices + full.full_displacement(u)
    scale = np.abs(f).sum()
    assert np.abs(f.sum(axis=0)).max() < 1e-14 * scale
    assert np.abs(np.cross(x, f).sum(axis=0)).max() < 1e-14 * scale


@MATERIALS
def test_force_is_the_gradient_of_the_energy(material):
    full = held(material)
    u, d = deformed(full), np.random.default_rng(1).standard_normal(full.n_dofs)
    slope = richardson(lambda h: full.elastic_energy(u + h * d), 1e-5)
    assert full.internal_force(u) @ d == pytest.approx(slope, rel=1e-8)


@MATERIALS
def test_tangent_is_the_derivative_of_the_force(material):
    full = held(material)
    u, d = deformed(full), np.random.default_rng(1).standard_normal(full.n_dofs)
    derivative = richardson(lambda h: full.internal_force(u + h * d), 1e-6)
    np.testing.assert_allclose(full.stiffness(u) @ d, derivative, rtol=0, atol=1e-7 * np.abs(derivative).max())


@MATERIALS
def test_stiffness_is_symmetric_to_the_last_bit_on_a_fixed_pattern(material):
    full = held(material)
    K = full.stiffness(deformed(full))
    assert abs(K - K.T).max() == 0
    np.testing.assert_array_equal(K.indices, full.rest_stiffness.indices)
    assert np.linalg.eigvalsh(full.rest_stiffness.toarray()).min() > 0


@MATERIALS
def test_rest_stiffness_agrees_with_scikit_fem(material):
    skfem = pytest.importorskip("skfem")
    from skfem.models.elasticity import linear_elasticity

    full = free(material)
    mesh = skfem.MeshTet(full.mesh.vertices.T.copy(), full.mesh.tetrahedra.T.copy())
    basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementTetP1()))
    K = linear_elasticity(material.lam, material.mu).assemble(basis)
    order = basis.nodal_dofs.T.ravel()  # x, y, z of each vertex in turn
    difference = abs(K[order][:, order] - full.rest_stiffness)
    assert difference.max() < 1e-12 * abs(K).max()


def test_all_materials_agree_at_small_strain():
    models = [held(kind(E, NU)) for kind in (StVK, NeoHookean, StableNeoHookean)]
    u = 1e-7 * deformed(models[0])
    linear = models[0].rest_stiffness @ u
    for full in models:
        np.testing.assert_allclose(full.internal_force(u), linear, atol=1e-5 * np.abs(linear).max())


def test_assembly_does_not_depend_on_the_order_of_elements_or_the_chunk():
    mesh = TetMesh.box((0.4, 0.3, 0.3), (8, 5, 5))  # 1000 elements: more than a chunk
    order = np.random.default_rng(0).permutation(len(mesh.tetrahedra))
    shuffled = TetMesh(mesh.vertices, mesh.tetrahedra[order])
    one, other = held(StVK(E, NU), mesh), held(StVK(E, NU), shuffled)
    u = deformed(one)
    scale = abs(one.rest_stiffness).max()
    assert abs(one.stiffness(u) - other.stiffness(u)).max() < 100 * EPS * scale
    np.testing.assert_allclose(one.internal_force(u), other.internal_force(u), atol=1e-12 * np.abs(one.internal_force(u)).max())


def test_generalized_element_forces_are_those_of_bodies_of_one_element():
    full = held(StableNeoHookean(E, NU))
    u, J = deformed(full), np.random.default_rng(0).standard_normal((full.n_dofs, 4))
    forces = full.generalized_element_forces(u, J)  # (r, T)
    total = J.T @ full.internal_force(u)
    np.testing.assert_allclose(forces.sum(axis=1), total, atol=1e-12 * np.abs(forces).max())
    field = full.full_displacement(u)
    for e in (0, 7, len(full.mesh.tetrahedra) - 1):
        corners = full.mesh.tetrahedra[e]
        alone = FullModel(TetMesh(full.mesh.vertices[corners], np.arange(4)[None]), full.material, density=1.0, pinned=None)
        f_e = np.zeros(field.shape)
        f_e[corners] = alone.internal_force(field[corners].ravel()).reshape(4, 3)
        np.testing.assert_allclose(forces[:, e], J.T @ full.restrict(f_e), atol=1e-12 * np.abs(forces).max())


def test_a_user_material_works_through_the_same_model():
    @dataclass(frozen=True)
    class Written(Material):
        """StVK from its formula alone."""

        mu: float
        lam: float

        def density(self, F):
            C = F.T @ F
            I1, I2 = C.trace(), (C * C).sum()
            return self.mu / 4 * (I2 - 2 * I1 + 3) + self.lam / 8 * (I1 - 3) ** 2

    stvk = StVK(E, NU)
    closed, written = held(stvk), held(Written(stvk.mu, stvk.lam))
    u = deformed(closed)
    np.testing.assert_allclose(written.internal_force(u), closed.internal_force(u), atol=1e-11 * np.abs(closed.internal_force(u)).max())
    assert abs(written.stiffness(u) - closed.stiffness(u)).max() < 1e-13 * abs(closed.rest_stiffness).max() * 100
    assert written.elastic_energy(u) == pytest.approx(closed.elastic_energy(u), rel=1e-12)


def test_inverted_neo_hookean_body_has_infinite_energy_and_force():
    full = held(NeoHookean(E, NU))
    turned = full.restrict(-1.5 * full.mesh.vertices)
    assert full.elastic_energy(turned) == np.inf
    assert np.isinf(full.internal_force(turned)).all()
    zero = np.zeros(full.n_dofs)
    assert not np.isfinite(full.residual(turned, zero, zero, zero)).any()
    with pytest.raises(ValueError, match="q inverts tetrahedron [0-9]+, where NeoHookean is not defined"):
        full.state(turned)


# Mass, damping, dynamics


@pytest.mark.parametrize("lumped", [False, True])
def test_mass_is_volume_times_density(lumped):
    full = FullModel(crooked_box(), StVK(E, NU), density=RHO, pinned=None, lumped=lumped)
    assert full.vertex_mass.sum() == pytest.approx(RHO * 0.036, rel=1e-14)
    assert full.mass.sum() == pytest.approx(3 * RHO * 0.036, rel=1e-14)
    assert abs(full.mass - full.mass.T).max() < 10 * EPS * full.mass.max()
    assert (full.mass.nnz == full.n_dofs) is lumped


def test_consistent_mass_integrates_a_linear_velocity_exactly():
    full = FullModel(TetMesh.box((2.0, 1.0, 1.0), (3, 2, 2)), StVK(E, NU), density=RHO, pinned=None)
    v = np.zeros(full.mesh.vertices.shape)
    v[:, 1] = full.mesh.vertices[:, 0]
    assert full.kinetic_energy(full.restrict(v)) == pytest.approx(RHO / 2 * 8 / 3, rel=1e-14)


def test_rayleigh_damping_is_its_two_parts():
    full = held(StVK(E, NU), damping=Rayleigh(mass=0.7, stiffness=0.01))
    expected = 0.7 * full.mass + 0.01 * full.rest_stiffness
    assert abs(full.damping_matrix - expected).max() < 10 * EPS * abs(expected).max()
    assert held(StVK(E, NU)).damping_matrix is None


def test_another_damping_is_as_if_built_with_it():
    damping, bare = Rayleigh(mass=0.7, stiffness=0.01), held(StVK(E, NU))
    built, q = held(StVK(E, NU), damping=damping), np.zeros(bare.n_dofs)
    v = np.random.default_rng(0).standard_normal(bare.n_dofs)
    damped = bare.with_damping(damping)
    assert damped.fingerprint == built.fingerprint
    np.testing.assert_array_equal(damped.residual(q, v, q, q), built.residual(q, v, q, q))
    np.testing.assert_array_equal(damped.tangent(q, v, q, 3.0, 5.0, q).solve(v), built.tangent(q, v, q, 3.0, 5.0, q).solve(v))
    assert bare.damping_matrix is None and damped.with_damping(Rayleigh()).damping_matrix is None


@MATERIALS
def test_dynamic_tangent_is_the_derivative_of_the_residual(material):
    full = held(material, damping=Rayleigh(mass=0.7, stiffness=0.01))
    rng = np.random.default_rng(2)
    q, (v, a, f, d) = deformed(full), rng.standard_normal((4, full.n_dofs))
    s1, s2 = 30.0, 900.0
    derivative = richardson(lambda h: full.residual(q + h * d, v + s1 * h * d, a + s2 * h * d, f), 1e-6)
    np.testing.assert_allclose(full.tangent(q, v, a, s1, s2, f).solve(derivative), d, atol=1e-7 * np.abs(d).max() * 100)


def test_initial_acceleration_balances_the_forces():
    full = held(StVK(E, NU), damping=Rayleigh(mass=0.7))
    u, v = deformed(full), np.random.default_rng(0).standard_normal(full.n_dofs)
    state = full.state(u, v, force=gravity(full))
    unbalanced = full.residual(state.q, state.v, state.a, gravity(full))
    assert np.abs(unbalanced).max() < 1e-12 * np.abs(full.internal_force(u)).max()
    assert full.energy(state) == pytest.approx(full.elastic_energy(u) + full.kinetic_energy(v))
    assert not full.state().a.any()


def test_a_free_body_falls_as_gravity_says():
    full = free(StVK(E, NU))
    np.testing.assert_allclose(full.full_displacement(full.state(force=gravity(full)).a), np.tile((0, 0, -9.81), (80, 1)), atol=1e-11)


# Fields, pins, identity


def test_pinned_vertices_do_not_move():
    full = held(StVK(E, NU))
    u = np.arange(1.0, full.n_dofs + 1)
    field = full.full_displacement(u)
    assert not field[full.pinned].any() and field[~full.pinned].all()
    np.testing.assert_array_equal(full.restrict(field), u)
    np.testing.assert_array_equal(field.ravel()[full.free], u)


def test_pins_are_a_mask_or_indices():
    mesh = crooked_box()
    mask = mesh.vertices[:, 0] == 0
    one, other = (FullModel(mesh, StVK(E, NU), density=RHO, pinned=pins) for pins in (mask, np.flatnonzero(mask)))
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.free, other.free)


def test_fingerprint_tells_models_apart():
    mesh = crooked_box()
    pins = mesh.vertices[:, 0] == 0
    variants = [
        FullModel(mesh, StVK(E, NU), density=RHO, pinned=pins),
        FullModel(crooked_box(seed=1), StVK(E, NU), density=RHO, pinned=pins),
        FullModel(mesh, NeoHookean(E, NU), density=RHO, pinned=pins),
        FullModel(mesh, StVK(E, 0.31), density=RHO, pinned=pins),
        FullModel(mesh, StVK(E, NU), density=RHO + 1, pinned=pins),
        FullModel(mesh, StVK(E, NU), density=RHO, pinned=~pins),
        FullModel(mesh, StVK(E, NU), density=RHO, pinned=pins, lumped=True),
        FullModel(mesh, StVK(E, NU), density=RHO, pinned=pins, damping=Rayleigh(mass=1)),
    ]
    assert len({full.fingerprint for full in variants}) == len(variants)


@pytest.mark.parametrize("full", [held(NeoHookean(E, NU), damping=Rayleigh(mass=1.0)), free(StVK(E, NU))], ids=["held", "free"])
def test_a_model_travels_to_another_process(full):
    copy = pickle.loads(pickle.dumps(full))
    u = deformed(full)
    assert copy.fingerprint == full.fingerprint
    np.testing.assert_array_equal(copy.internal_force(u), full.internal_force(u))


def test_results_are_not_overwritten_by_the_next_call():
    full = held(StVK(E, NU))
    u = deformed(full)
    force, stiffness = full.internal_force(u), full.stiffness(u)
    kept = force.copy(), stiffness.copy()
    full.internal_force(0 * u), full.stiffness(0 * u), full.tangent(0 * u, u, u, 1.0, 1.0, u)
    np.testing.assert_array_equal(force, kept[0])
    assert abs(stiffness - kept[1]).max() == 0


# What is refused


@pytest.mark.parametrize(
    ("pinned", "message"),
    [
        ([], "no vertex is pinned: an unattached mesh.*pinned=None"),
        (np.zeros(80, bool), "no vertex is pinned"),
        (np.ones(80, bool), "all 80 vertices are pinned"),
        (np.ones(79, bool), r"pinned has shape \(79,\); expected \(80,\)"),
        ([3, 80], "pinned names vertex 80; expected indices from 0 to 79"),
        ([-1], "pinned names vertex -1"),
        ([0.5], "pinned has dtype float64"),
    ],
)
def test_bad_pins_are_refused(pinned, message):
    with pytest.raises(ValueError, match=message):
        FullModel(crooked_box(), StVK(E, NU), density=RHO, pinned=pinned)


@pytest.mark.parametrize("density", [0.0, -1.0, np.nan, np.inf])
def test_bad_density_is_refused(density):
    with pytest.raises(ValueError, match="density is"):
        FullModel(crooked_box(), StVK(E, NU), density=density, pinned=[0])


def test_negative_damping_is_refused():
    with pytest.raises(ValueError, match=r"Rayleigh stiffness coefficient is -0\.1"):
        Rayleigh(stiffness=-0.1)


def test_bad_state_is_refused():
    full = held(StVK(E, NU))
    with pytest.raises(ValueError, match=r"q has shape \(3,\); expected \(192,\)"):
        full.state(np.zeros(3))
    with pytest.raises(ValueError, match="force holds 192 value"):
        full.state(force=np.full(192, np.nan))
    with pytest.raises(ValueError, match=r"field has shape \(80,\); expected \(80, 3\)"):
        full.restrict(np.zeros(80))


def test_a_state_that_is_not_a_number_cannot_be_solved_with():
    full = held(StVK(E, NU))
    zero = np.zeros(full.n_dofs)
    with pytest.raises(np.linalg.LinAlgError, match="not finite"):
        full.tangent(np.full(full.n_dofs, np.nan), zero, zero, 1.0, 1.0, zero).solve(zero + 1)
