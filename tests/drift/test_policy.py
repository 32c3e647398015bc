"""From false alarms a year to the level of one window, and back by counting."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from runner.drift.policy import AlertPolicy

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 3), (3, 5)])
@pytest.mark.parametrize("promised", [0.1, 1.0, 50.0])
def test_a_year_has_as_many_false_alarms_as_promised(k: int, n: int, promised: float) -> None:
    """The rate at the level, times the windows of a year."""
    rule = AlertPolicy(promised, k, n)
    assert rule.false_alarm_probability(rule.significance(HOUR)) * 365 * 24 == pytest.approx(promised, rel=1e-6)


def test_the_figures_that_people_know() -> None:
    """A level of 1 % is 88 alarms a year, and 2.6 where two of three windows are needed."""
    assert AlertPolicy(1).false_alarm_probability(0.01) * 8760 == pytest.approx(87.6)
    assert AlertPolicy(1, 2, 3).false_alarm_probability(0.01) * 8760 == pytest.approx(2.61, abs=0.01)


def test_more_alarms_than_windows_is_always() -> None:
    """The level is 1."""
    assert AlertPolicy(1e9).significance(HOUR) == pytest.approx(1)


def test_the_rate_is_what_chance_does() -> None:
    """Drawn many times."""
    hits = np.random.default_rng(3).random((200_000, 3)) < 0.1
    assert AlertPolicy(1, 2, 3).false_alarm_probability(0.1) == pytest.approx((hits.sum(axis=1) >= 2).mean(), abs=2e-3)
