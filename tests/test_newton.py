"""Newton's method and the dense solve, against equations with known roots."""

import pickle

import numpy as np
import pytest

from hodsim.solve import ConvergenceError, Dense, newton


def solve(residual, jacobian, x, **options):
    options.setdefault("tolerance", lambda first: 1e-12)
    return newton(residual, lambda x: Dense(jacobian(x)), np.asarray(x, float), **options)


def cubic(x):
    return np.array([x[0] ** 3 + x[1] - 9, x[0] + x[1] ** 2 - 3])  # root (2, 1)


def cubic_jacobian(x):
    return np.array([[3 * x[0] ** 2, 1], [1, 2 * x[1]]])


def test_finds_a_known_root():
    result = solve(cubic, cubic_jacobian, [3.0, 2.0])
    assert result.converged
    np.testing.assert_allclose(result.x, [2, 1], rtol=1e-12)


def test_convergence_is_quadratic():
    history = np.array(solve(cubic, cubic_jacobian, [3.0, 2.0]).history)
    tail = history[(history < 1) & (history > 1e-13)]
    orders = np.log(tail[2:] / tail[1:-1]) / np.log(tail[1:-1] / tail[:-2])
    assert len(tail) >= 3
    assert orders[-1] > 1.7


def test_a_linear_system_takes_one_iteration():
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    result = solve(lambda x: A @ x - 1, lambda x: A, [5.0, -7.0])
    assert result.converged and result.iterations == 1


def test_line_search_tames_an_overshooting_step():
    # undamped Newton on arctan diverges from |x| > 1.39
    result = solve(np.arctan, lambda x: np.diag(1 / (1 + x**2)), [5.0])
    assert result.converged
    assert abs(result.x[0]) < 1e-12
    assert all(later < earlier for earlier, later in zip(result.history, result.history[1:], strict=False))


def test_steps_back_from_where_the_residual_is_not_finite():
    with np.errstate(invalid="ignore"):
        result = solve(lambda x: np.log(x) + 1, lambda x: np.diag(1 / x), [3.0])  # the full first step lands at x < 0
    assert result.converged
    np.testing.assert_allclose(result.x, np.exp(-1), rtol=1e-12)


@pytest.mark.parametrize(
    ("residual", "jacobian", "start", "reason"),
    [
        (lambda x: x**2 + 1, lambda x: np.diag(2 * x), 0.3, "no decrease"),
        (lambda x: x - np.nan, lambda x: np.eye(1), 1.0, "first guess is not finite"),
        (lambda x: x**2 - 1, lambda x: np.zeros((1, 1)), 2.0, "singular"),
        (lambda x: x, lambda x: 2 * np.eye(1), 9.0, "25 Newton iterations did not reach 1.00e-12"),
    ],
)
def test_a_failed_solve_is_a_value_that_says_why(residual, jacobian, start, reason):
    with np.errstate(divide="ignore"):
        result = solve(residual, jacobian, [start])
    assert not result.converged
    assert reason in result.reason


def test_dense_solves_several_right_hand_sides():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((5, 5)), rng.standard_normal((5, 3))
    np.testing.assert_allclose(A @ Dense(A).solve(B), B, atol=1e-12)


def test_dense_refuses_a_singular_or_non_finite_matrix():
    for matrix in (np.ones((2, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(np.linalg.LinAlgError, match="2 x 2 tangent is singular or not finite"):
            Dense(matrix).solve(np.ones(2))


def test_a_badly_scaled_equation_takes_its_full_steps():
    # the stiff first equation makes |R| grow on the way; the natural test, free of scale, lets Newton pass in a few iterations
    def residual(x):
        return np.array([1e6 * (x[0] - x[1] ** 2), x[1] - 2])

    def jacobian(x):
        return np.array([[1e6, -2e6 * x[1]], [0, 1]])

    result = solve(residual, jacobian, [0.0, 0.0])
    assert result.converged and result.iterations <= 3
    assert max(result.history) > result.history[0]


def test_a_singular_tangent_of_a_soluble_equation_is_stepped_over():
    # the tangent of cubic is singular where 6 x0^2 x1 = 1
    start = np.array([1.0, 1 / 6])
    assert abs(np.linalg.det(cubic_jacobian(start))) < 1e-15
    result = solve(cubic, cubic_jacobian, start)
    assert result.converged
    np.testing.assert_allclose(cubic(result.x), 0, atol=1e-11)
    assert all(later < earlier for earlier, later in zip(result.history, result.history[1:], strict=False))


def test_equations_that_say_the_same_twice_are_solved():
    # a line of roots; there and everywhere else the tangent is singular
    result = solve(lambda x: np.full(2, x.sum() ** 3 + x.sum() - 10), lambda x: np.full((2, 2), 3 * x.sum() ** 2 + 1), [0.3, -4.0])
    assert result.converged
    assert result.x.sum() == pytest.approx(2, rel=1e-12)


FOLD = 3**-0.5  # where the slope of a well turns: the tangent has a zero


def double_well(x):
    return x**3 - x + np.array([0.3, 0.0])  # slope of a potential with two wells along each axis


def double_well_hessian(x):
    return np.diag(3 * x**2 - 1)


@pytest.mark.parametrize("start", [(0.5, 0.2), (-0.1, 0.577), (FOLD + 1e-12, -3.0), (FOLD + 1e-9, 1e-9 - FOLD)])
def test_indefinite_and_nearly_singular_tangents_lead_to_a_root(start):
    result = solve(double_well, double_well_hessian, start)
    assert result.converged
    np.testing.assert_allclose(double_well(result.x), 0, atol=1e-11)


def test_a_damped_step_costs_nothing_while_the_tangent_is_regular(monkeypatch):
    monkeypatch.setitem(newton.__globals__, "_damped", None)  # calling it would raise
    assert solve(cubic, cubic_jacobian, [3.0, 2.0]).converged


def test_a_singular_tangent_where_the_residual_has_no_slope_is_a_failure_that_says_so():
    result = solve(lambda x: np.array([x[0], 1.0]), lambda x: np.diag([1.0, 0.0]), [0.0, 0.0])  # the second equation has no solution
    assert not result.converged
    assert "singular" in result.reason


def test_a_convergence_error_reaches_another_process_whole():
    error = ConvergenceError(reason="no decrease", step=7, time=0.07, dt=0.01, history=(1.0, 0.5))
    arrived = pickle.loads(pickle.dumps(error))
    assert str(arrived) == str(error) and vars(arrived) == vars(error)
