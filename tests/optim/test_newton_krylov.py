"""Algorithm 1 against closed forms, dense matrices and constructed landscapes."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hodsim.optim import (
    GaussNewton,
    Hessian,
    Identity,
    Jacobi,
    KroneckerFactored,
    NewtonKrylov,
    Outcome,
    conjugate_gradients,
    newton_krylov,
)
from hodsim.optim.curvature import Batch

CURVATURES = pytest.mark.parametrize("curvature", [Hessian(), GaussNewton()], ids=["hessian", "gauss-newton"])
PRECONDITIONERS = pytest.mark.parametrize(
    "preconditioner", [Identity(), Jacobi(), KroneckerFactored(), KroneckerFactored(every=2, memory=0.8)],
    ids=["identity", "jacobi", "kfac", "kfac of several batches"])


class Point(nn.Module):
    """Parameters w alone, for losses written as formulas of w."""

    def __init__(self, *w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))


def regression(seed=0, *, norm=False, samples=64):
    """A small network with its inputs and targets."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.Tanh(), nn.Linear(6, 3)]
        net = nn.Sequential(*layers).double()
    x, y = (torch.randn(samples, n, generator=generator, dtype=torch.float64) for n in (4, 3))
    return net, x, torch.tanh(y)


def closure(net, x, y, loss=F.mse_loss):
    return lambda: (net(x), lambda output: loss(output, y))


def images(seed=0):
    """A convolutional classifier in batch norm's training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten(), nn.Linear(27, 4)).double()
        return net, torch.randn(20, 1, 8, 8, dtype=torch.float64), torch.randint(0, 4, (20,))


PROBLEMS = {
    "regression": lambda: closure_of(*regression()),
    "batch norm": lambda: closure_of(*regression(norm=True)),
    "images": lambda: closure_of(*images(), F.cross_entropy),
}


def closure_of(net, x, y, loss=F.mse_loss):
    return net, closure(net, x, y, loss)


def batch_of(net, evaluate):
    parameters = list(net.parameters())
    return Batch(net, parameters, [0.0] * len(parameters), evaluate)


def dense_hessian(net, evaluate):
    """By double backward, a row at a time."""
    parameters = list(net.parameters())
    output, loss = evaluate()
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(output), parameters, create_graph=True)])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True) for g in gradient]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def dense_gauss_newton(net, evaluate):
    parameters = list(net.parameters())
    output, loss = evaluate()
    rows = [torch.autograd.grad(y, parameters, retain_graph=True) for y in output.reshape(-1)]
    J = torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])
    H = torch.autograd.functional.hessian(lambda y: loss(y.view_as(output)), output.detach().reshape(-1))
    return J.T @ H @ J


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("curvature", "dense"), [(Hessian(), dense_hessian), (GaussNewton(), dense_gauss_newton)], ids=["H", "G"])
def test_products_match_the_dense_matrix(problem, curvature, dense):
    net, evaluate = PROBLEMS[problem]()
    batch = batch_of(net, evaluate)
    matrix = dense(net, evaluate)
    value, gradient, product = curvature.at(batch)
    expected, other = batch.value_and_gradient()
    assert value == pytest.approx(expected, rel=1e-14)
    torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)
    v = torch.randn(len(matrix), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(product(v), matrix @ v, rtol=1e-10, atol=1e-10 * float((matrix @ v).abs().max()))


@CURVATURES
@PRECONDITIONERS
def test_a_convex_quadratic_is_minimised_in_one_step(curvature, preconditioner):
    net = nn.Linear(5, 2).double()
    _, x, _ = regression()
    x = torch.cat([x, x[:, :1] ** 2], 1)
    y = torch.sin(x[:, :2])
    optimizer = NewtonKrylov(net, curvature=curvature, preconditioner=preconditioner, damping=0, tolerance=1e-13, progress=0)
    optimizer.step(closure(net, x, y))
    ones = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    best = torch.linalg.lstsq(ones, y).solution.T
    assert optimizer.last is not None and optimizer.last.decrease_ratio == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(torch.cat([net.weight, net.bias[:, None]], 1).detach(), best, rtol=1e-10, atol=1e-10)


@CURVATURES
@PRECONDITIONERS
@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_step_raises_the_loss(curvature, preconditioner, problem):
    net, evaluate = PROBLEMS[problem]()
    optimizer = NewtonKrylov(net, curvature=curvature, preconditioner=preconditioner, memory=0, iterations=10)
    losses = []
    for _ in range(5):
        losses.append(optimizer.step(evaluate))
        assert optimizer.last is not None
        assert (optimizer.last.after < optimizer.last.before) == (optimizer.last.outcome is Outcome.STEPPED)
        assert optimizer.last.after <= optimizer.last.before
    assert losses[-1] < 0.95 * losses[0]


def test_a_step_that_cannot_lower_the_loss_says_so_and_stays():
    net = Point(1.0)
    optimizer = NewtonKrylov(net, damping=1e-3)
    calls = iter(range(100))
    before = optimizer.step(lambda: (net.w**2).sum() + next(calls))  # a loss that rises at every evaluation
    assert optimizer.last is not None and optimizer.last.outcome is Outcome.NO_DECREASE
    assert net.w.item() == 1.0 and optimizer.last.after == before
    assert optimizer.damping == pytest.approx(4e-3)


def test_negative_curvature_gives_a_step_downhill():
    net = Point(0.1, 0.0)  # a saddle: curvature -2 along the gradient
    optimizer = NewtonKrylov(net, damping=1e-3)
    for _ in range(3):
        optimizer.step(lambda: -(net.w[0] ** 2) + net.w[1] ** 2 + net.w[0] ** 4)
        assert optimizer.last is not None and optimizer.last.outcome is Outcome.STEPPED
    assert optimizer.last is not None and optimizer.last.after < -0.1
    start = NewtonKrylov(second := Point(0.1, 0.0), damping=1e-3)
    start.step(lambda: -(second.w[0] ** 2) + second.w[1] ** 2 + second.w[0] ** 4)
    assert start.last is not None and start.last.reason == "negative curvature" and start.last.iterations == 1


def test_a_flat_direction_is_followed_downhill():
    net = Point(1.0, -2.0)  # a plane has no curvature
    slope = torch.tensor([3.0, 4.0], dtype=torch.float64)
    optimizer = NewtonKrylov(net, damping=0, iterations=1)
    optimizer.step(lambda: (slope * net.w).sum() + 0 * (net.w**2).sum())
    # line 18: kappa = 0.01 |p|^2, so the step is -g / 0.01
    torch.testing.assert_close(net.w.detach(), torch.tensor([1.0, -2.0], dtype=torch.float64) - 100 * slope)


def test_a_batch_against_the_global_gradient_is_skipped():
    net = Point(1.0, 1.0)
    optimizer = NewtonKrylov(net, memory=0.9)
    optimizer.set_global_gradient(lambda: (net.w**2).sum())
    optimizer.step(lambda: -0.1 * (net.w**2).sum() + 0.2 * (net.w**4).sum() * 0)
    assert optimizer.last is not None and optimizer.last.outcome is Outcome.SKIPPED and net.w.tolist() == [1.0, 1.0]
    optimizer.step(lambda: (net.w**2).sum())
    assert optimizer.last is not None and optimizer.last.outcome is Outcome.STEPPED


def test_a_running_mean_that_is_noise_skips_nothing():
    net = Point(0.0)
    optimizer = NewtonKrylov(net, memory=0.9)
    generator = torch.Generator().manual_seed(0)
    outcomes = []
    for _ in range(30):
        target = float(torch.randn((), generator=generator))
        optimizer.step(lambda target=target: (net.w - target).square().sum() + 1e-3 * net.w.square().sum())
        with torch.no_grad():
            net.w.zero_()
        assert optimizer.last is not None
        outcomes.append(optimizer.last.outcome)
    assert outcomes.count(Outcome.SKIPPED) < 10


@CURVATURES
@PRECONDITIONERS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_run_continues_exactly(curvature, preconditioner, dtype):
    def make():
        net, x, y = regression()
        net, x, y = net.to(dtype), x.to(dtype), y.to(dtype)
        return net, closure(net, x, y), NewtonKrylov(net, curvature=curvature, preconditioner=preconditioner, iterations=5)

    net, evaluate, optimizer = make()
    for _ in range(3):
        optimizer.step(evaluate)
    weights, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    for _ in range(3):
        optimizer.step(evaluate)
    again, other_evaluate, resumed = make()
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    for _ in range(3):
        resumed.step(other_evaluate)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert resumed.damping == optimizer.damping


@CURVATURES
def test_groups_have_their_own_weight_decay_and_others_stay_fixed(curvature):
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 3)).double()
    _, x, y = regression()
    fixed = net[0].weight.detach().clone()
    groups = [{"params": [net[1].weight], "weight_decay": 0.5}, {"params": [net[1].bias]}]
    optimizer = NewtonKrylov(net, groups, curvature=curvature, damping=0, tolerance=1e-13, progress=0)
    expected = F.mse_loss(net(x), y) + 0.25 * net[1].weight.square().sum()
    assert optimizer.step(closure(net, x, y)) == pytest.approx(expected.item())
    rows = torch.cat([net[0](x), torch.ones_like(x[:, :1])], 1).detach()  # ridge regression in closed form; the bias is free
    ridge = torch.diag(torch.tensor([0.25, 0.25, 0.25, 0.0], dtype=torch.float64)) * y.numel()
    best = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ y).T
    torch.testing.assert_close(torch.cat([net[1].weight, net[1].bias[:, None]], 1).detach(), best, rtol=1e-10, atol=1e-10)
    assert torch.equal(net[0].weight, fixed)


def test_running_statistics_move_once_a_step():
    net, x, y = regression(norm=True)
    expected = copy.deepcopy(net)
    expected(x)
    statistics = net[1].running_var
    optimizer = NewtonKrylov(net, curvature=GaussNewton())
    optimizer.step(closure(net, x, y))
    assert net[1].running_var is statistics and torch.equal(statistics, expected[1].running_var)
    assert int(net[1].num_batches_tracked) == 1
    assert optimizer.last is not None and optimizer.last.outcome is Outcome.STEPPED


def test_kronecker_factors_cut_the_iterations_of_an_ill_conditioned_layer():
    net, x, y = nn.Linear(8, 3).double(), *regression(samples=256)[1:]
    scaled = torch.cat([x, 100 * x.flip(1) ** 2 + x], 1)
    counts = []
    for preconditioner in (Identity(), KroneckerFactored()):
        optimizer = NewtonKrylov(copy.deepcopy(net), curvature=GaussNewton(), preconditioner=preconditioner, damping=1e-6,
                                 tolerance=1e-8, progress=0)
        optimizer.step(closure(optimizer.module, scaled, y))
        assert optimizer.last is not None
        counts.append(optimizer.last.iterations)
    assert counts[1] < counts[0] / 2


def test_kronecker_factors_remember_those_of_earlier_batches():
    """By decayed weights: the inputs' factor of a layer is E[a a^T], whose average over batches of equal size is known."""
    net, x, y = nn.Linear(4, 2).double(), *regression()[1:]
    optimizer = NewtonKrylov(net, curvature=GaussNewton(), preconditioner=KroneckerFactored(every=1, memory=0.75), memory=0)
    batches, weights = x.split(16), torch.tensor([0.75**3, 0.75**2, 0.75, 1.0], dtype=torch.float64)
    for part in batches:
        optimizer.step(closure(net, part, y[:16, :2]))
    kept = optimizer.state[net.weight]
    factors = torch.stack([(a := F.pad(part, (0, 1), value=1.0)).T @ a / 16 for part in batches])
    expected = torch.einsum("k,kij->ij", weights / weights.sum(), factors)
    found = kept["in_vectors"] @ torch.diag(kept["in_values"]) @ kept["in_vectors"].T
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_kronecker_factors_of_a_convolution_count_its_places():
    """Where all places see the same and count alike, their product is the curvature itself."""
    net, x = nn.Conv2d(2, 1, 1).double(), torch.randn(20, 2, 1, 1, dtype=torch.float64).expand(-1, -1, 3, 3)
    evaluate = closure(net, x, None, lambda output, _: output.square().sum() / len(x))
    expected = dense_gauss_newton(net, evaluate)
    optimizer = NewtonKrylov(net, curvature=GaussNewton(), preconditioner=KroneckerFactored())
    optimizer.step(evaluate)
    kept = optimizer.state[net.weight]
    inputs, outputs = (kept[f"{side}_vectors"] @ torch.diag(kept[f"{side}_values"]) @ kept[f"{side}_vectors"].T for side in ("in", "out"))
    torch.testing.assert_close(torch.kron(outputs, inputs), expected, rtol=1e-10, atol=1e-12)


def test_every_line_of_algorithm_1_is_found_by_its_number():
    text = "".join(Path(inspect.getsourcefile(module) or "").read_text(encoding="utf-8") for module in (newton_krylov, conjugate_gradients))
    table = re.findall(r"^    (\d+)(?:(-|, )(\d+))?   ? ? ?\S", text, re.MULTILINE)
    spoken = re.findall(r"lines? (\d+)(?:( to |, | and )(\d+))?", text)
    found: set[int] = set()
    for first, between, last in [*table, *spoken]:
        joined = between in ("-", " to ")
        found |= set(range(int(first), int(last) + 1)) if joined else {int(n) for n in (first, last) if n}
    assert found | {47, 48} >= set(range(1, 49)) and "47, 48, is the caller's" in text


def test_bad_input_is_refused():
    net, x, y = regression()
    with pytest.raises(ValueError, match="not the Sequential's"):
        NewtonKrylov(net, [nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match="memory is 1"):
        NewtonKrylov(net, memory=1)
    with pytest.raises(ValueError, match="memory is 1.5"):
        KroneckerFactored(memory=1.5)
    with pytest.raises(ValueError, match="every is 0"):
        KroneckerFactored(every=0)
    with pytest.raises(ValueError, match="damping is -1"):
        NewtonKrylov(net, damping=-1)
    with pytest.raises(ValueError, match="expected a scalar"):
        NewtonKrylov(net).step(lambda: net(x))
    with pytest.raises(ValueError, match="returned the loss only"):
        NewtonKrylov(net, curvature=GaussNewton()).step(lambda: F.mse_loss(net(x), y))
    with pytest.raises(FloatingPointError, match="finite"):
        NewtonKrylov(net).step(closure(net, x * float("nan"), y))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@CURVATURES
@PRECONDITIONERS
def test_steps_on_cuda_match_those_on_the_cpu(curvature, preconditioner):
    losses = []
    for device in ("cpu", "cuda"):
        net, x, y = regression()
        net, x, y = net.to(device), x.to(device), y.to(device)
        optimizer = NewtonKrylov(net, curvature=curvature, preconditioner=preconditioner)
        losses.append([optimizer.step(closure(net, x, y)) for _ in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)


def test_inputs_that_are_always_zero_are_no_obstacle_to_kronecker_factors():
    """In single precision MKL does not find the eigenvalues of such a Gram matrix."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(392, 784, generator=generator) ** 4
    x[:, torch.randperm(784, generator=generator)[:500]] = 0
    net = nn.Linear(784, 2)
    optimizer = NewtonKrylov(net, curvature=GaussNewton(), preconditioner=KroneckerFactored(), damping=1e-4)
    optimizer.step(closure(net, x, torch.sin(x[:, :2])))
    assert optimizer.last.outcome is Outcome.STEPPED and optimizer.last.after < 0.1 * optimizer.last.before
