"""Who is compared: PCA has the dimension that its cost allows, the quadratic manifold its own label."""

import importlib

import numpy as np
import pytest

from cases import curved_subspace, small_beam
from hodsim.fem import StableNeoHookean
from hodsim.reduced import Cubature, ReducedModel
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import Model, pca

module = importlib.import_module("hodsim.report.contenders")  # whose name in the package is its function
MATERIALS = {"cubic": small_beam().material, "4 elements": StableNeoHookean(youngs_modulus=1e5, poisson_ratio=0.3)}


@pytest.fixture(scope="module", params=MATERIALS)
def scene(request, tmp_path_factory):
    """A network on four elements, snapshots and load shapes, and how the elastic force of PCA is named."""
    full = small_beam(material=MATERIALS[request.param])
    shapes = bending_loads(full)
    cases = sweep(train=4, validation=2, test=1, duration=0.2)
    snapshots = generate_snapshots(full, shapes, cases, dt=0.01, steps=20, directory=tmp_path_factory.mktemp("snapshots"))
    subspace = curved_subspace(full)
    chosen = Cubature(full, subspace, np.arange(4), np.full(4, 5.0))
    return Model(full, subspace, cubature=(chosen.chosen, chosen.weights)), snapshots, shapes, request.param


def costs(network_cost, monkeypatch):
    """A step of PCA costs its dimension, one of the network as much as told."""
    monkeypatch.setattr(
        module, "step_microseconds", lambda model, *_: model.subspace.dim if model.subspace.trunk is None else network_cost
    )


@pytest.mark.parametrize("cost", [1.0, 4.5, 8.0, 11.9])
def test_pca_gets_the_largest_dimension_that_costs_no_more(scene, cost, monkeypatch):
    model, snapshots, shapes, elasticity = scene
    costs(cost, monkeypatch)
    found = module.equal_cost(ReducedModel.of(model), snapshots, shapes)
    assert (found.name, found.elasticity) == (f"PCA {int(cost)}, at equal cost", elasticity)
    expected = pca(snapshots.split("train").poses(), int(cost), mass=model.full.mass)
    u = np.asarray(snapshots.split("test").poses(), float)
    decoded = (subspace.decode(subspace.encode(u)) for subspace in (found.model.subspace, expected))
    np.testing.assert_allclose(*decoded, atol=1e-4 * np.abs(u).max())  # directions that converged in company, and alone


def test_a_network_that_is_cheaper_than_any_pca_has_none_at_equal_cost(scene, monkeypatch):
    model, snapshots, shapes, _ = scene
    costs(0.5, monkeypatch)
    assert module.equal_cost(ReducedModel.of(model), snapshots, shapes) is None


def test_everyone_has_a_name_of_their_own(scene, monkeypatch):
    model, snapshots, shapes, _ = scene
    costs(4.0, monkeypatch)
    found = module.contenders(model, snapshots, shapes, dimensions=(3, 4))
    names = [contender.name for contender in found]
    assert len(set(names)) == len(names)
    assert {"PCA 4, at equal cost", "quadratic 3", "modal derivatives 3"} <= set(names)
