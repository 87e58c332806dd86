"""The number of elements is chosen by how the body moves on validation loads."""

import numpy as np
import pytest

from cases import small_beam
from hodsim.dynamics import simulate
from hodsim.reduced import ReducedModel, choose_cubature, rollout_error
from hodsim.snapshots import bending_loads, generate_snapshots, sweep
from hodsim.subspace import pca


@pytest.fixture(scope="module")
def swung(tmp_path_factory):
    """A body, its load shapes and snapshots of a small sweep."""
    full = small_beam()
    shapes = bending_loads(full)
    cases = sweep(train=4, validation=2, duration=0.2)
    return full, shapes, generate_snapshots(full, shapes, cases, directory=tmp_path_factory.mktemp("swung"), dt=0.01, steps=20)


def test_the_number_of_elements_is_chosen_by_rollouts(swung):
    full, shapes, snapshots = swung
    subspace = pca(snapshots.split("train").poses(), 4, mass=full.mass)
    validation = snapshots.split("validation")
    chosen, curve = choose_cubature(full, subspace, snapshots, shapes, sizes=(2, 4, 8, 16))
    *some, everything = curve
    assert everything.elements == len(full.mesh.tetrahedra) and everything.fit == 0
    assert [sampling.fit for sampling in some] == sorted((sampling.fit for sampling in some), reverse=True)
    near = [sampling.elements for sampling in some if sampling.refined is not None and sampling.refined <= 1.05 * everything.error]
    assert len(chosen.chosen) == (near[0] if near else some[-1].elements)
    fitted, (*plain, _) = choose_cubature(full, subspace, snapshots, shapes, sizes=(2, 4, 8, 16), refine=False)
    assert any(sampling.refined is not None for sampling in some) and all(sampling.refined is None for sampling in plain)
    near = [sampling.elements for sampling in plain if sampling.error <= 1.05 * everything.error]
    assert len(fitted.chosen) == (near[0] if near else plain[-1].elements)
    exact = ReducedModel(full, subspace)
    assert everything.error == rollout_error(exact, validation, shapes)  # and that is what a simulation of its own says:
    errors = []
    for case, truth in zip(validation.cases, validation.displacements, strict=True):
        states = list(simulate(exact, exact.state(), 0.01, force=exact.generalized_force(case.load(shapes)), steps=20))[4::5]
        u, expected = np.array([exact.displacement(state) for state in states]), truth[4::5].astype(float)
        squares = [np.einsum("ti,ti->", x, x @ full.mass) for x in (u - expected, expected)]
        errors.append(np.sqrt(squares[0] / squares[1]))
    assert everything.error == pytest.approx(np.mean(errors), rel=1e-3)
    with pytest.raises(ValueError, match="0 validation cases"):
        choose_cubature(full, subspace, snapshots.split("train"), shapes)
