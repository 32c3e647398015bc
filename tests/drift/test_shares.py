"""Attribution shares, attribution shift and total attribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance

from runner.drift.shares import attribution_shift, share_change, total_log2_change

VALUES = arrays(np.float64, 5, elements=st.floats(0.001, 1000))


@given(VALUES, VALUES, st.floats(0.01, 100))
def test_attribution_shift_is_a_distance_without_scale(before_D: np.ndarray, now_D: np.ndarray, factor: float) -> None:
    """It is in [0, 1], symmetric, 0 if all features grow alike, and the sum of all gained shares."""
    changed = attribution_shift(before_D, now_D)
    assert 0 <= changed <= 1
    assert changed == pytest.approx(attribution_shift(now_D, before_D))
    assert changed == pytest.approx(attribution_shift(before_D * factor, now_D))
    assert attribution_shift(before_D, before_D * factor) == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).sum() == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).clip(min=0).sum() == pytest.approx(changed)


def test_attribution_shift_of_two_features_equals_the_wasserstein_distance() -> None:
    """Total variation on two points equals scipy's Wasserstein distance."""
    before_D, now_D = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    truth = wasserstein_distance([0, 1], [0, 1], before_D, now_D)
    assert attribution_shift(before_D, now_D) == pytest.approx(truth)


@given(arrays(np.float64, (2, 4, 5), elements=st.sampled_from([0.0, 0.1, 0.3, 7.0])))
def test_several_rows_equal_single_rows(both_PD: np.ndarray) -> None:
    """Results are bit-identical, also for zeros; one row is broadcast to many."""
    before_PD, now_PD = both_PD
    for statistic in (attribution_shift, total_log2_change):
        single = [statistic(*row) for row in zip(before_PD, now_PD, strict=True)]
        np.testing.assert_array_equal(statistic(before_PD, now_PD), single)
        broadcast = [statistic(before_PD[0], now_D) for now_D in now_PD]
        np.testing.assert_array_equal(statistic(before_PD[0], now_PD), broadcast)


def test_zero_attributions_are_undefined() -> None:
    """Both statistics are NaN if one side is all zeros."""
    zeros_D, ones_D = np.zeros(3), np.ones(3)
    for before_D, now_D in ((zeros_D, ones_D), (ones_D, zeros_D), (zeros_D, zeros_D)):
        assert math.isnan(attribution_shift(before_D, now_D))
        assert math.isnan(total_log2_change(before_D, now_D))


def test_total_log2_change_of_a_doubled_total_is_1() -> None:
    """It does not depend on the shares."""
    assert total_log2_change(np.array([1.0, 3.0]), np.array([4.0, 4.0])) == 1
