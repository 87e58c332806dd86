"""Checks of input: what is fine comes back as it is, what is not is refused by name, value and expectation."""

import math
import re

import numpy as np
import pytest
import torch

from hodsim import checks

BOTH = pytest.mark.parametrize("array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
NOT_FINITE = [math.nan, math.inf, -math.inf]


@BOTH
def test_finite_returns_the_very_array(array):
    a = array(np.arange(6.0).reshape(2, 3))
    assert checks.finite("force", a) is a


@BOTH
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_finite_names_count_and_first_bad_entry(array, bad):
    a = np.zeros((4, 3))
    a[2, 1] = a[3, 0] = bad
    with pytest.raises(ValueError, match=re.escape(f"force holds 2 value(s) that are not finite (first: {bad} at index [2, 1])")):
        checks.finite("force", array(a))


@BOTH
def test_finite_accepts_whole_numbers_and_nothing_at_all(array):
    for a in (array(np.arange(3)), array(np.zeros((0, 3)))):
        assert checks.finite("indices", a) is a


def test_finite_sees_through_a_graph_of_derivatives():
    with pytest.raises(ValueError, match="weight holds 1"):
        checks.finite("weight", torch.tensor([1.0, math.nan], requires_grad=True))


@BOTH
@pytest.mark.parametrize("expected", [(2, 3), (None, 3), (2, None), (None, None)])
def test_shape_returns_an_array_that_fits(array, expected):
    a = array(np.zeros((2, 3)))
    assert checks.shape("vertices", a, expected) is a


@BOTH
@pytest.mark.parametrize(
    ("expected", "told"), [((3, 2), "(3, 2)"), ((None, 4), "(*, 4)"), ((6,), "(6,)"), ((None,), "(*,)"), ((2, 3, None), "(2, 3, *)")]
)
def test_shape_tells_received_and_expected(array, expected, told):
    with pytest.raises(ValueError, match=re.escape(f"vertices has shape (2, 3); expected {told}")):
        checks.shape("vertices", array(np.zeros((2, 3))), expected)


@pytest.mark.parametrize("value", [1e-300, 1, np.float64(7.0), 1e300])
def test_positive_and_nonnegative_accept_numbers_above_zero(value):
    assert checks.positive("density", value) is value
    assert checks.nonnegative("density", value) is value


def test_zero_is_nonnegative_but_not_positive():
    assert checks.nonnegative("damping", 0.0) == 0
    with pytest.raises(ValueError, match=re.escape("density is 0.0; expected a finite number greater than 0")):
        checks.positive("density", 0.0)


@pytest.mark.parametrize("value", [-1e-300, -5.0, *NOT_FINITE])
@pytest.mark.parametrize("check", [checks.positive, checks.nonnegative])
def test_negative_and_not_finite_numbers_are_refused(check, value):
    with pytest.raises(ValueError, match=re.escape(f"damping is {value}; expected a finite number")):
        check("damping", value)


@pytest.mark.parametrize("value", [-0.999, 0.0, 0.4, 0.499])
def test_inside_accepts_the_open_interval(value):
    assert checks.inside("poisson_ratio", value, -1, 0.5) == value


@pytest.mark.parametrize("value", [-1, 0.5, 0.6, *NOT_FINITE])
def test_inside_refuses_its_ends_and_beyond(value):
    with pytest.raises(ValueError, match=re.escape(f"poisson_ratio is {value}; expected a number strictly between -1 and 0.5")):
        checks.inside("poisson_ratio", value, -1, 0.5)
