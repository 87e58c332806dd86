"""The model that comes with hodsim, made by `make pretrained`: it fits the beam that comes with it, and moves as the full model does."""

import os
from pathlib import Path

import numpy as np
import pytest

from hodsim.apps.study import Problem
from hodsim.dynamics import simulate
from hodsim.reduced import ReducedModel, variational_step
from hodsim.snapshots import bending_loads
from hodsim.subspace import Model

MESHES = Path(__file__).parents[2] / "meshes"
FILE = MESHES / "beam.hod"


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model.load(FILE)


def test_it_is_small_enough_to_ship():
    assert os.path.getsize(FILE) < 2**20


def test_it_fits_the_mesh_and_the_study_of_the_beam(shipped):
    full = Problem(str(MESHES / "beam.msh")).full_model()
    assert Model.load(FILE, full=full).full is full  # refused if the mesh, the material or the pins were others
    assert shipped.notes["dt"] == Problem("").dt


def test_it_rests_where_the_body_rests(shipped):
    rest = shipped.subspace.decode(np.zeros(shipped.subspace.dim))
    length = np.ptp(shipped.full.mesh.vertices, axis=0).max()
    assert np.abs(rest).max() < 1e-6 * length  # it is stored in single precision


def test_its_tip_stays_near_that_of_the_full_model(shipped):
    full, reduced = shipped.full, ReducedModel.of(shipped)
    force = bending_loads(full)["body"] @ [0.0, 0.0, -0.4]  # what the viewer starts with
    steps, dt = 50, shipped.notes["dt"]
    expected = np.array([state.q for state in simulate(full, full.state(), dt, force=force, steps=steps)])
    weight = reduced.generalized_force(force)
    found = [reduced.displacement(s) for s in simulate(reduced, reduced.state(), dt, force=weight, steps=steps, advance=variational_step)]
    tip = 3 * int(np.argmax(full.mesh.vertices[~full.pinned, 0])) + np.arange(3)
    error = np.linalg.norm((np.array(found) - expected)[:, tip], axis=1)
    assert np.linalg.norm(expected[:, tip], axis=1).max() > 0.2  # it swings far
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(np.sum(expected[:, tip] ** 2, axis=1)))  # PCA of six coordinates: 105 %
