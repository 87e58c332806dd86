"""Hyperelastic materials: an energy density Psi(F) [Pa] of the deformation gradient F = I + du/dx, with its first two derivatives.

    St. Venant-Kirchhoff   Psi = mu E:E + lam/2 tr(E)^2,                             E = (F^T F - I)/2
    neo-Hookean            Psi = mu/2 (|F|^2 - 3) - mu log J + lam/2 (log J)^2,      J = det F > 0
    stable neo-Hookean     Psi = mu/2 (|F|^2 - 3) + lam/2 (J - alpha)^2 - mu/2 log(|F|^2 + 1) + constant

Stress is P = dPsi/dF, stiffness A_ijkl = dP_ij/dF_kl. A material is its formula: write `density` in torch operations and the rest
follows by differentiation; the three here have closed forms as well (kernels.py), hundreds of times faster.
Sifakis & Barbic 2012 (the first two); Smith, de Goes & Kim 2018 (the third).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hodsim import checks
from hodsim.fem import kernels

if TYPE_CHECKING:
    from torch import Tensor


class InvertedElementError(ValueError):
    """A deformation in which a material's energy is infinite, so that it has no stress; element is the first that is inverted."""

    def __init__(self, element: int, name: str, reason: str):
        super().__init__(f"{name} {reason}")
        self.element, self.reason = element, reason

    def at(self, element: int) -> InvertedElementError:
        """The same of that element."""
        return InvertedElementError(element, f"element {element}", self.reason)


class Material:
    """A hyperelastic material; a new one writes `density` and, being a frozen dataclass, its constants.

    F is (*B, 3, 3) everywhere; P and A are written into `out` where it is given, as in numpy. A body may be made of several: `Composite`."""

    @property
    def constituents(self) -> tuple[Material, ...]:
        """Itself, or those that a composite is made of."""
        return (self,)

    def among(self, elements: np.ndarray | slice) -> Material:
        """What these of the elements are made of: the same, unless it is a composite."""
        return self

    def shares(self, elements: np.ndarray) -> list[tuple[Material, np.ndarray]]:
        """Each material with the positions (k,) in elements (n,) of those that are made of it; a composite has several."""
        return [(self, np.arange(len(elements)))]

    def density(self, F: Tensor) -> Tensor:
        """Psi [Pa] of one deformation gradient F (3, 3), in torch operations."""
        raise NotImplementedError(f"{type(self).__name__} has no density; write its energy density [Pa] of F (3, 3) in torch operations")

    def energy_density(self, F: np.ndarray) -> np.ndarray:
        """Psi(F) [Pa], (*B,); infinite where the material cannot be in that state."""
        return _over(self.density, F, order=0)

    def stress(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """First Piola-Kirchhoff stress P = dPsi/dF [Pa], (*B, 3, 3)."""
        return _into(out, _over(self.density, F, order=1))

    def stiffness(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """A_ijkl = dP_ij/dF_kl [Pa], (*B, 3, 3, 3, 3)."""
        return _into(out, _over(self.density, F, order=2))


@dataclass(frozen=True)
class Isotropic(Material):
    """An isotropic material of Young's modulus [Pa] > 0 and Poisson's ratio in (-1, 0.5); at small strain all of them are Hooke's."""

    youngs_modulus: float
    poisson_ratio: float

    def __post_init__(self):
        checks.positive("youngs_modulus", self.youngs_modulus)
        checks.inside("poisson_ratio", self.poisson_ratio, -1.0, 0.5)

    @property
    def mu(self) -> float:
        """Lame's second parameter, the shear modulus [Pa]."""
        return self.youngs_modulus / (2 * (1 + self.poisson_ratio))

    @property
    def lam(self) -> float:
        """Lame's first parameter [Pa]."""
        return self.youngs_modulus * self.poisson_ratio / ((1 + self.poisson_ratio) * (1 - 2 * self.poisson_ratio))

    @property
    def constants(self) -> tuple[float, ...]:
        """Those of its formula, [Pa] and pure numbers."""
        return self.mu, self.lam


class StVK(Isotropic):
    """St. Venant-Kirchhoff: Hooke's law in the Green strain. Weak in strong compression."""

    def density(self, F: Tensor) -> Tensor:
        E = (F.T @ F - F.new_ones(3).diag()) / 2
        return self.mu * (E * E).sum() + self.lam / 2 * E.trace() ** 2

    def energy_density(self, F: np.ndarray) -> np.ndarray:
        return _energies(kernels.stvk_energy, F, self.mu, self.lam)

    def stress(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _by_kernel(kernels.stvk_stress, F, out, 2, self.mu, self.lam)

    def stiffness(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _by_kernel(kernels.stvk_stiffness, F, out, 4, self.mu, self.lam)


class NeoHookean(Isotropic):
    """Compressible neo-Hookean; an inverted element has infinite energy, and no stress: asked for it, InvertedElementError
    names the element."""

    def density(self, F: Tensor) -> Tensor:
        log_J = determinant(F).log()
        return self.mu / 2 * ((F * F).sum() - 3) - self.mu * log_J + self.lam / 2 * log_J**2

    def energy_density(self, F: np.ndarray) -> np.ndarray:
        return _energies(kernels.neo_hookean_energy, F, self.mu, self.lam)

    def stress(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        _refuse_inverted(F)
        return _by_kernel(kernels.neo_hookean_stress, F, out, 2, self.mu, self.lam)

    def stiffness(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        _refuse_inverted(F)
        return _by_kernel(kernels.neo_hookean_stiffness, F, out, 4, self.mu, self.lam)


class StableNeoHookean(Isotropic):
    """Neo-Hookean without a singularity: elements may invert and recover. Psi is shifted so that it vanishes at rest.

    mu and lam in its formula are 4/3 mu and lam + 5/6 mu of Lame's, which makes it Hooke's at small strain."""

    @property
    def constants(self) -> tuple[float, float, float]:
        """mu [Pa], lam [Pa] and alpha of the formula."""
        mu, lam = 4 / 3 * self.mu, self.lam + 5 / 6 * self.mu
        return mu, lam, 1 + 3 / 4 * mu / lam

    def density(self, F: Tensor) -> Tensor:
        mu, lam, alpha = self.constants
        squares = (F * F).sum()
        at_rest = lam / 2 * (1 - alpha) ** 2 - mu / 2 * np.log(4)
        return mu / 2 * (squares - 3) + lam / 2 * (determinant(F) - alpha) ** 2 - mu / 2 * (squares + 1).log() - at_rest

    def energy_density(self, F: np.ndarray) -> np.ndarray:
        return _energies(kernels.stable_neo_hookean_energy, F, *self.constants)

    def stress(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _by_kernel(kernels.stable_neo_hookean_stress, F, out, 2, *self.constants)

    def stiffness(self, F: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _by_kernel(kernels.stable_neo_hookean_stiffness, F, out, 4, *self.constants)


def determinant(F: Tensor) -> Tensor:
    """det F (3, 3) as a triple product: torch.det has no second derivative where singular values coincide."""
    return F[0] @ F[1].cross(F[2], dim=0)


def _over(density: Callable[[Tensor], Tensor], F: np.ndarray, *, order: int) -> np.ndarray:
    """The derivative of that order of a function of one (3, 3), at each of F (*B, 3, 3)."""
    import torch  # here alone, for the closed forms do without, and so do the workers of a sweep
    from torch.func import grad, jacfwd, vmap

    function = (density, grad(density), jacfwd(grad(density)))[order]
    F = np.asarray(F, np.float64)
    stacked = torch.from_numpy(np.ascontiguousarray(F).reshape(-1, 3, 3))
    values = vmap(function)(stacked).detach().numpy()
    return values.reshape(F.shape[:-2] + values.shape[1:])


def _into(out: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    if out is None:
        return values
    out[...] = values
    return out


def _lanes(tensors: np.ndarray, rank: int) -> np.ndarray:
    """Tensors (*B, 3, .., 3) as the kernels want them, (3, .., 3, n): a view where that is how they lie in memory."""
    return tensors.reshape(-1, *(3,) * rank).transpose(*range(1, rank + 1), 0)


def _by_kernel(kernel: Callable, F: np.ndarray, out: np.ndarray | None, rank: int, *constants: float) -> np.ndarray:
    F = np.asarray(F, np.float64)
    lanes = np.ascontiguousarray(_lanes(F, 2))
    if out is not None and out.ndim == rank + 1 and (target := _lanes(out, rank)).flags.c_contiguous:
        kernel(lanes, *constants, target)
        return out
    target = np.empty((3,) * rank + lanes.shape[-1:])
    kernel(lanes, *constants, target)
    return _into(out, np.moveaxis(target, -1, 0).reshape(F.shape[:-2] + (3,) * rank))


def _energies(kernel: Callable, F: np.ndarray, *constants: float) -> np.ndarray:
    F = np.asarray(F, np.float64)
    lanes = np.ascontiguousarray(_lanes(F, 2))
    energies = np.empty(lanes.shape[-1])
    kernel(lanes, *constants, energies)
    return energies.reshape(F.shape[:-2])


def _refuse_inverted(F: np.ndarray) -> None:
    J = np.empty(F.shape[:-2])
    kernels.determinant(np.ascontiguousarray(_lanes(F, 2)), J.reshape(-1))
    if not (J > 0).all():
        bad = ~(J > 0)
        first = tuple(int(i) for i in np.argwhere(bad)[0]) if F.ndim > 2 else ()
        name = f"element {first[0]}" if len(first) == 1 else f"F{list(first)}"
        reason = f"has det F = {J[first]:.3g}, one of {int(bad.sum())}; a neo-Hookean material needs det F > 0"
        raise InvertedElementError(first[0] if first else 0, name, f"{reason}: take smaller steps or loads, or StableNeoHookean")
