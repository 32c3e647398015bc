"""Likely causes: changes in the values of a feature whose attributions changed, and histograms that show them.

A transformation (shift by one, another unit, opposite sign, swapped codes) is reported as the cause if undoing it makes
the live values resemble the reference values. Other changes are described directly.

Array letters: N reference records, M live records, K pooled records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import Canary, DriftResult, FeatureDrift, Histogram, LabelResult
from runner.drift.pairing import Segment
from runner.drift.significance import critical, distance
from runner.errors import snippet

SIGNIFICANCE = 0.01
"""Significance level of the test for changed values."""
NOTABLE = 0.1
"""Smallest reported increase of the share of missing, unseen or more frequent values."""
RESTORED = 1 / 3
"""Largest part of the distance that may remain after a cause is undone, if it exceeds the critical distance."""
ALIKE = 1 / 4
"""Part of the critical distance by which equally good transformations may differ; the simplest one is reported."""
MOST_CODES = 50
"""Maximum number of distinct values of a numeric feature that may be a code."""
MOST_CAUSES = 10
"""Maximum number of features of a label with a cause, by ascending p-value."""
UNITS = (10.0, 100.0, 1000.0, 12.0, 60.0, 24.0, 7.0, 365.25, 3600.0, 2.54, 1.609344, 0.45359237, 1e6)
"""Ratios between units: decimal prefixes, months, minutes, hours, days, inches, miles, pounds."""
SAME = "its values are unchanged"
MOST_HISTOGRAMS = 5
"""Maximum number of features of a label with histograms."""
MOST_BINS = 24
"""Maximum number of bins of a histogram of numbers."""
MOST_NAMES = 12
"""Maximum number of categories; with more distinct values, numbers are binned and rare categories are pooled."""
OTHERS = "others"
TAIL = 0.01
"""Share of records at each end that the outermost bins absorb, so that outliers do not compress the histogram."""


def with_causes(
    result: DriftResult,
    before: pl.DataFrame,
    now: pl.DataFrame,
    parts: Sequence[Segment] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> DriftResult:
    """Add likely causes to the features with significant changes.

    Args:
        result: result of the tests.
        before: inputs of the reference records.
        now: inputs of the live records.
        parts: records of the result's segments.
        groups: names of grouped features by the name of their group.
    """
    explained = partial(_with_causes, result, groups or {})
    segments = [
        replace(segment, labels=explained(segment.labels, before[part.reference_N], now[part.live_M]))
        for segment, part in zip(result.segments, parts, strict=True)
    ]
    return replace(result, labels=explained(result.labels, before, now), segments=tuple(segments))


def _with_causes(
    result: DriftResult,
    groups: Mapping[str, Sequence[str]],
    labels: Sequence[LabelResult],
    before: pl.DataFrame,
    now: pl.DataFrame,
) -> tuple[LabelResult, ...]:
    """Return the labels, with causes for the significant features with the smallest p-values."""
    causes: dict[str, str] = {}

    def cause(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in causes:
            members = list(groups.get(feature.name, [feature.name]))
            causes[feature.name] = _cause_of(members, before, now) or _elsewhere(result.canary)
        return replace(feature, cause=causes[feature.name])

    explained = []
    for label in labels:
        candidates = sorted(label.features, key=lambda feature: (feature.p, -feature.distance))[:MOST_CAUSES]
        wanted = {feature.name for feature in candidates if feature.p <= result.significance}
        features = tuple(cause(feature) if feature.name in wanted else feature for feature in label.features)
        explained.append(replace(label, features=features))
    return tuple(explained)


def _elsewhere(canary: Canary | None) -> str:
    """Describe a change whose cause is not in the feature's own values."""
    if canary is None:
        return f"{SAME}; its attribution changed because the model or other features changed"
    if canary.changed:
        return f"{SAME}; its attribution changed because the model changed"
    return "its values and the model are unchanged; its attribution changed because other features changed"


def _cause_of(members: Sequence[str], before: pl.DataFrame, now: pl.DataFrame) -> str | None:
    """Return the likely cause of a feature, or of the group member whose values changed most."""
    if len(members) == 1:
        return likely_cause(before[members[0]], now[members[0]])
    most = max(members, key=lambda name: _difference(before[name], now[name]))
    cause = likely_cause(before[most], now[most])
    return cause and f"its feature {most} changed most: {cause}"


def likely_cause(before: pl.Series, now: pl.Series) -> str | None:
    """Describe the likely cause in a feature's values, without a full stop; return None if they did not change."""
    missing = now.null_count() / len(now), before.null_count() / len(before)
    if missing[0] - missing[1] >= NOTABLE:
        return f"missing in {missing[0]:.0%} of the records ({missing[1]:.0%} in the reference)"
    before, now = before.drop_nulls(), now.drop_nulls()
    if now.is_empty() or before.is_empty():
        return None
    if now.n_unique() == 1 < before.n_unique():
        return f"always {format_value(now[0])} ({before.n_unique():,} distinct values in the reference)"
    return _numeric_cause(before, now) if are_numeric(before, now) else _categorical_cause(before, now)


def are_numeric(before: pl.Series, now: pl.Series) -> bool:
    """Return whether a feature is numeric on both sides."""
    return before.dtype.is_numeric() and now.dtype.is_numeric()


def _numeric_cause(before: pl.Series, now: pl.Series) -> str | None:
    before_N, now_M = (values.cast(pl.Float64).to_numpy() for values in (before, now))
    allowed = critical(len(before_N), len(now_M), SIGNIFICANCE)
    initial = _distance(before_N, now_M)
    if initial <= allowed:
        return None
    remaining = [(_distance(before_N, restored_M), cause) for restored_M, cause in _restored(before_N, now_M)]
    closest = min(left for left, _ in remaining)
    if closest <= max(allowed, initial * RESTORED) and closest < initial:
        return next(cause for left, cause in remaining if left <= closest + allowed * ALIKE)
    if before.n_unique() <= MOST_CODES and (categorical := _categorical_cause(before, now)):
        return categorical
    return f"median {np.median(now_M):.4g} ({np.median(before_N):.4g} in the reference)"


def _restored(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Yield the live values with a transformation undone, and the name of the transformation; the simplest first."""
    if (now_M == now_M.round()).all():
        yield now_M + 1, "values 1 lower than in the reference (another label encoding?)"
        yield now_M - 1, "values 1 higher than in the reference (another label encoding?)"
    codes = np.unique(before_N)
    if len(codes) == 2 and np.isin(now_M, codes).all():
        yield codes.sum() - now_M, f"codes {format_value(codes[0])} and {format_value(codes[1])} swapped"
    yield -now_M, "opposite sign"
    for ratio in UNITS:
        part = f"1/{ratio:g} of" if ratio == round(ratio) else f"{1 / ratio:.4g} times"
        yield now_M * ratio, f"{part} the reference values (another unit?)"
        yield now_M / ratio, f"{ratio:.4g} times the reference values (another unit?)"


def _categorical_cause(before: pl.Series, now: pl.Series) -> str | None:
    """Describe values that are not in the reference, or the value whose share grew most; None if neither is notable."""
    reference, live = (_by_name(value_counts(values)) for values in (before, now))
    unseen = Counter({value: count for value, count in live.items() if value not in reference})
    if unseen.total() >= NOTABLE * live.total():
        example = min(unseen, key=lambda value: (-unseen[value], value))
        part = unseen.total() / live.total()
        return f"{part:.0%} of the records have values that are not in the reference, such as {example}"
    expected = {value: reference[value] / reference.total() for value in live}
    share = {value: count / live.total() for value, count in live.items()}
    grown = min(live, key=lambda value: (expected[value] - share[value], value))
    if share[grown] - expected[grown] < NOTABLE:
        return None
    return f"{share[grown]:.0%} of the records have the value {grown} ({expected[grown]:.0%} in the reference)"


def _distance(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> float:
    return float(distance(before_N[:, None], now_M[:, None])[0])


def _difference(before: pl.Series, now: pl.Series) -> float:
    """Return the difference of two distributions in [0, 1].

    It is the Kolmogorov-Smirnov distance of numbers, the total variation distance of categories, or the change of the
    share of missing values if that is larger.
    """
    missing = abs(now.null_count() / len(now) - before.null_count() / len(before))
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return missing
    if are_numeric(before, now):
        return max(missing, _distance(*(values.cast(pl.Float64).to_numpy() for values in (before, now))))
    reference, live = (_by_name(value_counts(values)) for values in (before, now))
    names = {*reference, *live}
    return max(missing, sum(abs(live[name] / len(now) - reference[name] / len(before)) for name in names) / 2)


def _by_name(counts: Counter[Any]) -> Counter[str]:
    """Return counts by formatted value; counts of values with the same format are added."""
    named: Counter[str] = Counter()
    for value, count in counts.items():
        named[format_value(value)] += count
    return named


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
    """Add histograms to the features with the largest changes, significant ones first.

    Args:
        result: result of the tests.
        before: reference records.
        now: live records.
    """
    labels = tuple(_with_histograms(label, result.significance, before, now) for label in result.labels)
    return replace(result, labels=labels)


def _with_histograms(label: LabelResult, significance: float, before: Explained, now: Explained) -> LabelResult:
    first = sorted(label.top_changes, key=lambda feature: feature.p > significance)[:MOST_HISTOGRAMS]
    wanted = {feature.name for feature in first}

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
    if numeric and len({*before.unique().to_list(), *now.unique().to_list()}) > MOST_NAMES:
        return numbers_histogram(*(side.cast(pl.Float64).to_numpy() for side in (before, now)))
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


def numbers_histogram(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> Histogram:
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
