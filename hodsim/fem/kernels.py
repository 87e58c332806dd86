"""The closed forms of the materials, compiled. Elements are lanes: F is (3, 3, n), stress (3, 3, n), stiffness (3, 3, 3, 3, n).

    St. Venant-Kirchhoff   P = F S,  S = 2 mu E + lam tr(E) I
                           A_ijkl = lam F_ij F_kl + mu (F_il F_kj + (F F^T)_ik d_jl) + d_ik S_jl
    neo-Hookean            P = mu F + (lam log J - mu) G,  G = F^-T
                           A_ijkl = lam G_ij G_kl + (mu - lam log J) G_il G_kj + mu d_ik d_jl
    stable neo-Hookean     P = mu (1 - 1/(I + 1)) F + lam (J - alpha) C,  I = |F|^2,  C = cof F = dJ/dF
                           A_ijkl = mu (1 - 1/(I + 1)) d_ik d_jl + 2 mu/(I + 1)^2 F_ij F_kl + lam C_ij C_kl
                                  + lam (J - alpha) dC_ij/dF_kl,   dC_ij/dF_kl = e_ikm e_jln F_mn

The innermost loop of each statement runs along the lanes and is what the compiler turns into vector instructions. Variations,
dP = A : dF, are for several directions at a time, the first 9 n of each row of dF (directions, ..), and weighted element by element.
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
def stvk_variation(F, dF, weights, mu, lam, dP):
    """w (dF S + F dS),  dS = mu (F^T dF + dF^T F) + lam tr(F^T dF) I"""
    n = F.shape[2]
    S = np.empty((3, 3, n))
    _second_piola_kirchhoff(F, mu, lam, S)
    for i in range(3):
        for j in range(3):
            for e in range(n):
                S[i, j, e] *= weights[e]
    for k in range(len(dF)):
        d, p = dF[k, : 9 * n].reshape(3, 3, n), dP[k, : 9 * n].reshape(3, 3, n)
        for e in range(n):
            m, l = mu * weights[e], lam * weights[e]
            f00, f01, f02, f10, f11, f12, f20, f21, f22 = _entries(F, e)
            d00, d01, d02, d10, d11, d12, d20, d21, d22 = _entries(d, e)
            s00, s01, s02, s11, s12, s22 = S[0, 0, e], S[0, 1, e], S[0, 2, e], S[1, 1, e], S[1, 2, e], S[2, 2, e]
            c00, c11, c22 = f00 * d00 + f10 * d10 + f20 * d20, f01 * d01 + f11 * d11 + f21 * d21, f02 * d02 + f12 * d12 + f22 * d22
            pressure = l * (c00 + c11 + c22)
            t00, t11, t22 = 2 * m * c00 + pressure, 2 * m * c11 + pressure, 2 * m * c22 + pressure
            t01 = m * (f00 * d01 + f10 * d11 + f20 * d21 + f01 * d00 + f11 * d10 + f21 * d20)
            t02 = m * (f00 * d02 + f10 * d12 + f20 * d22 + f02 * d00 + f12 * d10 + f22 * d20)
            t12 = m * (f01 * d02 + f11 * d12 + f21 * d22 + f02 * d01 + f12 * d11 + f22 * d21)
            p[0, 0, e] = d00 * s00 + d01 * s01 + d02 * s02 + f00 * t00 + f01 * t01 + f02 * t02
            p[0, 1, e] = d00 * s01 + d01 * s11 + d02 * s12 + f00 * t01 + f01 * t11 + f02 * t12
            p[0, 2, e] = d00 * s02 + d01 * s12 + d02 * s22 + f00 * t02 + f01 * t12 + f02 * t22
            p[1, 0, e] = d10 * s00 + d11 * s01 + d12 * s02 + f10 * t00 + f11 * t01 + f12 * t02
            p[1, 1, e] = d10 * s01 + d11 * s11 + d12 * s12 + f10 * t01 + f11 * t11 + f12 * t12
            p[1, 2, e] = d10 * s02 + d11 * s12 + d12 * s22 + f10 * t02 + f11 * t12 + f12 * t22
            p[2, 0, e] = d20 * s00 + d21 * s01 + d22 * s02 + f20 * t00 + f21 * t01 + f22 * t02
            p[2, 1, e] = d20 * s01 + d21 * s11 + d22 * s12 + f20 * t01 + f21 * t11 + f22 * t12
            p[2, 2, e] = d20 * s02 + d21 * s12 + d22 * s22 + f20 * t02 + f21 * t12 + f22 * t22


@compiled
def neo_hookean_variation(F, dF, weights, mu, lam, dP):
    """That of P = a F + b C with a = mu and b = (lam log J - mu) / J."""
    n = F.shape[2]
    C, J, coefficients = np.empty((3, 3, n)), np.empty(n), np.empty((4, n))
    _cofactor(F, C, J)
    for e in range(n):
        w, pressure = weights[e], lam * np.log(J[e]) - mu
        coefficients[0, e], coefficients[1, e] = w * mu, w * pressure / J[e]
        coefficients[2, e], coefficients[3, e] = 0.0, w * (lam - pressure) / J[e] ** 2
    _cofactor_variation(F, C, dF, coefficients, dP)


@compiled
def stable_neo_hookean_variation(F, dF, weights, mu, lam, alpha, dP):
    """That of P = a F + b C with a = mu (1 - 1/(I + 1)) and b = lam (J - alpha)."""
    n = F.shape[2]
    C, J, squares, coefficients = np.empty((3, 3, n)), np.empty(n), np.empty(n), np.empty((4, n))
    _cofactor(F, C, J)
    _sum_of_squares(F, squares)
    for e in range(n):
        w, more = weights[e], squares[e] + 1
        coefficients[0, e], coefficients[1, e] = w * mu * (1 - 1 / more), w * lam * (J[e] - alpha)
        coefficients[2, e], coefficients[3, e] = 2 * w * mu / more**2, w * lam
    _cofactor_variation(F, C, dF, coefficients, dP)


@compiled
def _cofactor_variation(F, C, dF, coefficients, dP):
    """a dF + b dC + a_I (F : dF) F + b_J (C : dF) C for coefficients a, b, a_I, b_J, where a_I is twice the derivative of a by I = |F|^2
    and b_J that of b by J."""
    n = F.shape[2]
    for k in range(len(dF)):
        d, p = dF[k, : 9 * n].reshape(3, 3, n), dP[k, : 9 * n].reshape(3, 3, n)
        for e in range(n):
            a, b = coefficients[0, e], coefficients[1, e]
            f00, f01, f02, f10, f11, f12, f20, f21, f22 = _entries(F, e)
            c00, c01, c02, c10, c11, c12, c20, c21, c22 = _entries(C, e)
            d00, d01, d02, d10, d11, d12, d20, d21, d22 = _entries(d, e)
            x = f00 * d00 + f01 * d01 + f02 * d02 + f10 * d10 + f11 * d11 + f12 * d12 + f20 * d20 + f21 * d21 + f22 * d22
            y = c00 * d00 + c01 * d01 + c02 * d02 + c10 * d10 + c11 * d11 + c12 * d12 + c20 * d20 + c21 * d21 + c22 * d22
            x, y = coefficients[2, e] * x, coefficients[3, e] * y
            # each row of C is the cross product of the other two of F
            p[0, 0, e] = a * d00 + b * (d11 * f22 - d12 * f21 + f11 * d22 - f12 * d21) + x * f00 + y * c00
            p[0, 1, e] = a * d01 + b * (d12 * f20 - d10 * f22 + f12 * d20 - f10 * d22) + x * f01 + y * c01
            p[0, 2, e] = a * d02 + b * (d10 * f21 - d11 * f20 + f10 * d21 - f11 * d20) + x * f02 + y * c02
            p[1, 0, e] = a * d10 + b * (d21 * f02 - d22 * f01 + f21 * d02 - f22 * d01) + x * f10 + y * c10
            p[1, 1, e] = a * d11 + b * (d22 * f00 - d20 * f02 + f22 * d00 - f20 * d02) + x * f11 + y * c11
            p[1, 2, e] = a * d12 + b * (d20 * f01 - d21 * f00 + f20 * d01 - f21 * d00) + x * f12 + y * c12
            p[2, 0, e] = a * d20 + b * (d01 * f12 - d02 * f11 + f01 * d12 - f02 * d11) + x * f20 + y * c20
            p[2, 1, e] = a * d21 + b * (d02 * f10 - d00 * f12 + f02 * d10 - f00 * d12) + x * f21 + y * c21
            p[2, 2, e] = a * d22 + b * (d00 * f11 - d01 * f10 + f00 * d11 - f01 * d10) + x * f22 + y * c22


@compiled
def _entries(F, e):
    return F[0, 0, e], F[0, 1, e], F[0, 2, e], F[1, 0, e], F[1, 1, e], F[1, 2, e], F[2, 0, e], F[2, 1, e], F[2, 2, e]


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
