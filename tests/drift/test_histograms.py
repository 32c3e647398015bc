"""Distributions for eyes: shares that sum to one on both sides, bins that a single far value does not squeeze."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Explained
from runner.domain.drift import Histogram
from runner.drift.detect import Detector
from runner.drift.histograms import MOST_BINS, MOST_FEATURES, MOST_NAMES, OTHERS, numbers, values, with_histograms
from tests.drift.samples import HOUR, POLICY, local

RNG = np.random.default_rng(4)


def check(drawn: Histogram) -> None:
    """Make sure that it can be drawn."""
    assert sum(drawn.reference) == pytest.approx(1)
    assert sum(drawn.live) == pytest.approx(1)
    assert len(drawn.reference) == len(drawn.live) == (len(drawn.names) or len(drawn.edges) - 1)


@pytest.mark.parametrize("now", [RNG.normal(3, 1, 50), np.full(50, 1e9), np.zeros(50), RNG.normal(size=1)])
def test_numbers_are_binned_alike_on_both_sides(now: np.ndarray) -> None:
    """Over one set of edges, ascending, not too many."""
    drawn = numbers(RNG.normal(size=500), now)
    check(drawn)
    assert list(drawn.edges) == sorted(set(drawn.edges))
    assert len(drawn.edges) <= MOST_BINS + 1


def test_bins_count_what_numpy_counts() -> None:
    """What lies beyond the edges counts in the outermost bins."""
    before_N, now_M = RNG.normal(size=500), RNG.normal(1, 2, 300)
    drawn = numbers(before_N, now_M)
    inner, _ = np.histogram(now_M, drawn.edges)
    assert drawn.live[1:-1] == pytest.approx((inner / 300)[1:-1])
    assert drawn.live[0] == pytest.approx((now_M < drawn.edges[1]).mean())


def test_one_value_is_one_bar() -> None:
    """Wherever it is."""
    assert numbers(np.full(9, 2.0), np.full(3, 2.0)) == Histogram((1.5, 2.5), (), (1.0,), (1.0,))


def test_codes_are_told_apart_in_their_order() -> None:
    """Also those that one side lacks."""
    drawn = values(pl.Series([1, 10, 2, 2]), pl.Series([2.0, 3.0]))
    assert drawn == Histogram((), ("1", "2", "3", "10"), (0.25, 0.5, 0.0, 0.25), (0.0, 0.5, 0.5, 0.0))


def test_of_many_texts_the_rarest_are_put_together() -> None:
    """The most frequent in the reference come first."""
    before, now = pl.Series([f"v{i}" for i in range(20) for _ in range(i + 1)]), pl.Series(["v19", None, "new"])
    drawn = values(before, now)
    assert drawn is not None
    check(drawn)
    assert drawn.names[0] == "v19"
    assert drawn.names[-1] == OTHERS
    assert len(drawn.names) == MOST_NAMES
    assert values(before, pl.Series([None], dtype=pl.String)) is None


def test_the_largest_movers_bear_them() -> None:
    """Those that have surely changed first, no more than a few, each with its own."""
    scales = np.ones(10)
    sides = local(600, 0, scales), local(300, 1, scales * [1, 1, 1, 1, 1, 1, 1, 1, 1, 4])
    before, now = (Explained(pl.DataFrame(side.phi_NDL[:, :, 0], schema=list(side.names)), side) for side in sides)
    (label,) = with_histograms(Detector(POLICY).find(*sides, "mean_abs", HOUR), before, now).labels
    bearing = [feature for feature in label.features if feature.attributions]
    assert len(bearing) == MOST_FEATURES
    assert bearing[-1].name == "j"
    assert bearing[-1].attributions == numbers(sides[0].phi_NDL[:, 9, 0], sides[1].phi_NDL[:, 9, 0])
    assert bearing[-1].values == bearing[-1].attributions
