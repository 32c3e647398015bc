"""Likely causes of a change, derived from the values of a feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Histogram
from runner.drift.causes import (
    MOST_BINS,
    MOST_CAUSES,
    MOST_HISTOGRAMS,
    MOST_NAMES,
    OTHERS,
    SAME,
    likely_cause,
    numbers_histogram,
    values_histogram,
    with_causes,
    with_histograms,
)
from runner.drift.detect import Detector
from tests.drift.samples import HOUR, POLICY, SCALES, local_attributions
from tests.golden import Golden

RNG = np.random.default_rng(8)
HOURS = RNG.integers(1, 80, 1000).astype(float)
SEX = (RNG.random(1000) < 0.7).astype(float)
BALANCE = RNG.normal(3, 4, 1000)


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (HOURS, lambda v: v / 10),
        (HOURS, lambda v: v * 60),
        (HOURS, lambda v: v * 12),
        (BALANCE, lambda v: v / 0.45359237),
        (BALANCE, lambda v: -v),
        (SEX, lambda v: 1 - v),
        (np.floor(HOURS / 30), lambda v: v + 1),
        (np.floor(HOURS / 30), lambda v: v - 1),
        (HOURS, lambda v: v * 0 + 40),
        (BALANCE, lambda v: v + 5),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 2, v)),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 7, v)),
        (HOURS, lambda v: v),
    ],
)
def test_cause_of_changed_numbers(
    values: np.ndarray, change: Callable[[np.ndarray], np.ndarray], golden: Golden
) -> None:
    """Each kind of change is recognized in other records than those of the reference."""
    golden(likely_cause(pl.Series(values[:600]), pl.Series(change(values[600:]))) or SAME)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["US"] * 9 + ["DE"], ["US"] * 5 + ["FR"] * 5),
        (["US"] * 9 + ["DE"], ["US"] * 4 + ["DE"] * 6),
        (["US"] * 9 + ["DE"], ["US"] * 9 + ["DE"]),
        ([1.0, 2.0] * 5, [1.0, None] * 5),
        ([None, None], [None, None]),
        ([True, False], [True, True]),
        ([1, 2, 3] * 9, ["1", "2", "x"] * 9),
        (["<b>"] * 9, ["'\n"] * 4 + ['"'] * 5),
    ],
)
def test_cause_of_other_changed_values(before: list[Any], now: list[Any], golden: Golden) -> None:
    """Strings, booleans, nulls and changed types are recognized."""
    golden(likely_cause(pl.Series(before), pl.Series(now)) or SAME)


def inputs_like(attributions: Attributions) -> pl.DataFrame:
    """Return feature values equal to the attributions of the first label."""
    return pl.DataFrame(attributions.phi_NDL[:, :, 0], schema=list(attributions.names))


def test_only_significant_changes_have_a_cause() -> None:
    """The number of features with a cause is limited."""
    scales = np.ones(10)
    reference, live = local_attributions(600, 0, scales), local_attributions(300, 1, scales * 9)
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    inputs = inputs_like(reference), inputs_like(live)
    causes = [feature.cause for feature in with_causes(found, *inputs).labels[0].features]
    assert sum(cause is not None for cause in causes) == min(MOST_CAUSES, 10)
    unchanged = Detector(POLICY).find(reference, local_attributions(300, 1, scales), "mean_abs", HOUR)
    assert with_causes(unchanged, *inputs) == unchanged


def test_feature_has_the_same_cause_for_all_labels() -> None:
    """The cause depends only on the values."""
    reference, live = local_attributions(600, 0, labels=("y", "z")), local_attributions(300, 1, SCALES * 3, ("y", "z"))
    inputs = inputs_like(reference), inputs_like(live)
    first, second = with_causes(Detector(POLICY).find(reference, live, "mean_abs", HOUR), *inputs).labels
    assert [feature.cause for feature in first.features] == [feature.cause for feature in second.features]


@pytest.mark.parametrize(
    "now",
    [
        {"years": HOURS[600:], "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] * 12, "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] + 2, "city": ["c"] * 400},
        {"years": [None] * 400, "city": ["b"] * 300 + ["a"] * 100},
        {"years": [None] * 4 + [1.0] * 396, "city": [None] * 120 + ["a"] * 280},
    ],
    ids=["unchanged", "years times 12", "new city", "no years", "constant years"],
)
def test_cause_of_a_group_is_that_of_its_most_changed_feature(now: dict[str, Any], golden: Golden) -> None:
    """A group has one attribution and one cause."""
    reference, live = local_attributions(600, 0), local_attributions(400, 1, SCALES * 9)
    name = reference.names[0]
    before = (
        inputs_like(reference)
        .rename({name: "years"})
        .with_columns(pl.Series("years", HOURS[:600]), pl.Series("city", ["a"] * 450 + ["b"] * 150))
    )
    after = inputs_like(live).drop(name).with_columns(pl.Series(key, value, strict=False) for key, value in now.items())
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    (label,) = with_causes(found, before, after, groups={name: ["years", "city"]}).labels
    (cause,) = [feature.cause for feature in label.features if feature.name == name]
    assert cause is not None
    golden(cause)


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
    assert numbers_histogram(np.full(9, 2.0), np.full(3, 2.0)) == Histogram((1.5, 2.5), (), (1.0,), (1.0,))


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
    (label,) = with_histograms(Detector(POLICY).find(*sides, "mean_abs", HOUR), before, now).labels
    shown = [feature for feature in label.features if feature.attributions]
    assert len(shown) == MOST_HISTOGRAMS
    assert shown[-1].name == "j"
    assert shown[-1].attributions == numbers_histogram(sides[0].phi_NDL[:, 9, 0], sides[1].phi_NDL[:, 9, 0])
    assert shown[-1].values == shown[-1].attributions
