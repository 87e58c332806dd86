"""Errors and summaries against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import evaluation, record

from hodsim.report.records import Spread, energy_deviation, relative_rms

TIMES = 2 * np.pi * np.arange(64) / 64  # a whole period: means of sin^2 are exactly 1/2


def test_relative_rms_of_a_scaled_motion_is_the_scale():
    reference = np.abs(np.sin(TIMES))
    assert relative_rms(0.25 * reference, reference) == pytest.approx(0.25, rel=1e-14)


def test_relative_rms_of_a_phase_shift_is_the_chord():
    # |sin(t + p) - sin t| has RMS 2 sin(p / 2) / sqrt 2 over a period
    difference = np.sin(TIMES + 0.3) - np.sin(TIMES)
    assert relative_rms(difference, np.sin(TIMES)) == pytest.approx(2 * math.sin(0.15), rel=1e-12)


def test_energy_deviation_of_a_constant_offset_is_its_share_of_the_peak():
    reference = 3 * np.sin(TIMES) ** 2
    assert energy_deviation(reference + 0.6, reference) == pytest.approx(0.2, rel=1e-14)


def test_errors_of_rest_against_rest_are_zero():
    assert relative_rms(np.zeros(5), np.zeros(5)) == 0 and energy_deviation(np.zeros(5), np.zeros(5)) == 0


@pytest.mark.parametrize("lost", [1, 20, 64])
def test_missing_steps_cost_at_least_the_whole_error(lost):
    """However good the rest was: a failed case counts with 100 % or more."""
    difference = np.full(64, 1e-3)
    difference[64 - lost :] = np.nan
    assert relative_rms(difference, np.ones(64)) == 1.0
    assert energy_deviation(np.where(np.isnan(difference), np.nan, 1.0), np.ones(64)) == 1.0


def test_missing_steps_do_not_hide_an_error_above_one():
    difference = np.array([4.0, 4.0, np.nan, np.nan])
    assert relative_rms(difference, np.ones(4)) == pytest.approx(math.sqrt((16 + 16 + 1 + 1) / 4))


def test_spread_is_mean_median_and_maximum():
    assert Spread.of(np.array([1.0, 2.0, 6.0])) == Spread(3.0, 2.0, 6.0)


def test_the_time_rms_of_the_deviation_is_the_tip_error():
    made = evaluation(record("half", 3, 0.5, milliseconds=1))
    deviation = made.tip_deviation(replace(made.models[0], tip=0.5 * made.full.tip))
    np.testing.assert_allclose(np.sqrt(np.mean(deviation**2, axis=1)), 0.5, rtol=1e-12)


def test_headline_is_the_network_and_its_rival_the_linear_model_of_its_size():
    made = evaluation()
    assert made.headline.name == "HoD-Net" and made.rival is not None and made.rival.name == "PCA 6"
    assert evaluation(record("PCA 6", 6, 0.5, milliseconds=1)).rival is None


def test_representative_and_worst_case_follow_the_headline_errors():
    made = evaluation()  # whose errors and motions rise from case to case: the middle half of five are cases 1 to 3
    assert (made.representative(), made.worst()) == (3, 4)


def test_speed_and_break_even_follow_from_the_medians():
    made = evaluation()
    assert made.speedup(made.headline) == pytest.approx(2.5 / 0.5)
    assert made.break_even_steps(20.0) == 10_000  # 20 s at 2 ms a step
    assert evaluation(record("slow", 6, 0.1, milliseconds=3)).break_even_steps(20.0) is None


def test_failed_steps_are_counted_and_left_out_of_the_times():
    made = evaluation()
    assert [model.failed_steps for model in made.models] == [0, 0, 7]
    assert np.isfinite(made.models[2].milliseconds(95)) and made.models[2].newton_iterations == 2.0
    assert [failure.case for failure in made.failures] == ["test-0000"]
