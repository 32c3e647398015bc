"""Significance level of a window from the accepted number of false alarms per year."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from runner.drift.policy import AlertPolicy

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 3), (3, 5)])
@pytest.mark.parametrize("accepted", [0.1, 1.0, 50.0])
def test_false_alarms_per_year_match_the_policy(k: int, n: int, accepted: float) -> None:
    """The false alarm probability times the windows of a year is the accepted number."""
    rule = AlertPolicy(accepted, k, n)
    assert rule.false_alarm_probability(rule.significance(HOUR)) * 365 * 24 == pytest.approx(accepted, rel=1e-6)


def test_false_alarms_per_year_of_known_levels() -> None:
    """A significance level of 1 % gives 88 alarms per year, and 2.6 if two of three windows are required."""
    assert AlertPolicy(1).false_alarm_probability(0.01) * 8760 == pytest.approx(87.6)
    assert AlertPolicy(1, 2, 3).false_alarm_probability(0.01) * 8760 == pytest.approx(2.61, abs=0.01)


def test_significance_is_at_most_1() -> None:
    """More accepted alarms than windows have the significance level 1."""
    assert AlertPolicy(1e9).significance(HOUR) == pytest.approx(1)


def test_false_alarm_probability_matches_a_simulation() -> None:
    """The simulation has 200,000 sequences of three windows."""
    hits = np.random.default_rng(3).random((200_000, 3)) < 0.1
    assert AlertPolicy(1, 2, 3).false_alarm_probability(0.1) == pytest.approx((hits.sum(axis=1) >= 2).mean(), abs=2e-3)
