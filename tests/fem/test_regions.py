"""Bodies of several materials: each region by itself is the oracle, and every way to the elastic force agrees."""

import pickle

import numpy as np
import pytest

from cases import curved_subspace
from hodsim.dynamics import simulate
from hodsim.fem import Composite, FullModel, InvertedElementError, NeoHookean, StableNeoHookean, StVK, traction
from hodsim.mesh import Group, TetMesh
from hodsim.reduced import CompiledStep, Cubature, CubicForce, ReducedModel
from hodsim.subspace import Model, modal

BOX = TetMesh.box((0.4, 0.1, 0.1), (4, 1, 1))
ROOT = np.flatnonzero(BOX.vertices[BOX.tetrahedra].mean(axis=1)[:, 0] < 0.2)
REST = np.setdiff1d(np.arange(len(BOX.tetrahedra)), ROOT)
END = BOX.surface[(BOX.vertices[BOX.surface][:, :, 0] == 0.4).all(axis=1)]
MESH = TetMesh(BOX.vertices, BOX.tetrahedra, {
    "root": Group.of(BOX.tetrahedra[ROOT], ROOT), "tip": Group.of(BOX.tetrahedra[REST], REST), "end": Group.of(END, (), END),
})  # fmt: skip
DENSITIES = {"root": 2e3, "tip": 500.0}
SOFT, STIFF = {"youngs_modulus": 1e5, "poisson_ratio": 0.3}, {"youngs_modulus": 4e5, "poisson_ratio": 0.45}
BODIES = {  # the materials of their regions
    "StVK": {"root": StVK(**STIFF), "tip": StVK(**SOFT)},
    "neo-Hookean": {"root": NeoHookean(**STIFF), "tip": NeoHookean(**SOFT)},
    "stable neo-Hookean": {"root": StableNeoHookean(**STIFF), "tip": StableNeoHookean(**SOFT)},
    "two laws": {"root": StVK(**STIFF), "tip": StableNeoHookean(**SOFT)},
    "two laws, other constants": {"root": NeoHookean(**SOFT), "tip": StVK(**STIFF)},
}


def body(kind: str = "StVK", *, pinned=MESH.vertices[:, 0] == 0) -> FullModel:
    materials = BODIES[kind]
    composite = Composite.of_regions(MESH, {"root": materials["root"]}, default=materials["tip"])
    return FullModel(MESH, composite, density=MESH.per_element(DENSITIES), pinned=pinned)


def part(name: str, kind: str) -> tuple[FullModel, np.ndarray]:
    """A region alone, free, with a material of its own; and its vertices in the whole body."""
    used, numbers = np.unique(MESH.tetrahedra[MESH.group(name).tetrahedra], return_inverse=True)
    return FullModel(TetMesh(MESH.vertices[used], numbers.reshape(-1, 4)), BODIES[kind][name], density=DENSITIES[name], pinned=None), used


@pytest.mark.parametrize("kind", BODIES)
def test_energy_force_stiffness_and_mass_are_the_sums_over_regions(kind):
    full = body(kind, pinned=None)
    field = np.random.default_rng(0).normal(scale=0.003, size=MESH.vertices.shape)
    u, n = field.ravel(), field.size
    energy, force, stiffness, mass = 0.0, np.zeros(n), np.zeros((n, n)), np.zeros((n, n))
    for name in DENSITIES:
        alone, used = part(name, kind)
        dofs = (3 * used[:, None] + np.arange(3)).ravel()
        energy += alone.elastic_energy(u[dofs])
        force[dofs] += alone.internal_force(u[dofs])
        stiffness[np.ix_(dofs, dofs)] += alone.stiffness(u[dofs]).toarray()
        mass[np.ix_(dofs, dofs)] += alone.mass.toarray()
    assert full.elastic_energy(u) == pytest.approx(energy, rel=1e-13)
    for found, expected in ((full.internal_force(u), force), (full.stiffness(u).toarray(), stiffness), (full.mass.toarray(), mass)):
        np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("kind", BODIES)
def test_all_elements_as_a_cubature_are_the_body_itself(kind):
    full = body(kind)
    subspace = curved_subspace(full)
    everything = Cubature(full, subspace, np.arange(len(MESH.tetrahedra)), np.ones(len(MESH.tetrahedra)))
    exact = ReducedModel(full, subspace).elasticity
    g, J = 0.3 * np.ones(subspace.width), np.eye(subspace.width)
    assert everything.energy(g) == pytest.approx(exact.energy(g), rel=1e-12)
    np.testing.assert_allclose(everything.force(g), exact.force(g), atol=1e-11 * np.abs(exact.force(g)).max())
    np.testing.assert_allclose(everything.stiffness(g, J), exact.stiffness(g, J), atol=1e-11 * np.abs(exact.stiffness(g, J)).max())


def test_the_cubic_force_is_exact_in_a_body_of_regions():
    full = body()
    subspace = modal(full, 4)
    exact, cubic = ReducedModel(full, subspace).elasticity, CubicForce(full, subspace)
    g = np.array([0.02, -0.01, 0.015, 0.01])
    np.testing.assert_allclose(cubic.force(g), exact.force(g), atol=1e-9 * np.abs(exact.force(g)).max())


@pytest.mark.parametrize("kind", ["StVK", "two laws"])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_compiled_step_follows_the_reference(kind, sampled):
    """Sampled elements are given in an order in which the materials alternate."""
    full = body(kind)
    reduced = ReducedModel(full, modal(full, 4))
    if sampled:
        chosen = np.argsort(np.arange(len(MESH.tetrahedra)) % 2, kind="stable")[::-1]
        reduced = reduced.with_elasticity(Cubature(full, reduced.subspace, chosen, np.linspace(0.5, 2.0, len(chosen))))
    force = reduced.generalized_force(traction(full, MESH.group("end").triangles, (0.0, 0.0, -30.0)))
    rollout = CompiledStep(reduced).rollout(reduced.state(), 0.01, np.tile(force, (5, 1)))
    states = list(simulate(reduced, reduced.state(), 0.01, force=force, steps=5))
    expected = np.array([state.q for state in states])
    np.testing.assert_allclose(rollout.q, expected, atol=1e-6 * np.abs(expected).max())  # both by Newton's method to its tolerance


def test_regions_travel_with_the_model(tmp_path):
    full = body("two laws")
    loaded = Model.load(Model(full, modal(full, 3)).save(tmp_path / "body.hod")).full
    for copy in (loaded, pickle.loads(pickle.dumps(full))):
        assert copy.fingerprint == full.fingerprint
        np.testing.assert_array_equal(copy.density, full.density)
        assert isinstance(copy.material, Composite) and copy.material.materials == full.material.materials
        np.testing.assert_array_equal(copy.material.kinds, full.material.kinds)
        assert set(copy.mesh.groups) == {"root", "tip", "end"}
        for name, group in full.mesh.groups.items():
            for part, values in vars(group).items():
                np.testing.assert_array_equal(getattr(copy.mesh.group(name), part), values)
    others = [full.material.materials[0], Composite(full.material.materials[::-1], full.material.kinds)]
    assert all(FullModel(MESH, other, density=full.density, pinned=full.pinned).fingerprint != full.fingerprint for other in others)


@pytest.mark.parametrize(("values", "message"), [
    ({"root": 1.0}, "lie in no region of root; give a default"),
    ({"end": 1.0}, r"group 'end' has no tetrahedra; expected a region, such as one of 'root', 'tip'"),
    ({"core": 1.0}, r"the mesh has no group 'core'; it has 'end', 'root', 'tip'"),
])  # fmt: skip
def test_regions_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MESH.per_element(values)


def test_regions_that_overlap_must_agree():
    mesh = TetMesh(BOX.vertices, BOX.tetrahedra, {**MESH.groups, "all": Group.of((0,), np.arange(len(BOX.tetrahedra)))})
    with pytest.raises(ValueError, match=r"group 'all' shares element \d+ with 'root', which is not like it"):
        mesh.per_element({"root": 2.0, "all": 3.0})
    assert set(mesh.per_element({"root": 2.0}, default=3.0)) == {2.0, 3.0}


@pytest.mark.parametrize(("density", "message"), [
    (np.ones(3), r"density has shape \(3,\); expected \(20,\)"),
    (-np.ones(20), "density of element 0 is -1.0"),
])  # fmt: skip
def test_bad_densities_of_elements_are_named(density, message):
    with pytest.raises(ValueError, match=message):
        FullModel(MESH, StVK(**SOFT), density=density, pinned=None)


@pytest.mark.parametrize(("kinds", "message"), [
    (np.zeros(3, int), r"kinds of the materials has shape \(3,\); expected \(20,\)"),
    (np.full(20, 2), "the kind of element 0 is 2; expected 0 to 1, for 2 materials"),
    (np.zeros(20), "expected a whole number for each element"),
])  # fmt: skip
def test_kinds_that_do_not_fit_are_named(kinds, message):
    with pytest.raises(ValueError, match=message):
        FullModel(MESH, Composite((StVK(**SOFT), NeoHookean(**SOFT)), kinds), density=1e3, pinned=None)


def test_an_inverted_element_is_named_by_its_number_in_the_body():
    F = np.tile(np.eye(3), (len(MESH.tetrahedra), 1, 1))
    F[REST[1], 0, 0] = -0.5
    composite = Composite.of_regions(MESH, {"tip": NeoHookean(**SOFT)}, default=StVK(**SOFT))
    with pytest.raises(InvertedElementError, match=f"element {REST[1]} has det F = -0.5"):
        composite.stress(F)
    assert np.isinf(composite.energy_density(F)[REST[1]])


def test_a_body_with_another_law_somewhere_has_no_cubic_force():
    full = body("two laws")
    assert not CubicForce.covers(full) and CubicForce.covers(body())
    with pytest.raises(ValueError, match="the force of StableNeoHookean is no polynomial"):
        CubicForce(full, modal(full, 2))
