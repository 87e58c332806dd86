"""The closed forms of the materials, compiled. Elements are lanes: F is (3, 3, n), stress (3, 3, n), stiffness (3, 3, 3, 3, n).

    St. Venant-Kirchhoff   P = F S,  S = 2 mu E + lam tr(E) I
                           A_ijkl = lam F_ij F_kl + mu (F_il F_kj + (F F^T)_ik d_jl) + d_ik S_jl
    neo-Hookean            P = mu F + (lam log J - mu) G,  G = F^-T
                           A_ijkl = lam G_ij G_kl + (mu - lam log J) G_il G_kj + mu d_ik d_jl
    stable neo-Hookean     P = mu (1 - 1/(I + 1)) F + lam (J - alpha) C,  I = |F|^2,  C = cof F = dJ/dF
                           A_ijkl = mu (1 - 1/(I + 1)) d_ik d_jl + 2 mu/(I + 1)^2 F_ij F_kl + lam C_ij C_kl
                                  + lam (J - alpha) dC_ij/dF_kl,   dC_ij/dF_kl = e_ikm e_jln F_mn

The innermost loop of each statement runs along the lanes and is what the compiler turns into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, error_model="numpy", fastmath={"contract"})


@compiled
def stvk_energy(F, mu, lam, energy):
    n = F.shape[2]
    E, trace = np.empty((3, 3, n)), np.zeros(n)
    _green_strain(F, E, trace)
    for e in range(n):
        energy[e] = 0.5 * lam * trace[e] ** 2
    for i in range(3):
        for j in range(3):
            for e in range(n):
                energy[e] += mu * E[i, j, e] ** 2


@compiled
def stvk_stress(F, mu, lam, P):
    n = F.shape[2]
    S = np.empty((3, 3, n))
    _second_piola_kirchhoff(F, mu, lam, S)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                P[i, j, e] = F[i, 0, e] * S[0, j, e] + F[i, 1, e] * S[1, j, e] + F[i, 2, e] * S[2, j, e]


@compiled
def stvk_stiffness(F, mu, lam, A):
    n = F.shape[2]
    S, B = np.empty((3, 3, n)), np.empty((3, 3, n))  # B = F F^T
    _second_piola_kirchhoff(F, mu, lam, S)
    for i in range(3):
        for k in range(3):
            for e in range(n):
                B[i, k, e] = F[i, 0, e] * F[k, 0, e] + F[i, 1, e] * F[k, 1, e] + F[i, 2, e] * F[k, 2, e]
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for l in range(3):
                    for e in range(n):
                        A[i, j, k, l, e] = lam * F[i, j, e] * F[k, l, e] + mu * F[i, l, e] * F[k, j, e]
                    if j == l:
                        for e in range(n):
                            A[i, j, k, l, e] += mu * B[i, k, e]
                    if i == k:
                        for e in range(n):
                            A[i, j, k, l, e] += S[j, l, e]


@compiled
def neo_hookean_energy(F, mu, lam, energy):
    n = F.shape[2]
    G, J = np.empty((3, 3, n)), np.empty(n)
    _cofactor(F, G, J)
    for e in range(n):
        energy[e] = np.inf
        if J[e] > 0:
            log_J = np.log(J[e])
            energy[e] = -1.5 * mu - mu * log_J + 0.5 * lam * log_J**2
    for i in range(3):
        for j in range(3):
            for e in range(n):
                energy[e] += 0.5 * mu * F[i, j, e] ** 2


@compiled
def neo_hookean_stress(F, mu, lam, P):
    n = F.shape[2]
    G, log_J = np.empty((3, 3, n)), np.empty(n)
    _inverse_transpose(F, G, log_J)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                P[i, j, e] = mu * F[i, j, e] + (lam * log_J[e] - mu) * G[i, j, e]


@compiled
def neo_hookean_stiffness(F, mu, lam, A):
    n = F.shape[2]
    G, log_J = np.empty((3, 3, n)), np.empty(n)
    _inverse_transpose(F, G, log_J)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for l in range(3):
                    for e in range(n):
                        A[i, j, k, l, e] = lam * G[i, j, e] * G[k, l, e] + (mu - lam * log_J[e]) * G[i, l, e] * G[k, j, e]
                    if i == k and j == l:
                        for e in range(n):
                            A[i, j, k, l, e] += mu


@compiled
def stable_neo_hookean_energy(F, mu, lam, alpha, energy):
    n = F.shape[2]
    C, J, squares = np.empty((3, 3, n)), np.empty(n), np.empty(n)
    _cofactor(F, C, J)
    _sum_of_squares(F, squares)
    at_rest = 0.5 * lam * (1 - alpha) ** 2
    for e in range(n):
        shear = 0.5 * mu * (squares[e] - 3 - np.log(0.25 * (squares[e] + 1)))
        energy[e] = shear + 0.5 * lam * (J[e] - alpha) ** 2 - at_rest


@compiled
def stable_neo_hookean_stress(F, mu, lam, alpha, P):
    n = F.shape[2]
    C, J, squares = np.empty((3, 3, n)), np.empty(n), np.empty(n)
    _cofactor(F, C, J)
    _sum_of_squares(F, squares)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                P[i, j, e] = mu * (1 - 1 / (squares[e] + 1)) * F[i, j, e] + lam * (J[e] - alpha) * C[i, j, e]


@compiled
def stable_neo_hookean_stiffness(F, mu, lam, alpha, A):
    n = F.shape[2]
    C, J, squares = np.empty((3, 3, n)), np.empty(n), np.empty(n)
    _cofactor(F, C, J)
    _sum_of_squares(F, squares)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for l in range(3):
                    for e in range(n):
                        A[i, j, k, l, e] = 2 * mu / (squares[e] + 1) ** 2 * F[i, j, e] * F[k, l, e] + lam * C[i, j, e] * C[k, l, e]
                    if i == k and j == l:
                        for e in range(n):
                            A[i, j, k, l, e] += mu * (1 - 1 / (squares[e] + 1))
                    if i != k and j != l:
                        m, o = 3 - i - k, 3 - j - l
                        sign = (k - i) * (m - k) * (i - m) * (l - j) * (o - l) * (j - o) / 4  # e_ikm e_jlo
                        for e in range(n):
                            A[i, j, k, l, e] += sign * lam * (J[e] - alpha) * F[m, o, e]


@compiled
def determinant(F, J):
    n = F.shape[2]
    C = np.empty((3, 3, n))
    _cofactor(F, C, J)


@compiled
def _green_strain(F, E, trace):
    """E = (F^T F - I)/2 and its trace, to be handed in as zero."""
    n = F.shape[2]
    for i in range(3):
        for j in range(3):
            unit = 0.5 if i == j else 0.0
            for e in range(n):
                E[i, j, e] = 0.5 * (F[0, i, e] * F[0, j, e] + F[1, i, e] * F[1, j, e] + F[2, i, e] * F[2, j, e]) - unit
        for e in range(n):
            trace[e] += E[i, i, e]


@compiled
def _second_piola_kirchhoff(F, mu, lam, S):
    n = F.shape[2]
    trace = np.zeros(n)
    _green_strain(F, S, trace)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                S[i, j, e] *= 2 * mu
        for e in range(n):
            S[i, i, e] += lam * trace[e]


@compiled
def _cofactor(F, C, J):
    """C = dJ/dF and J = det F."""
    n = F.shape[2]
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            for e in range(n):
                C[i, j, e] = F[i1, j1, e] * F[i2, j2, e] - F[i1, j2, e] * F[i2, j1, e]
    for e in range(n):
        J[e] = F[0, 0, e] * C[0, 0, e] + F[0, 1, e] * C[0, 1, e] + F[0, 2, e] * C[0, 2, e]


@compiled
def _inverse_transpose(F, G, log_J):
    """G = F^-T = cof(F) / J and log J, for J > 0."""
    n = F.shape[2]
    J = np.empty(n)
    _cofactor(F, G, J)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                G[i, j, e] /= J[e]
    for e in range(n):
        log_J[e] = np.log(J[e])


@compiled
def _sum_of_squares(F, squares):
    n = F.shape[2]
    for e in range(n):
        squares[e] = 0.0
    for i in range(3):
        for j in range(3):
            for e in range(n):
                squares[e] += F[i, j, e] ** 2
