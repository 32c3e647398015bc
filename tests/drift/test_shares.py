"""Shares of the attention, and how much of it changed hands."""

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
def test_it_is_a_distance_that_knows_no_scale(before_D: np.ndarray, now_D: np.ndarray, times: float) -> None:
    """In [0, 1], symmetric, 0 where all grew alike, and what some gain others lose."""
    changed = attribution_shift(before_D, now_D)
    assert 0 <= changed <= 1
    assert changed == pytest.approx(attribution_shift(now_D, before_D))
    assert changed == pytest.approx(attribution_shift(before_D * times, now_D))
    assert attribution_shift(before_D, before_D * times) == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).sum() == pytest.approx(0, abs=1e-12)
    assert share_change(before_D, now_D).clip(min=0).sum() == pytest.approx(changed)


def test_of_two_features_it_is_the_distance_that_mass_travels() -> None:
    """Total variation on two points is scipy's Wasserstein distance."""
    before_D, now_D = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    truth = wasserstein_distance([0, 1], [0, 1], before_D, now_D)
    assert attribution_shift(before_D, now_D) == pytest.approx(truth)


@given(arrays(np.float64, (2, 4, 5), elements=st.sampled_from([0.0, 0.1, 0.3, 7.0])))
def test_rows_at_once_have_what_each_has_alone(both_PD: np.ndarray) -> None:
    """To the bit, those of zeros included; one row may stand beside many."""
    before_PD, now_PD = both_PD
    for figure in (attribution_shift, total_log2_change):
        alone = [figure(*row) for row in zip(before_PD, now_PD, strict=True)]
        np.testing.assert_array_equal(figure(before_PD, now_PD), alone)
        np.testing.assert_array_equal(figure(before_PD[0], now_PD), [figure(before_PD[0], now_D) for now_D in now_PD])


def test_nothing_has_no_shares() -> None:
    """Where one side is all zeros neither figure is defined."""
    zeros_D, ones_D = np.zeros(3), np.ones(3)
    for before_D, now_D in ((zeros_D, ones_D), (ones_D, zeros_D), (zeros_D, zeros_D)):
        assert math.isnan(attribution_shift(before_D, now_D))
        assert math.isnan(total_log2_change(before_D, now_D))


def test_mass_counts_doublings() -> None:
    """Whatever the features do among themselves."""
    assert total_log2_change(np.array([1.0, 3.0]), np.array([4.0, 4.0])) == 1
