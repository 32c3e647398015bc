"""Distributions side by side, as a report draws them: of local attributions, and of the values behind them.

Array letters: N reference records, M live records, K pooled records.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import DriftResult, FeatureDrift, Histogram, LabelResult
from runner.drift.causes import are_numbers, counted, shown
from runner.errors import snippet

MOST_FEATURES = 5
"""Features of a label that have their distributions drawn."""
MOST_BINS = 24
MOST_NAMES = 12
"""Different values that are told apart by their names; of more, numbers are binned, and the rarest are put together."""
OTHERS = "others"
TAIL = 0.01
"""Of the records at either end that are put into the outermost bins: a single one would squeeze all others."""


def with_histograms(finding: DriftResult, before: Explained, now: Explained) -> DriftResult:
    """Return a finding whose surest and largest movers bear the distributions of attributions and values.

    Args:
        finding: what was found.
        before: the reference's records.
        now: the live ones.
    """
    labels = tuple(_drawn(label, finding.significance, before, now) for label in finding.labels)
    return replace(finding, labels=labels)


def _drawn(label: LabelResult, significance: float, before: Explained, now: Explained) -> LabelResult:
    first = sorted(label.top_changes, key=lambda feature: feature.p > significance)[:MOST_FEATURES]
    wanted = {feature.name for feature in first}

    def drawn(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in wanted:
            return feature
        phi = [
            side.phi_NDL[:, side.names.index(feature.name), side.labels.index(name)]
            for side, name in ((before.attributions, label.reference_label), (now.attributions, label.label))
        ]
        is_group = feature.name not in now.features.columns
        own = None if is_group else values(before.features[feature.name], now.features[feature.name])
        return replace(feature, attributions=numbers(*phi), values=own)

    return replace(label, features=tuple(map(drawn, label.features)))


def values(before: pl.Series, now: pl.Series) -> Histogram | None:
    """Return the distributions of a feature's own values, None where there are none."""
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return None
    numeric = are_numbers(before, now)
    if numeric and len({*before.unique().to_list(), *now.unique().to_list()}) > MOST_NAMES:
        return numbers(*(side.cast(pl.Float64).to_numpy() for side in (before, now)))
    return _categories(before, now, numeric)


def _categories(before: pl.Series, now: pl.Series, numeric: bool) -> Histogram:
    """Return how frequent each value is; numbers in their order, others by their frequency in the reference."""
    counts = [counted(side) for side in (before, now)]
    total = counts[0] + counts[1]
    ranked = sorted(total, key=lambda value: (-counts[0][value], -counts[1][value], str(value)))
    kept = ranked if len(ranked) <= MOST_NAMES else ranked[: MOST_NAMES - 1]
    named = sorted(kept) if numeric else kept
    shares = [[count[value] / count.total() for value in named] for count in counts]
    names = [snippet(value) if isinstance(value, str) else shown(value) for value in named]
    if len(kept) < len(ranked):
        names.append(OTHERS)
        shares = [[*side, max(0.0, 1.0 - sum(side))] for side in shares]
    return Histogram((), tuple(names), tuple(shares[0]), tuple(shares[1]))


def numbers(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> Histogram:
    """Return the distributions of numbers over bins of equal width; what lies beyond counts in the outermost ones."""
    pooled_K = np.concatenate([before_N, now_M])
    low, high = np.quantile(pooled_K, [TAIL, 1 - TAIL])
    if low == high:
        low, high = pooled_K.min(), pooled_K.max()
    inside_K = pooled_K[(pooled_K >= low) & (pooled_K <= high)]
    bins = min(MOST_BINS, len(np.histogram_bin_edges(inside_K, "sturges")) - 1)
    edges = np.linspace(low, high, bins + 1) if low < high else np.array([low - 0.5, high + 0.5])
    shares = [np.histogram(side.clip(edges[0], edges[-1]), edges)[0] / len(side) for side in (before_N, now_M)]
    return Histogram(tuple(edges.tolist()), (), *(tuple(side.tolist()) for side in shares))
