"""Histograms of the values and the attributions of a feature, in the reference and in the window.

Array letters: N reference records, M live records, K pooled records.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import DriftResult, FeatureDrift, Histogram, LabelResult
from runner.drift.inputs import are_numeric
from runner.errors import snippet

MOST_HISTOGRAMS = 5
"""Maximum number of features of a label with histograms."""
MOST_BINS = 24
"""Maximum number of bins of a histogram of numbers."""
MOST_NAMES = 12
"""Maximum number of categories; with more distinct values, numbers are binned and rare categories are pooled."""
MOST_RANKED = 100_000
"""Maximum number of records from which the outermost bins are determined."""
OTHERS = "others"
LOG_RATIO = 50
"""Ratio of the largest to the smallest of positive numbers from which bins are equal on a logarithmic scale."""
TAIL = 0.01
"""Share of records at each end that the outermost bins absorb, so that outliers do not compress the histogram."""


def value_counts(values: pl.Series) -> Counter[Any]:
    """Return the number of occurrences of each value.

    >>> value_counts(pl.Series(["a", "b", "a"])).most_common()
    [('a', 2), ('b', 1)]
    """
    table = values.alias("value").value_counts(name="count")
    return Counter(dict(table.iter_rows()))


def format_value(value: object) -> str:
    """Format a value for a message.

    >>> format_value(5.0), format_value(0.25), format_value("US")
    ('5', '0.25', "'US'")
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(snippet(value)) if isinstance(value, str) else snippet(value)


def with_histograms(result: DriftResult, before: Explained, now: Explained) -> DriftResult:
    """Add histograms to the inputs that changed, and to the features with the largest changes, significant ones first.

    Args:
        result: result of the tests.
        before: reference records.
        now: live records.
    """
    changed = {each.name: i for i, each in enumerate(result.changed_inputs)}

    def order(feature: FeatureDrift) -> tuple[int, bool]:
        return changed.get(feature.name, len(changed)), feature.p > result.significance

    wanted = [{each.name for each in sorted(label.top_changes, key=order)[:MOST_HISTOGRAMS]} for label in result.labels]
    labels = [_with_histograms(*pair, before, now) for pair in zip(result.labels, wanted, strict=True)]
    return replace(result, labels=tuple(labels))


def _with_histograms(label: LabelResult, wanted: Collection[str], before: Explained, now: Explained) -> LabelResult:
    """Add histograms to the features with these names."""

    def add(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in wanted:
            return feature
        phi = [
            side.phi_NDL[:, side.names.index(feature.name), side.labels.index(name)]
            for side, name in ((before.attributions, label.reference_label), (now.attributions, label.label))
        ]
        is_group = feature.name not in now.features.columns
        own = None if is_group else values_histogram(before.features[feature.name], now.features[feature.name])
        return replace(feature, attributions=numbers_histogram(*phi), values=own)

    return replace(label, features=tuple(map(add, label.features)))


def values_histogram(before: pl.Series, now: pl.Series) -> Histogram | None:
    """Return the histogram of a feature's values; None if one side has only missing values."""
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return None
    numeric = are_numeric(before, now)
    if numeric and _are_many(before, now):
        return numbers_histogram(*(side.cast(pl.Float64).to_numpy() for side in (before, now)), logarithmic=True)
    return _categories(before, now, numeric)


def _are_many(before: pl.Series, now: pl.Series) -> bool:
    """Return whether numbers have more than `MOST_NAMES` different values."""
    if max(before.n_unique(), now.n_unique()) > MOST_NAMES:
        return True
    return len({*before.unique().to_list(), *now.unique().to_list()}) > MOST_NAMES


def _categories(before: pl.Series, now: pl.Series, numeric: bool) -> Histogram:
    """Return the share of each category; numbers in ascending order, others by frequency in the reference."""
    counts = [value_counts(side) for side in (before, now)]
    total = counts[0] + counts[1]
    ranked = sorted(total, key=lambda value: (-counts[0][value], -counts[1][value], str(value)))
    shown = ranked if len(ranked) <= MOST_NAMES else ranked[: MOST_NAMES - 1]
    named = sorted(shown) if numeric else shown
    shares = [[count[value] / count.total() for value in named] for count in counts]
    names = [snippet(value) if isinstance(value, str) else format_value(value) for value in named]
    if len(shown) < len(ranked):
        names.append(OTHERS)
        shares = [[*side, max(0.0, 1.0 - sum(side))] for side in shares]
    return Histogram((), tuple(names), tuple(shares[0]), tuple(shares[1]))


def numbers_histogram(
    before_N: NDArray[np.float64], now_M: NDArray[np.float64], *, logarithmic: bool = False
) -> Histogram:
    """Return the histogram of numbers over bins of equal width; the outermost bins include values beyond them.

    Args:
        before_N: numbers of the reference.
        now_M: numbers of the window.
        logarithmic: whether bins are equal on a logarithmic scale if all numbers are positive, and the largest is
            `LOG_RATIO` times the smallest.
    """
    pooled_K = np.concatenate([before_N, now_M])
    low, high = np.quantile(pooled_K[:: 1 + len(pooled_K) // MOST_RANKED], [TAIL, 1 - TAIL])
    if low == high:
        low, high = pooled_K.min(), pooled_K.max()
    inside_K = pooled_K[(pooled_K >= low) & (pooled_K <= high)]
    bins = _bins(inside_K[:: 1 + len(inside_K) // MOST_RANKED])
    is_log = logarithmic and pooled_K.min() > 0 and high > LOG_RATIO * low
    if is_log:
        edges = np.geomspace(low, high, MOST_BINS + 1)
    else:
        part = np.linspace(0, 1, bins + 1)
        edges = low * (1 - part) + high * part if low < high else np.array([low - 0.5, high + 0.5])
    reference, live = (
        tuple((np.histogram(side.clip(edges[0], edges[-1]), edges)[0] / len(side)).tolist())
        for side in (before_N, now_M)
    )
    medians = float(np.median(before_N)), float(np.median(now_M))
    return Histogram(tuple(edges.tolist()), (), reference, live, medians)


def _bins(values_K: NDArray[np.float64]) -> int:
    """Return the number of bins of a histogram: the larger one by two rules, at most `MOST_BINS`.

    Source: Sturges (1926), "The choice of a class interval"; Freedman and Diaconis (1981), "On the histogram as a
    density estimator".
    """
    count = len(values_K)
    if not count:
        return 1
    low, first, third, high = np.quantile(values_K, [0, 0.25, 0.75, 1]) / 2
    sturges = math.ceil(math.log2(count) + 1)
    if not third > first:
        return min(MOST_BINS, sturges)
    with np.errstate(over="ignore"):
        ratio = float((high - low) / (third - first)) * math.cbrt(count) / 2
    return min(MOST_BINS, max(sturges, math.ceil(min(ratio, MOST_BINS))))
