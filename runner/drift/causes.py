"""Likely causes: what changed in the values of a feature whose attributions changed.

A transformation (shift by one, another unit, opposite sign, swapped codes) is reported as the cause if undoing it makes
the live values resemble the reference values. Other changes are described directly.

Array letters: N reference records, M live records.
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

from runner.domain.drift import Canary, DriftResult, FeatureDrift, LabelResult
from runner.drift.ks import critical, distance
from runner.drift.segments import Segment
from runner.errors import snippet

SIGNIFICANCE = 0.01
"""Significance level of the test whether the values changed."""
NOTABLE = 0.1
"""Share of records from which missing, unseen or more frequent values are reported."""
RESTORED = 1 / 3
"""A transformation is a cause if it reduces the distance to this part, or below the critical distance."""
ALIKE = 1 / 4
"""Part of the critical distance within which two transformations are equivalent; the simplest is reported."""
MOST_CODES = 50
"""Distinct values up to which a numeric feature may be a code."""
MOST_FEATURES = 10
"""Features of a label that get a cause at most, by ascending p-value."""
UNITS = (10.0, 100.0, 1000.0, 12.0, 60.0, 24.0, 7.0, 365.25, 3600.0, 2.54, 1.609344, 0.45359237, 1e6)
"""Ratios between units: decimal prefixes, months, minutes, hours, days, inches, miles, pounds."""
SAME = "its values are unchanged"


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
    """Return labels with causes for the features with the smallest p-values."""
    causes: dict[str, str] = {}

    def cause(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in causes:
            members = list(groups.get(feature.name, [feature.name]))
            causes[feature.name] = _cause_of(members, before, now) or _elsewhere(result.canary)
        return replace(feature, cause=causes[feature.name])

    explained = []
    for label in labels:
        candidates = sorted(label.features, key=lambda feature: (feature.p, -feature.distance))[:MOST_FEATURES]
        wanted = {feature.name for feature in candidates if feature.p <= result.significance}
        features = tuple(cause(feature) if feature.name in wanted else feature for feature in label.features)
        explained.append(replace(label, features=features))
    return tuple(explained)


def _elsewhere(canary: Canary | None) -> str:
    """Describe a change whose cause is not in the feature's own values."""
    if canary is None:
        return f"{SAME}; its attribution changed because the model or other features did"
    if canary.changed:
        return f"{SAME}; its attribution changed because the model did"
    return f"{SAME}, and so is the model; its attribution changed because other features did"


def _cause_of(members: Sequence[str], before: pl.DataFrame, now: pl.DataFrame) -> str | None:
    """Return the likely cause of a feature, or of the group member whose values changed most."""
    if len(members) == 1:
        return likely_cause(before[members[0]], now[members[0]])
    most = max(members, key=lambda name: _difference(before[name], now[name]))
    cause = likely_cause(before[most], now[most])
    return cause and f"of its features, {most} changed most: {cause}"


def likely_cause(before: pl.Series, now: pl.Series) -> str | None:
    """Describe the likely cause in the values of a feature, without a full stop; None if nothing changed."""
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
        yield now_M + 1, "one lower than in the reference (another label encoding?)"
        yield now_M - 1, "one higher than in the reference (another label encoding?)"
    codes = np.unique(before_N)
    if len(codes) == 2 and np.isin(now_M, codes).all():
        yield codes.sum() - now_M, f"codes {format_value(codes[0])} and {format_value(codes[1])} swapped"
    yield -now_M, "opposite sign"
    for ratio in UNITS:
        part = f"1/{ratio:g} of" if ratio == round(ratio) else f"{1 / ratio:.4g} times"
        yield now_M * ratio, f"{part} the reference values (another unit?)"
        yield now_M / ratio, f"{ratio:.4g} times the reference values (another unit?)"


def _categorical_cause(before: pl.Series, now: pl.Series) -> str | None:
    """Describe values that the reference lacks, or the value whose share grew most; None if neither is notable."""
    reference, live = (_by_name(value_counts(values)) for values in (before, now))
    unseen = Counter({value: count for value, count in live.items() if value not in reference})
    if unseen.total() >= NOTABLE * live.total():
        example = min(unseen, key=lambda value: (-unseen[value], value))
        part = unseen.total() / live.total()
        return f"values that the reference lacks in {part:.0%} of the records, such as {example}"
    expected = {value: reference[value] / reference.total() for value in live}
    share = {value: count / live.total() for value, count in live.items()}
    grown = min(live, key=lambda value: (expected[value] - share[value], value))
    if share[grown] - expected[grown] < NOTABLE:
        return None
    return f"{grown} in {share[grown]:.0%} of the records ({expected[grown]:.0%} in the reference)"


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
    """Return the counts of values with the same formatted name together."""
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
