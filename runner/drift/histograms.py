"""Histograms of reference and live records for the report: local attributions and feature values.

Array letters: N reference records, M live records, K pooled records.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import DriftResult, FeatureDrift, Histogram, LabelResult
from runner.drift.causes import are_numeric, format_value, value_counts
from runner.errors import snippet

MOST_FEATURES = 5
"""Features of a label with histograms at most."""
MOST_BINS = 24
"""Bins of a histogram of numbers at most."""
MOST_NAMES = 12
"""Categories at most; with more distinct values, numbers are binned and the rarest categories are pooled."""
OTHERS = "others"
TAIL = 0.01
"""Share of records at each end that the outermost bins absorb, so that outliers do not compress the histogram."""


def with_histograms(result: DriftResult, before: Explained, now: Explained) -> DriftResult:
    """Add histograms to the features with the largest changes, significant ones first.

    Args:
        result: result of the tests.
        before: reference records.
        now: live records.
    """
    labels = tuple(_with_histograms(label, result.significance, before, now) for label in result.labels)
    return replace(result, labels=labels)


def _with_histograms(label: LabelResult, significance: float, before: Explained, now: Explained) -> LabelResult:
    first = sorted(label.top_changes, key=lambda feature: feature.p > significance)[:MOST_FEATURES]
    wanted = {feature.name for feature in first}

    def add(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in wanted:
            return feature
        phi = [
            side.phi_NDL[:, side.names.index(feature.name), side.labels.index(name)]
            for side, name in ((before.attributions, label.reference_label), (now.attributions, label.label))
        ]
        is_group = feature.name not in now.features.columns
        own = None if is_group else values(before.features[feature.name], now.features[feature.name])
        return replace(feature, attributions=numbers(*phi), values=own)

    return replace(label, features=tuple(map(add, label.features)))


def values(before: pl.Series, now: pl.Series) -> Histogram | None:
    """Return the histogram of a feature's values; None if one side has only missing values."""
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return None
    numeric = are_numeric(before, now)
    if numeric and len({*before.unique().to_list(), *now.unique().to_list()}) > MOST_NAMES:
        return numbers(*(side.cast(pl.Float64).to_numpy() for side in (before, now)))
    return _categories(before, now, numeric)


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


def numbers(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> Histogram:
    """Return the histogram of numbers over bins of equal width; the outermost bins include values beyond them."""
    pooled_K = np.concatenate([before_N, now_M])
    low, high = np.quantile(pooled_K, [TAIL, 1 - TAIL])
    if low == high:
        low, high = pooled_K.min(), pooled_K.max()
    inside_K = pooled_K[(pooled_K >= low) & (pooled_K <= high)]
    bins = min(MOST_BINS, len(np.histogram_bin_edges(inside_K, "sturges")) - 1)
    edges = np.linspace(low, high, bins + 1) if low < high else np.array([low - 0.5, high + 0.5])
    shares = [np.histogram(side.clip(edges[0], edges[-1]), edges)[0] / len(side) for side in (before_N, now_M)]
    return Histogram(tuple(edges.tolist()), (), *(tuple(side.tolist()) for side in shares))
