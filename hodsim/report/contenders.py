"""Who stands in a comparison: the network in its forms, linear subspaces and the quadratic manifold at their fastest, all of them compiled.

`equal_cost` answers what PCA can do for what a step of the network costs: time the one, and let the other have as many directions as fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hodsim.fem import FullModel
from hodsim.reduced import (
    CompiledStep,
    Cubature,
    CubicForce,
    ReducedModel,
    choose_cubature,
    fitting_poses,
    refine_weights,
    step_microseconds,
)
from hodsim.report.evaluate import Contender
from hodsim.snapshots import LoadShapes, Snapshots
from hodsim.subspace import Model, Subspace, modal_derivatives, pca, principal_directions, quadratic

PCA_DIMENSIONS = (6, 12, 20)
MOST_DIRECTIONS = 32  # of PCA at equal cost: beyond, a step is slower than any network's


def contenders(
    model: Model, snapshots: Snapshots, shapes: LoadShapes, *, dimensions: Sequence[int] = PCA_DIMENSIONS, refine: bool = True
) -> list[Contender]:
    """The network with its cubature, without, and in Euler-Lagrange form; PCA with the exact force and with a cubature chosen likewise, and at
    the dimension that costs as much as the network; the quadratic manifold and, of a body that is held, modal derivatives at the network's.
    refine is whether the weights of their cubatures are, as `choose_cubature` has it."""
    full, poses = model.full, snapshots.split("train").poses()
    exact, sampled_network = ReducedModel(full, model.subspace), ReducedModel.of(model)
    name, elements = model.subspace.name, 0 if model.cubature is None else len(model.cubature[0])
    chosen = [_compiled(sampled_network, name)]
    if elements:
        chosen.append(_compiled(exact, f"{name}, all elements"))
    chosen.append(_compiled(sampled_network, f"{name}, Euler-Lagrange", form="euler-lagrange"))
    for dim in dimensions:  # in a linear subspace the two forms are one
        subspace = pca(poses, dim, mass=full.mass)
        chosen.append(_compiled(_exact_linear(full, subspace), subspace.name))
        if elements and dim > model.subspace.dim:  # where a linear subspace is a match for the network
            cubature, _ = choose_cubature(full, subspace, snapshots, shapes, refine=refine)
            chosen.append(_compiled(ReducedModel(full, subspace, elasticity=cubature), f"{subspace.name}, cubature"))
    if (at_equal_cost := equal_cost(sampled_network, snapshots, shapes, refine=refine)) is not None:
        chosen.append(at_equal_cost)
    chosen.append(_quadratic(full, model.subspace.dim, elements, snapshots, shapes, refine))
    if full.pinned.any():
        subspace = modal_derivatives(full, model.subspace.dim)
        chosen.append(_compiled(_exact_linear(full, subspace), subspace.name))
    return chosen


def equal_cost(network: ReducedModel, snapshots: Snapshots, shapes: LoadShapes, *, refine: bool = True) -> Contender | None:
    """PCA of the largest dimension whose step takes no longer than the network's in the validation cases, one after the other on this
    machine: with the cubic force for StVK, else with as many elements as the network has. None if not even the smallest is that cheap."""
    full, validation = network.full, snapshots.split("validation")
    poses, cubature = snapshots.split("train").poses(), network.elasticity
    elements = len(cubature.chosen) if isinstance(cubature, Cubature) else 0
    largest = min(MOST_DIRECTIONS, *poses.shape)
    basis, energies = principal_directions(poses, largest, mass=full.mass)
    largest = int(np.count_nonzero(energies > 1e-12 * energies[0]))

    def linear(dim: int) -> ReducedModel:
        subspace = Subspace.linear(f"PCA {dim}", basis[:, :dim], full.mass)
        if CubicForce.covers(full) or not elements:
            return _exact_linear(full, subspace)
        (*_, sampled) = Cubature.path(full, subspace, fitting_poses(snapshots), sizes=[elements])
        return ReducedModel(full, subspace, elasticity=sampled)

    allowed, low, high, best = step_microseconds(network, validation, shapes), 1, largest, None
    while low <= high:  # a step costs more, the more directions there are
        dim = (low + high) // 2
        model = linear(dim)
        if step_microseconds(model, validation, shapes) <= allowed:
            best, low = model, dim + 1
        else:
            high = dim - 1
    if refine and best is not None and isinstance(best.elasticity, Cubature):
        best = best.with_elasticity(refine_weights(best, snapshots, shapes))
    return None if best is None else _compiled(best, f"{best.subspace.name}, at equal cost")


def _quadratic(full: FullModel, dim: int, elements: int, snapshots: Snapshots, shapes: LoadShapes, refine: bool) -> Contender:
    """The quadratic manifold, with a cubature chosen as the network's was, if it has one."""
    poses, validation = snapshots.split("train").poses(), snapshots.split("validation").poses()
    subspace = quadratic(poses, dim, mass=full.mass, validation=validation)
    cubature = choose_cubature(full, subspace, snapshots, shapes, refine=refine)[0] if elements else None
    return _compiled(ReducedModel(full, subspace, elasticity=cubature), subspace.name)


def _exact_linear(full: FullModel, subspace: Subspace) -> ReducedModel:
    """A linear subspace with the exact force at its fastest: the cubic polynomial of StVK (Barbic & James 2005), or all elements."""
    return ReducedModel(full, subspace, elasticity=CubicForce(full, subspace) if CubicForce.covers(full) else None)


def _compiled(model: ReducedModel, name: str, *, form: str = "variational") -> Contender:
    force = model.elasticity
    elasticity = f"{len(force.chosen)} elements" if isinstance(force, Cubature) else "cubic" if isinstance(force, CubicForce) else "exact"
    return Contender(model, name=name, elasticity=elasticity, advance=CompiledStep(model, form=form))
