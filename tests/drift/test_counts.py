"""Hypergeometric and χ² tests against scipy, and their calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, hypergeom

from runner.drift.counts import categories, chi_squared_tail, extremes, hypergeometric

WINDOWS = 400


@given(st.data())
def test_hypergeometric_equals_scipy(data: st.DataObject) -> None:
    """The p-value is twice the smaller tail."""
    total = data.draw(st.integers(2, 3000))
    live, chosen = data.draw(st.integers(1, total - 1)), data.draw(st.integers(0, total))
    found = data.draw(st.integers(max(0, chosen + live - total), min(chosen, live)))
    truth, mean = hypergeom(total, chosen, live), chosen * live / total
    tail = truth.sf(found - 1) if found > mean else truth.cdf(found)
    expected = 1.0 if found == mean else min(1.0, 2 * tail)
    assert hypergeometric(found, chosen, live, total) == pytest.approx(expected, rel=1e-6, abs=1e-250)


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 12, 50])
@pytest.mark.parametrize("statistic", [0.0, 0.5, 5.0, 30.0, 200.0])
def test_tail_of_chi_squared_equals_scipy(degrees: int, statistic: float) -> None:
    """It holds far in the tail, too."""
    assert chi_squared_tail(statistic, degrees) == pytest.approx(chi2.sf(statistic, degrees), rel=1e-9)


@pytest.mark.parametrize("shape", ["normal", "ties"])
def test_extremes_raise_no_more_alarms_than_the_level(shape: str) -> None:
    """Windows come from the population of the reference."""
    rng = np.random.default_rng(1)

    def drawn(rows: int) -> np.ndarray:
        return rng.normal(size=rows) if shape == "normal" else rng.integers(0, 6, rows).astype(float)

    p = np.array([extremes(drawn(200), drawn(100)) for _ in range(WINDOWS)])
    for level in (0.05, 0.2):
        assert (p <= level).sum() <= binom.ppf(0.999, WINDOWS, level)


@pytest.mark.parametrize("live", [100, 1000])
def test_categories_raise_no_more_alarms_than_the_level(live: int) -> None:
    """Rare categories are pooled."""
    rng, shares = np.random.default_rng(2), [0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01]
    p = np.array([categories(rng.multinomial(500, shares), rng.multinomial(live, shares)) for _ in range(WINDOWS)])
    for level in (0.05, 0.2):
        assert (p <= level).sum() <= binom.ppf(0.999, WINDOWS, level)


def test_many_small_changes_of_categories_add_up() -> None:
    """No single category is significant, but all of them are."""
    before, now = np.full(20, 200), np.tile([65, 35], 10)
    assert categories(before, now) < 1e-6
    assert min(hypergeometric(int(n), int(b + n), 1000, 5000) for b, n in zip(before, now, strict=True)) > 1e-5


def test_single_category_and_empty_counts_have_p_value_1() -> None:
    """There is nothing to compare."""
    assert categories(np.array([5]), np.array([3])) == 1.0
    assert extremes(np.zeros(1), np.zeros(1)) == 1.0
