"""Histograms of values and attributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Explained
from runner.domain.drift import Histogram, InputResult, Level
from runner.drift.histograms import (
    MOST_BINS,
    MOST_HISTOGRAMS,
    MOST_NAMES,
    OTHERS,
    numbers_histogram,
    values_histogram,
    with_histograms,
)
from tests.drift.samples import POLICY, compared, local_attributions

RNG = np.random.default_rng(8)
HISTOGRAM_RNG = np.random.default_rng(4)


def check(histogram: Histogram) -> None:
    """Check that shares sum to 1, with one share per bin or category."""
    assert sum(histogram.reference) == pytest.approx(1)
    assert sum(histogram.live) == pytest.approx(1)
    assert len(histogram.reference) == len(histogram.live) == (len(histogram.names) or len(histogram.edges) - 1)


@pytest.mark.parametrize("now", [HISTOGRAM_RNG.normal(3, 1, 50), np.full(50, 1e9), np.zeros(50), RNG.normal(size=1)])
def test_numbers_have_the_same_bins_on_both_sides(now: np.ndarray) -> None:
    """Edges ascend, and their number is limited."""
    histogram = numbers_histogram(HISTOGRAM_RNG.normal(size=500), now)
    check(histogram)
    assert list(histogram.edges) == sorted(set(histogram.edges))
    assert len(histogram.edges) <= MOST_BINS + 1


def test_bins_equal_numpy() -> None:
    """Values beyond the edges count in the outermost bins."""
    before_N, now_M = HISTOGRAM_RNG.normal(size=500), RNG.normal(1, 2, 300)
    histogram = numbers_histogram(before_N, now_M)
    inner, _ = np.histogram(now_M, histogram.edges)
    assert histogram.live[1:-1] == pytest.approx((inner / 300)[1:-1])
    assert histogram.live[0] == pytest.approx((now_M < histogram.edges[1]).mean())


def test_constant_value_has_one_bin() -> None:
    """The bin contains the value."""
    assert numbers_histogram(np.full(9, 2.0), np.full(3, 2.0)) == Histogram((1.5, 2.5), (), (1.0,), (1.0,), (2.0, 2.0))


def test_few_numbers_are_categories_in_numerical_order() -> None:
    """A category may be missing on one side."""
    histogram = values_histogram(pl.Series([1, 10, 2, 2]), pl.Series([2.0, 3.0]))
    assert histogram == Histogram((), ("1", "2", "3", "10"), (0.25, 0.5, 0.0, 0.25), (0.0, 0.5, 0.5, 0.0))


def test_rare_categories_are_combined() -> None:
    """The most frequent categories of the reference are first."""
    before, now = pl.Series([f"v{i}" for i in range(20) for _ in range(i + 1)]), pl.Series(["v19", None, "new"])
    histogram = values_histogram(before, now)
    assert histogram is not None
    check(histogram)
    assert histogram.names[0] == "v19"
    assert histogram.names[-1] == OTHERS
    assert len(histogram.names) == MOST_NAMES
    assert values_histogram(before, pl.Series([None], dtype=pl.String)) is None


def test_top_changes_have_histograms() -> None:
    """Significant changes take precedence, and the number of histograms is limited."""
    scales = np.ones(10)
    sides = local_attributions(600, 0, scales), local_attributions(300, 1, scales * [1, 1, 1, 1, 1, 1, 1, 1, 1, 4])
    before, now = (Explained(pl.DataFrame(side.phi_NDL[:, :, 0], schema=list(side.names)), side) for side in sides)
    (label,) = with_histograms(compared(POLICY, *sides), before, now).labels
    shown = [feature for feature in label.features if feature.attributions]
    assert len(shown) == MOST_HISTOGRAMS
    assert shown[-1].name == "j"
    assert shown[-1].attributions == numbers_histogram(sides[0].phi_NDL[:, 9, 0], sides[1].phi_NDL[:, 9, 0])
    assert shown[-1].values == shown[-1].attributions


def test_changed_inputs_have_histograms() -> None:
    """Even if their attributions did not change."""
    sides = local_attributions(600, 0, np.ones(10)), local_attributions(300, 1, np.ones(10))
    before, now = (Explained(pl.DataFrame(side.phi_NDL[:, :, 0], schema=list(side.names)), side) for side in sides)
    result = compared(POLICY, *sides)
    last = result.labels[0].top_changes[-1].name
    changed = InputResult(last, Level.INFO, 1e-9, 0.2, 0.0, 0.0, 0.0, 0.0, constant=False)
    (label,) = with_histograms(replace(result, inputs=(changed,)), before, now).labels
    assert last in [feature.name for feature in label.features if feature.values]


def test_values_of_different_sizes_have_logarithmic_bins() -> None:
    """A factor of 100 does not put the reference into one bin; attributions have bins of equal width."""
    before_N = HISTOGRAM_RNG.lognormal(1.6, 0.25, 500)
    histogram = values_histogram(pl.Series(before_N), pl.Series(100 * before_N[:300]))
    assert histogram is not None
    check(histogram)
    ratios = np.divide(histogram.edges[1:], histogram.edges[:-1])
    assert ratios == pytest.approx(ratios[0])
    assert np.count_nonzero(histogram.reference) > 4
    assert histogram.medians == pytest.approx((np.median(before_N), 100 * np.median(before_N[:300])))
    linear = numbers_histogram(before_N, 100 * before_N)
    assert np.diff(linear.edges) == pytest.approx(np.diff(linear.edges)[0])


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1e308, -1e308] * 50, [1e308]),
        ([1.0], [2.0]),
        ([5e-324, 0.0], [0.0]),
        ([1.7e308, 1.0] * 40, [1.0]),
        (HISTOGRAM_RNG.lognormal(0, 30, 1000).tolist(), [1e300]),
    ],
    ids=["huge", "one", "tiny", "wide", "heavy tails"],
)
def test_any_numbers_have_a_histogram(before: list[float], now: list[float]) -> None:
    """Edges are finite and ascend; the number of bins does not grow with the tails."""
    for logarithmic in (False, True):
        histogram = numbers_histogram(np.array(before), np.array(now), logarithmic=logarithmic)
        check(histogram)
        assert np.isfinite(histogram.edges).all()
        assert list(histogram.edges) == sorted(histogram.edges)
        assert len(histogram.edges) <= MOST_BINS + 1
