"""The stresses of the materials and their variations along dF, for one deformation gradient F (3, 3), or one of vectors over elements.

    St. Venant-Kirchhoff   P = F S,  S = 2 mu E + lam tr(E) I,  E = (F^T F - I)/2
    neo-Hookean            P = mu F + b C,  b = (lam log J - mu)/J,  C = cof F = dJ/dF
    stable neo-Hookean     P = a F + lam (J - alpha) C,  a = mu (1 - 1/(I + 1)),  I = |F|^2

The constants are those of `Isotropic.constants`, padded to three.
"""

from __future__ import annotations

import numpy as np

IDENTITY = np.eye(3)


def stvk(F, mu, lam, _):
    E = (F.T @ F - IDENTITY) * 0.5
    return F @ _second_piola_kirchhoff(E, mu, lam)


def stvk_variation(F, dF, mu, lam, _):
    E, dE = (F.T @ F - IDENTITY) * 0.5, (F.T @ dF + dF.T @ F) * 0.5
    return dF @ _second_piola_kirchhoff(E, mu, lam) + F @ _second_piola_kirchhoff(dE, mu, lam)


def neo_hookean(F, mu, lam, _):
    C = _cofactor(F)
    J = F[0] @ C[0]
    return mu * F + (lam * np.log(J) - mu) / J * C


def neo_hookean_variation(F, dF, mu, lam, _):
    C = _cofactor(F)
    J = F[0] @ C[0]
    pressure = lam * np.log(J) - mu
    return mu * dF + pressure / J * _cofactor_variation(F, dF) + (lam - pressure) / (J * J) * np.sum(C * dF) * C


def stable_neo_hookean(F, mu, lam, alpha):
    C, more = _cofactor(F), np.sum(F * F) + 1
    return mu * (1 - 1 / more) * F + lam * (F[0] @ C[0] - alpha) * C


def stable_neo_hookean_variation(F, dF, mu, lam, alpha):
    C, more = _cofactor(F), np.sum(F * F) + 1
    stretched = mu * (1 - 1 / more) * dF + 2 * mu / (more * more) * np.sum(F * dF) * F
    return stretched + lam * (F[0] @ C[0] - alpha) * _cofactor_variation(F, dF) + lam * np.sum(C * dF) * C


def _second_piola_kirchhoff(E, mu, lam):
    return 2 * mu * E + lam * np.trace(E) * IDENTITY


def _cofactor(F):
    """Each row is the cross product of the other two."""
    return np.array([_cross(F[1], F[2]), _cross(F[2], F[0]), _cross(F[0], F[1])])


def _cofactor_variation(F, dF):
    return np.array([_cross(dF[i], F[j]) + _cross(F[i], dF[j]) for i, j in ((1, 2), (2, 0), (0, 1))])


def _cross(a, b):
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
