"""Physics-informed networks: derivatives and residuals against closed forms, the Jacobian against autograd, and a problem solved."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from hodsim.multicomplex import Axes, derivative, laplacian
from hodsim.optim import NewtonKrylov
from hodsim.pinn import (
    Condition,
    LayeredJacobian,
    LevenbergMarquardt,
    ResidualGaussNewton,
    adaptive,
    faces,
    gauss,
    gauss_faces,
    grid,
    network,
    sobol,
)
from hodsim.pinn.levenberg_marquardt import second_derivative
from hodsim.pinn.problems import PROBLEMS, burgers, paper_poisson, poisson

EPS = torch.finfo(torch.float64).eps
SQUARE = [(0.0, 1.0)] * 2
every_problem = pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)


@every_problem
def test_the_exact_solution_has_no_residual(make):
    problem = make()
    for condition in problem.conditions:
        scale = condition.residual(lambda x: problem.exact(x) + 1 + x.square().sum(-1, keepdim=True).square(), condition.points).abs().max()
        assert scale > 1e-3, f"{condition.name} accepts a field that is no solution"
        assert condition.residual(problem.exact, condition.points).abs().max() < 1e5 * EPS * max(1.0, float(scale)), condition.name
    assert problem.error(problem.exact) == 0


def test_the_papers_boundary_values():
    """The four edges as the paper prints them."""
    exact, k = paper_poisson().exact, torch.arange(1.0, 9.0, dtype=torch.float64)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    far = torch.sin(k) * torch.sin(k * t) + torch.cos(k * t)
    for x, expected in (((zero, t), torch.ones(7, 8)), ((t, zero), torch.ones(7, 8)), ((one, t), far), ((t, one), far)):
        torch.testing.assert_close(exact(torch.cat(x, dim=1)), expected.double(), rtol=0, atol=8 * EPS)


def test_the_papers_source_is_the_laplacian_by_differences():
    problem, h = paper_poisson(), 1e-3
    x, u = grid(SQUARE, 4), paper_poisson().exact
    steps = h * torch.eye(2, dtype=torch.float64)
    differences = sum((u(x + s) - 2 * u(x) + u(x - s)) / h**2 for s in steps)
    interior = problem.conditions[0]
    source = laplacian(u, x) - interior.residual(u, x)
    torch.testing.assert_close(differences, source, rtol=0, atol=8**4 * h**2)


def test_burgers_against_a_spectral_solver():
    """Fourier collocation of the odd, periodic solution, integrated in time by Runge-Kutta of order 8."""
    count, viscosity = 128, 0.1
    x = -1 + 2 * np.arange(count) / count
    wave = 1j * np.pi * np.fft.rfftfreq(count, 1 / count)

    def rate(_, u):
        spectrum = np.fft.rfft(u)
        return -u * np.fft.irfft(wave * spectrum, count) + viscosity * np.fft.irfft(wave**2 * spectrum, count)

    times = [0.0, 0.1, 0.4, 1.0]
    solved = solve_ivp(rate, (0, 1), -np.sin(math.pi * x), "DOP853", times, rtol=1e-11, atol=1e-12).y.T
    for t, u in zip(times, solved, strict=True):
        points = torch.from_numpy(np.stack([x, np.full_like(x, t)], axis=1))
        torch.testing.assert_close(burgers().exact(points)[:, 0], torch.from_numpy(u), rtol=0, atol=1e-9)


def _nonlinear(field, x):
    """u u_x - u_yy + u_xxyy: products of the field's parts, several passes, order four."""
    e1, e2 = torch.eye(2, dtype=x.dtype)
    return field(x) * derivative(field, x, e1) - derivative(field, x, e2, e2) + derivative(field, x, e1, e1, e2, e2)


def _conditions():
    return (
        Condition("laplacian", grid(SQUARE, 3), laplacian, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)),
        Condition("nonlinear", sobol(SQUARE, 5), _nonlinear),
        Condition("hessian", sobol(SQUARE, 4, seed=1), lambda u, x: derivative(u, x, Axes(), Axes()).sum((0, 1))),
        Condition("boundary", faces(SQUARE, 3), lambda u, x: u(x), 10.0),
    )


def _field(bias=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Linear(2, 6, bias=bias), nn.Tanh(), nn.Linear(6, 5, bias=bias), nn.SiLU(), nn.Linear(5, 3, bias=bias))
        return nn.Sequential(*layers).double()


def _autograd_jacobian(field, conditions):
    rows = []
    for condition in conditions:
        for r in condition(field).reshape(-1):
            grads = torch.autograd.grad(r, list(field.parameters()), retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([g.reshape(-1) for g in grads]))
    return torch.stack(rows)


@pytest.mark.parametrize("bias", [True, False])
def test_the_layered_jacobian_is_autograds(bias):
    field, conditions = _field(bias), _conditions()
    expected, layered = _autograd_jacobian(field, conditions), LayeredJacobian(field, conditions)
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(len(expected), generator=generator, dtype=torch.float64)
    v = torch.randn(expected.shape[1], generator=generator, dtype=torch.float64)
    for found, wanted in ((layered.dense(), expected), (layered.kernel(), expected @ expected.T),
                          (layered.transposed(y), expected.T @ y), (layered.times(v), expected @ v)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e4 * EPS * float(wanted.abs().max()))


def test_primal_and_dual_steps_agree():
    problem = poisson(2, interior=20, side=4)
    after = []
    for form in ("primal", "dual"):
        field = network(problem, width=6, hidden=2)
        LevenbergMarquardt(field, problem, damping=0.1, form=form).step()
        after.append(parameters_to_vector(field.parameters()).detach())
    torch.testing.assert_close(*after, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [lambda: poisson(2, interior=50, side=8), lambda: poisson(5, interior=30, side=2)], ids=["2", "5"])
@pytest.mark.parametrize(("boldness", "steps"), [(0.0, 25), (1.0, 50)])
def test_levenberg_marquardt_lowers_the_loss_and_the_error(make, boldness, steps):
    problem = make()
    field = network(problem, width=12, hidden=1)
    before, losses = problem.error(field), []
    optimizer = LevenbergMarquardt(field, problem, boldness=boldness)
    for _ in range(steps):
        losses.append(optimizer.step())
    assert boldness or all(b <= a for a, b in zip(losses[:-1], losses[1:], strict=True))
    assert losses[-1] < 1e-6 * losses[0] and problem.error(field) < 0.02 * before


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_second_derivative_of_residuals_by_the_parameters(name):
    """Against fourth-order central differences."""
    problem = PROBLEMS[name]()
    problem = replace(problem, conditions=tuple(Condition(c.name, c.points[:6], c.residual) for c in problem.conditions))
    field = network(problem, width=8, hidden=2)
    start = parameters_to_vector(field.parameters()).detach()
    v = 0.1 * torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def residual(t):
        vector_to_parameters(start + t * v, field.parameters())
        return torch.cat([condition(field).reshape(-1) for condition in problem.conditions]).detach()

    h = 0.01
    differences = (-residual(2 * h) + 16 * residual(h) - 30 * residual(0) + 16 * residual(-h) - residual(-2 * h)) / (12 * h**2)
    residual(0)
    torch.testing.assert_close(second_derivative(field, problem, v), differences, rtol=1e-5, atol=1e-5 * float(differences.abs().max()))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_gauss_points_integrate_polynomials(dim):
    """Means over the box of x_1^a x_n^b, exact to degree 2 count - 1 in each coordinate; on the faces against their own means."""
    box = [(-1.0, 2.0), (3.0, 5.0), (0.0, 0.5)][:dim]
    points, weights = gauss(box, 4)
    (a, b), (c, d) = box[0], box[-1]
    mean = (b**8 - a**8) / (8 * (b - a)) if dim == 1 else (b**4 - a**4) / (4 * (b - a)) * (d**6 - c**6) / (6 * (d - c))
    value = points[:, 0] ** 7 if dim == 1 else points[:, 0] ** 3 * points[:, -1] ** 5
    torch.testing.assert_close((weights * value).sum(), torch.tensor(mean, dtype=torch.float64), rtol=1e-12, atol=0)
    edges, edge_weights = gauss_faces(box, 4)
    squares = [(b**3 - a**3) / (3 * (b - a))] * (2 * dim - 2) + [a**2, b**2]
    torch.testing.assert_close((edge_weights * edges[:, 0] ** 2).sum(), torch.tensor(sum(squares) / (2 * dim), dtype=torch.float64))
    assert float(edge_weights.sum()) == pytest.approx(1) and ((edges == torch.tensor(box).T[0]) | (edges == torch.tensor(box).T[1])).any(1).all()


def test_a_condition_weighs_its_points():
    points, weights = gauss(SQUARE, 3)
    condition = Condition("mean square", points, lambda u, x: u(x), 2.0, weights)
    assert float(condition(lambda x: x[:, :1]).square().sum()) == pytest.approx(4 / 3)
    with pytest.raises(ValueError, match=r"quadrature of 'edge' has shape \(9,\)"):
        Condition("edge", points[:2], lambda u, x: u(x), quadrature=weights)


def test_conditions_move_to_where_the_residual_is_large():
    sample = partial(adaptive, SQUARE, 20)
    condition = Condition("interior", grid(SQUARE, 3), lambda u, x: u(x), sample=lambda residual: sample(residual, seed=3))
    still = Condition("boundary", faces(SQUARE, 3), lambda u, x: u(x))
    problem = replace(poisson(2), conditions=(condition, still)).resampled(lambda x: x[:, :1])
    assert torch.equal(problem.conditions[0].points, adaptive(SQUARE, 20, lambda x: x[:, :1], seed=3)) and problem.conditions[1] is still


def test_newton_krylov_lowers_the_loss_and_the_error():
    problem = poisson(2, interior=20, side=4)
    field = network(problem, width=6, hidden=1)
    before, losses = problem.error(field), []
    optimizer = NewtonKrylov(field, curvature=ResidualGaussNewton(field, problem), memory=0.0, progress=0.0)
    for _ in range(30):
        losses.append(optimizer.step(lambda: problem.loss(field)))
    assert losses[-1] < 1e-2 * losses[0] and problem.error(field) < 0.1 * before


def test_parameters_outside_of_linear_layers_are_refused():
    with pytest.raises(TypeError, match="0.weight"):
        LayeredJacobian(nn.Sequential(nn.PReLU(dtype=torch.float64), nn.Linear(2, 1).double()), _conditions())


def test_an_unknown_form_is_refused():
    problem = poisson(2)
    with pytest.raises(ValueError, match="'both'"):
        LevenbergMarquardt(network(problem, width=4, hidden=1), problem, form="both")


def test_samplers_stay_in_their_box():
    box = [(-1.0, 2.0), (3.0, 5.0), (0.0, 0.5)]
    low, high = torch.tensor(box, dtype=torch.float64).T
    for points in (grid(box, 4), sobol(box, 33), faces(box, 5, seed=0)):
        assert points.shape[1] == 3 and (points >= low).all() and (points <= high).all()
    assert grid(box, 4, ends=True).shape == (64, 3)
    edge = faces(box, 5, seed=0)
    assert ((edge == low) | (edge == high)).any(1).all()


def test_adaptive_points_have_the_largest_residuals():
    points = adaptive(SQUARE, 20, lambda x: x[:, :1], seed=3)
    every = sobol(SQUARE, 200, seed=3)[:, 0]
    assert points[:, 0].min() == every.sort(descending=True).values[19]
