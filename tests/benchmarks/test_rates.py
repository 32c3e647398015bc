"""Intervals of rates against scipy and definitions, the limit of alarms, design effects and episodes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, poisson

from benchmarks.rates import CHANCE, alarm_limit, effective_trials, episodes, events_interval, interval, within


@pytest.mark.parametrize(("count", "trials"), [(0, 1000), (1, 20), (10, 1000), (999, 1000), (50, 50)])
def test_interval_of_a_rate_is_exact(count: int, trials: int) -> None:
    """It is that of Clopper and Pearson, also without an alarm, and with alarms only."""
    expected = binomtest(count, trials).proportion_ci(0.95, method="exact")
    assert interval(count, trials) == pytest.approx(tuple(expected))


def test_interval_of_fewer_effective_trials_is_wider() -> None:
    """The numbers may be real."""
    low, high = interval(1.5, 150.5)
    assert low < interval(15, 1505)[0] < 0.01 < interval(15, 1505)[1] < high


@pytest.mark.parametrize("count", [0, 1, 7, 200])
def test_interval_of_events_is_exact(count: int) -> None:
    """At its ends, at most as many and at least as many events have a probability of 2.5 %."""
    low, high = (end * 4 for end in events_interval(count, 4))
    assert poisson.cdf(count, high) == pytest.approx(0.025)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low) == pytest.approx(0.025)


@pytest.mark.parametrize(("windows", "level"), [(1000, 0.01), (20, 0.05), (175_200, 1 / 8760)])
def test_limit_of_alarms_is_the_smallest_improbable_number(windows: int, level: float) -> None:
    """One alarm fewer is not improbable."""
    limit = alarm_limit(windows, level)
    assert binom.sf(limit - 1, windows, level) <= CHANCE < binom.sf(limit - 2, windows, level)


def test_windows_of_an_unlucky_reference_count_once() -> None:
    """Twenty references, and one has an alarm in each of its fifty windows: they are about twenty windows."""
    unlucky_B = np.array([50] + [0] * 19)
    assert effective_trials(unlucky_B, 50) == pytest.approx(20)
    assert within(unlucky_B, 50, 0.01)
    even_B = np.array([2, 3] * 10)
    assert effective_trials(even_B, 50) == 1000
    assert not within(even_B, 50, 0.01)


@given(st.lists(st.sampled_from([True, False, None])))
def test_episodes_cover_all_alarms_and_end_without_one(alarmed: list[bool | None]) -> None:
    """Episodes begin and end with an alarm, contain none without, and are separated by a window without alarm."""
    found = episodes(alarmed)
    covered = {window for first, last in found for window in range(first, last + 1)}
    assert {window for window, alarm in enumerate(alarmed) if alarm} <= covered
    assert all(alarmed[first] and alarmed[last] for first, last in found)
    assert all(alarmed[window] is not False for window in covered)
    for (_, last), (first, _) in pairwise(found):
        assert False in alarmed[last:first]
