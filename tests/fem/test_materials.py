"""Materials: closed forms against differentiation of the formula, invariance, Hooke's law at small strain, and what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hodsim.fem import InvertedElementError, Material, NeoHookean, StableNeoHookean, StVK
from hodsim.fem.materials import determinant

E, NU = 2e6, 0.3
ALL = pytest.mark.parametrize("material", [cls(E, nu) for cls in (StVK, NeoHookean, StableNeoHookean) for nu in (-0.4, 0.0, NU, 0.49)], ids=str)
EPS = np.finfo(float).eps


def gradients(count=50, size=0.25, seed=0):
    """Deformation gradients (count, 3, 3) with det F > 0: strong strain and any rotation."""
    rng = np.random.default_rng(seed)
    F = rotations(4 * count, seed) @ (np.eye(3) + size * rng.standard_normal((4 * count, 3, 3)))
    return F[np.linalg.det(F) > 0.2][:count]


def rotations(count, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((count, 3, 3)))
    return Q * np.linalg.det(Q)[:, None, None]


def hooke(material):
    one = np.eye(3)
    bulk = np.einsum("ij,kl->ijkl", one, one)
    shear = np.einsum("ik,jl->ijkl", one, one) + np.einsum("il,jk->ijkl", one, one)
    return material.lam * bulk + material.mu * shear


@ALL
@pytest.mark.parametrize("quantity", ["energy_density", "stress", "stiffness"])
def test_closed_form_is_the_derivative_of_the_density(material, quantity):
    F = gradients()
    closed, differentiated = getattr(material, quantity)(F), getattr(Material, quantity)(material, F)
    assert closed.shape == differentiated.shape == F.shape[:1] + (3,) * {"energy_density": 0, "stress": 2, "stiffness": 4}[quantity]
    # a few dozen operations, among them differences of terms of the size of the stiffness times the strain
    np.testing.assert_allclose(closed, differentiated, rtol=0, atol=200 * EPS * np.abs(differentiated).max())


@ALL
def test_stress_matches_central_difference_of_energy(material):
    F, h = gradients(5), 1e-5
    dF = np.random.default_rng(1).standard_normal(F.shape)
    difference = (material.energy_density(F + h * dF) - material.energy_density(F - h * dF)) / (2 * h)
    np.testing.assert_allclose((material.stress(F) * dF).sum((1, 2)), difference, rtol=1e-7, atol=1e-8 * np.abs(difference).max())


@ALL
def test_rest_is_free_of_energy_and_stress(material):
    assert abs(material.energy_density(np.eye(3))) < 10 * EPS * E
    assert np.abs(material.stress(np.eye(3))).max() < 10 * EPS * np.abs(material.stiffness(np.eye(3))).max()


@ALL
def test_small_strain_is_hookes_law(material):
    np.testing.assert_allclose(material.stiffness(np.eye(3)), hooke(material), atol=20 * EPS * np.abs(hooke(material)).max())


@ALL
def test_rotation_turns_the_stress_and_keeps_the_energy(material):
    F, Q = gradients(20), rotations(20, seed=3)
    scale = np.abs(material.stress(F)).max()
    np.testing.assert_allclose(material.energy_density(Q @ F), material.energy_density(F), rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(material.stress(Q @ F), Q @ material.stress(F), atol=1e-13 * scale)
    turned = np.swapaxes(Q, 1, 2)
    np.testing.assert_allclose(material.stress(F @ Q), material.stress(F @ Q @ turned) @ Q, atol=1e-12 * scale)  # isotropy


@ALL
def test_stiffness_has_major_symmetry(material):
    A = material.stiffness(gradients())
    np.testing.assert_allclose(A, A.transpose(0, 3, 4, 1, 2), atol=10 * EPS * np.abs(A).max())


@ALL
def test_result_goes_where_it_is_asked_for(material):
    F = gradients(6)
    for out in (np.empty((6, 3, 3)), np.empty((3, 3, 6)).transpose(2, 0, 1)):
        assert material.stress(F, out=out) is out
        np.testing.assert_array_equal(out, material.stress(F))
    batch = F.reshape(2, 3, 3, 3)
    np.testing.assert_array_equal(material.stiffness(batch).reshape(6, 3, 3, 3, 3), material.stiffness(F))
    np.testing.assert_array_equal(material.stress(F[0]), material.stress(F)[0])


def test_uniaxial_stress_of_stvk_has_its_closed_form():
    stretch = 1.3  # free sides: E_yy = -nu E_xx, so that S_xx = E E_xx and P_xx = stretch S_xx
    strain = (stretch**2 - 1) / 2
    F = np.diag([stretch, *[np.sqrt(1 - 2 * NU * strain)] * 2])
    np.testing.assert_allclose(StVK(E, NU).stress(F), np.diag([stretch * E * strain, 0, 0]), atol=1e-9 * E)


def test_stable_neo_hookean_survives_inversion():
    material, flat = StableNeoHookean(E, NU), np.diag([1.0, 1.0, 0.0])
    for F in (flat, np.diag([1.0, 1.0, -0.5]), np.zeros((3, 3))):
        assert np.isfinite(material.energy_density(F)) and np.isfinite(material.stress(F)).all() and np.isfinite(material.stiffness(F)).all()
    assert material.stress(np.diag([1.0, 1.0, -0.5]))[2, 2] < 0  # pushes back towards the right side


def test_neo_hookean_names_the_inverted_element():
    material, F = NeoHookean(E, NU), np.tile(np.eye(3), (5, 1, 1))
    F[3, 2, 2] = -0.5
    np.testing.assert_array_equal(np.isinf(material.energy_density(F)), np.arange(5) == 3)
    for quantity in (material.stress, material.stiffness):
        with pytest.raises(InvertedElementError, match=r"element 3 has det F = -0\.5, one of 1.*StableNeoHookean"):
            quantity(F)
    with pytest.raises(ValueError, match="det F = 0"):
        material.stress(np.diag([1.0, 1.0, 0.0]))


def test_a_new_material_needs_only_its_density():
    @dataclass(frozen=True)
    class Ogden(Material):
        """Isochoric part mu/2 (J^(-2/3) |F|^2 - 3), volumetric part kappa/2 (J - 1)^2."""

        mu: float
        kappa: float

        def density(self, F):
            J = determinant(F)
            return self.mu / 2 * (J ** (-2 / 3) * (F * F).sum() - 3) + self.kappa / 2 * (J - 1) ** 2

    material = Ogden(1e5, 1e6)
    stretched = np.diag([2.0, 2.0, 2.0])  # no change of shape: all of the stress is pressure, kappa (J - 1) cof F
    np.testing.assert_allclose(material.stress(stretched), 1e6 * 7 * 4 * np.eye(3), rtol=1e-12)
    A = material.stiffness(np.eye(3))
    shear = np.einsum("ijkl,ij,kl->", A, *[np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]])] * 2) / 4
    assert shear == pytest.approx(1e5, rel=1e-12)


def test_a_material_without_density_says_so():
    with pytest.raises(NotImplementedError, match="Material has no density"):
        Material().energy_density(np.eye(3))


def test_determinant_is_twice_differentiable_at_rest():
    second = torch.func.hessian(determinant)(torch.eye(3, dtype=torch.float64))
    assert torch.isfinite(second).all() and second[0, 0, 1, 1] == 1 and second[0, 1, 1, 0] == -1


@pytest.mark.parametrize("kind", [StVK, NeoHookean, StableNeoHookean])
@pytest.mark.parametrize(
    ("young", "poisson", "message"),
    [
        (0.0, 0.3, "youngs_modulus is 0.0"), (-1.0, 0.3, "youngs_modulus is -1.0"), (np.nan, 0.3, "youngs_modulus is nan"),
        (1.0, 0.5, "poisson_ratio is 0.5"), (1.0, -1.0, "poisson_ratio is -1.0"), (1.0, np.nan, "poisson_ratio is nan"),
    ],
)
def test_impossible_constants_are_refused(kind, young, poisson, message):
    with pytest.raises(ValueError, match=message):
        kind(young, poisson)
