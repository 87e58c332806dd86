"""What CUDA graphs ask of the batched step's evaluations, as far as a machine without CUDA can tell; with CUDA, the graphs themselves."""

import numpy as np
import pytest
import torch
from launches import Launches
from test_batched import DT, MATERIALS, SUBSPACES, loads, reduced

from hodsim.reduced import BatchedStep
from hodsim.reduced.captured import Captured

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
@pytest.mark.parametrize("subspace", SUBSPACES)
@pytest.mark.parametrize("material", MATERIALS, ids=lambda law: type(law).__name__)
def test_an_evaluation_neither_waits_for_the_device_nor_reads_from_the_host(form, subspace, material):
    """After a first run, in which the engine sends its tables to the device and keeps them there."""
    equation = BatchedStep(reduced(subspace, material), form=form, device="meta").equation
    m, r = len(equation.mass), 3
    q, *rows = (torch.empty(4, *shape, dtype=torch.float64, device="meta") for shape in ((r,), (2,), (2, r), (m,), (m,), (m,)))
    with torch.no_grad():
        equation.tangent(q, *rows)
        with Launches() as seen:
            residual, tangent = equation.residual(q, *rows), equation.tangent(q, *rows)
    assert residual.shape == (4, r) and tangent.shape == (4, r, r)
    assert seen.count > 10 and not seen.from_host


class Replayed(Captured):
    """Evaluates again where a graph would be replayed."""

    def _capture(self, held):
        result = self.function(*held)
        self.sizes = [*getattr(self, "sizes", []), len(held[0])]
        return lambda: result.copy_(self.function(*held)), held, result


def test_rows_that_a_call_lacks_are_not_seen():
    function = Replayed(lambda x, y: x.sum(1, keepdim=True) * y)
    for count in (3, 1, 4, 5, 2, 3, 1):
        x, y = torch.randn(count, 3), torch.randn(count, 1)
        found = function(x, y)
        torch.testing.assert_close(found, x.sum(1, keepdim=True) * y)
        again = function(x + 1, y)
        torch.testing.assert_close(found, x.sum(1, keepdim=True) * y)  # not written over by the next call
        torch.testing.assert_close(again, (x + 1).sum(1, keepdim=True) * y)
    assert sorted(function.sizes) == [1, 2, 4, 8]


def test_rollouts_by_replays_are_those_without():
    """Where states end at different times, so that calls lack rows."""
    model = reduced()
    forces = loads(model, 5, 6)
    plain, replayed = (BatchedStep(model, device="cpu") for _ in range(2))
    replayed.residual, replayed.tangent = (Replayed(function) for function in (replayed.residual, replayed.tangent))
    for run, other in zip(*(step.rollouts([model.state()] * 5, DT, forces, tolerance=1e-12) for step in (plain, replayed)), strict=True):
        np.testing.assert_allclose(run.q, other.q, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(run.iterations, other.iterations)
    assert len(replayed.residual.sizes) > 1


def test_nothing_is_replayed_where_no_trajectory_is_left():
    model = reduced(material=MATERIALS[1])
    step = BatchedStep(model, device="cpu")
    step.residual, step.tangent = (Replayed(function) for function in (step.residual, step.tangent))
    runs = step.rollouts([model.state()] * 2, DT, 1e12 * loads(model, 2, 5), max_iterations=8)
    assert all(run.failure is not None and len(run.q) == run.failure.step - 1 < 4 for run in runs)


def test_graphs_without_cuda_are_refused():
    with pytest.raises(ValueError, match="graphs=True on the device 'cpu'"):
        BatchedStep(reduced(), device="cpu", graphs=True)


@needs_cuda
@pytest.mark.parametrize("form", ["variational", "euler-lagrange"])
def test_rollouts_from_graphs_are_those_without(form):
    model = reduced()
    forces = loads(model, 5, 6)
    with_graphs, without = (BatchedStep(model, form=form, device="cuda", graphs=graphs) for graphs in (True, False))
    for run, other in zip(*(step.rollouts([model.state()] * 5, DT, forces, tolerance=1e-12) for step in (with_graphs, without)), strict=True):
        np.testing.assert_allclose(run.q, other.q, rtol=1e-9, atol=1e-12)
