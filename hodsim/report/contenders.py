"""Who stands in a comparison: the network in its forms, and linear subspaces at their fastest, all of them compiled."""

from __future__ import annotations

from collections.abc import Sequence

from hodsim.fem import FullModel, StVK
from hodsim.reduced import CompiledStep, CubicForce, ReducedModel, choose_cubature
from hodsim.report.evaluate import Contender
from hodsim.snapshots import LoadShapes, Snapshots
from hodsim.subspace import Model, Subspace, modal_derivatives, pca

PCA_DIMENSIONS = (6, 12, 20)


def contenders(
    model: Model, snapshots: Snapshots, shapes: LoadShapes, *, dimensions: Sequence[int] = PCA_DIMENSIONS
) -> list[Contender]:
    """The network with its cubature, without, and in Euler-Lagrange form; PCA with the exact force and with a cubature chosen likewise;
    modal derivatives at the network's own dimension, of a body that is held."""
    full, poses = model.full, snapshots.split("train").poses()
    exact, sampled = ReducedModel(full, model.subspace), ReducedModel.of(model)
    name, elements = model.subspace.name, 0 if model.cubature is None else len(model.cubature[0])
    chosen = [_compiled(sampled, name, f"{elements} elements" if elements else "exact")]
    if elements:
        chosen.append(_compiled(exact, f"{name}, all elements", "exact"))
    chosen.append(_compiled(sampled, f"{name}, Euler-Lagrange", chosen[0].elasticity, form="euler-lagrange"))
    for dim in dimensions:  # in a linear subspace the two forms are one
        subspace = pca(poses, dim, mass=full.mass)
        chosen.append(_exact_linear(full, subspace))
        if elements and dim > model.subspace.dim:  # where a linear subspace is a match for the network
            cubature, _ = choose_cubature(full, subspace, snapshots, shapes)
            sampled = ReducedModel(full, subspace, elasticity=cubature)
            chosen.append(_compiled(sampled, f"{subspace.name}, cubature", f"{len(cubature.chosen)} elements"))
    if full.pinned.any():
        chosen.append(_exact_linear(full, modal_derivatives(full, model.subspace.dim)))
    return chosen


def _exact_linear(full: FullModel, subspace: Subspace) -> Contender:
    """A linear subspace with the exact force at its fastest: the cubic polynomial of StVK (Barbic & James 2005), or all elements."""
    if isinstance(full.material, StVK):
        return _compiled(ReducedModel(full, subspace, elasticity=CubicForce(full, subspace)), subspace.name, "cubic")
    return _compiled(ReducedModel(full, subspace), subspace.name, "exact")


def _compiled(model: ReducedModel, name: str, elasticity: str, *, form: str = "variational") -> Contender:
    return Contender(model, name=name, elasticity=elasticity, advance=CompiledStep(model, form=form))
