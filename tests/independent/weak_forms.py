"""Elasticity in scikit-fem: the weak forms by hand, nothing of hodsim in them but the order of the vertices.

    W(u) = int Psi(F),    dW[v] = int P : grad v,    d2W[u, v] = int dP[grad u] : grad v,    F = I + grad u

Constants are Lame's mu and lam of Young's modulus and Poisson's ratio; the stable neo-Hookean's of Smith, de Goes & Kim 2018, section 3.4.
"""

from dataclasses import dataclass

import numpy as np
import skfem
from scipy.sparse import csr_matrix
from skfem.helpers import ddot, det, dot, eye, grad, inv, mul, sym_grad, trace, transpose
from skfem.models.elasticity import lame_parameters

from hodsim.mesh import TetMesh


@dataclass(frozen=True)
class Law:
    """A material by Young's modulus [Pa] and Poisson's ratio: energy density, stress P, and dP for a change dF; fields are (3, 3, T, points)."""

    youngs_modulus: float
    poisson_ratio: float

    @property
    def lame(self):
        lam, mu = lame_parameters(self.youngs_modulus, self.poisson_ratio)
        return mu, lam


class StVK(Law):
    def energy(self, F):
        mu, lam = self.lame
        E = (mul(transpose(F), F) - eye(1.0 + 0 * F[0, 0], 3)) / 2
        return mu * ddot(E, E) + lam / 2 * trace(E) ** 2

    def stress(self, F):
        return mul(F, self._second(F))

    def change(self, F, dF):
        mu, lam = self.lame
        dE = (mul(transpose(F), dF) + mul(transpose(dF), F)) / 2
        return mul(dF, self._second(F)) + mul(F, 2 * mu * dE + eye(lam * trace(dE), 3))

    def _second(self, F):
        mu, lam = self.lame
        E = (mul(transpose(F), F) - eye(1.0 + 0 * F[0, 0], 3)) / 2
        return 2 * mu * E + eye(lam * trace(E), 3)


class NeoHookean(Law):
    def energy(self, F):
        mu, lam = self.lame
        log_J = np.log(det(F))
        return mu / 2 * (ddot(F, F) - 3) - mu * log_J + lam / 2 * log_J**2

    def stress(self, F):
        mu, lam = self.lame
        return mu * F + (lam * np.log(det(F)) - mu) * transpose(inv(F))

    def change(self, F, dF):
        mu, lam = self.lame
        G = inv(F)
        d_inverse = -mul(G, mul(dF, G))
        return mu * dF + lam * trace(mul(G, dF)) * transpose(G) + (lam * np.log(det(F)) - mu) * transpose(d_inverse)


class StableNeoHookean(Law):
    @property
    def constants(self):
        mu, lam = self.lame
        mu, lam = 4 / 3 * mu, lam + 5 / 6 * mu
        return mu, lam, 1 + mu / lam - mu / (4 * lam)

    def energy(self, F):
        mu, lam, alpha = self.constants
        at_rest = lam / 2 * (1 - alpha) ** 2 - mu / 2 * np.log(4.0)
        return mu / 2 * (ddot(F, F) - 3) + lam / 2 * (det(F) - alpha) ** 2 - mu / 2 * np.log(ddot(F, F) + 1) - at_rest

    def stress(self, F):
        mu, lam, alpha = self.constants
        return mu * (1 - 1 / (ddot(F, F) + 1)) * F + lam * (det(F) - alpha) * det(F) * transpose(inv(F))

    def change(self, F, dF):
        mu, lam, alpha = self.constants
        squares, J, G = ddot(F, F), det(F), inv(F)
        dJ = J * trace(mul(G, dF))
        d_cofactor = dJ * transpose(G) - J * transpose(mul(G, mul(dF, G)))
        deviatoric = mu * (1 - 1 / (squares + 1)) * dF + 2 * mu * ddot(F, dF) / (squares + 1) ** 2 * F
        return deviatoric + lam * dJ * J * transpose(G) + lam * (J - alpha) * d_cofactor


class Solid:
    """A body of linear tetrahedra, free everywhere; vectors are (3 V,): x, y, z of each vertex in the order of the mesh."""

    def __init__(self, mesh: TetMesh, law: Law, density: float):
        peer = skfem.MeshTet(mesh.vertices.T.copy(), mesh.tetrahedra.T.copy())
        self.law, self.density = law, density
        self.basis = skfem.Basis(peer, skfem.ElementVector(skfem.ElementTetP1()), intorder=2)  # exact: F is constant, N_a N_b quadratic
        self.order = self.basis.nodal_dofs.T.ravel()  # numbers of the peer's unknowns in our order

    def energy(self, u):
        @skfem.Functional
        def density(w):
            return self.law.energy(_gradient(w))

        return density.assemble(self.basis, u=self._field(u))

    def internal_force(self, u):
        @skfem.LinearForm
        def work(v, w):
            return ddot(self.law.stress(_gradient(w)), grad(v))

        return work.assemble(self.basis, u=self._field(u))[self.order]

    def stiffness(self, u):
        @skfem.BilinearForm
        def work(du, v, w):
            return ddot(self.law.change(_gradient(w), grad(du)), grad(v))

        return self._matrix(work.assemble(self.basis, u=self._field(u)))

    @property
    def mass(self):
        @skfem.BilinearForm
        def inertia(u, v, w):
            return self.density * dot(u, v)

        return self._matrix(inertia.assemble(self.basis))

    @property
    def linear_stiffness(self):
        """Of Hooke's law, which all materials have at rest."""
        mu, lam = self.law.lame

        @skfem.BilinearForm
        def work(u, v, w):
            strain = sym_grad(u)
            return ddot(2 * mu * strain + eye(lam * trace(strain), 3), sym_grad(v))

        return self._matrix(work.assemble(self.basis))

    def weight(self, acceleration):
        @skfem.LinearForm
        def work(v, w):
            return self.density * sum(a * v[i] for i, a in enumerate(acceleration))

        return work.assemble(self.basis)[self.order]

    def _field(self, u):
        values = np.empty(len(u))
        values[self.order] = u
        return self.basis.interpolate(values)

    def _matrix(self, matrix) -> csr_matrix:
        return csr_matrix(matrix)[self.order][:, self.order]


def _gradient(w):
    return grad(w["u"]) + eye(1.0 + 0 * w.x[0], 3)
