"""Likely causes: hypotheses about what happened to the values of a feature, with the evidence for them.

A hypothesis, such as another unit or clipped values, is a transformation of the reference values. It is stated only if
the transformed reference values and the live values may come from one distribution. A factor or a difference is stated
with the interval of values for which this holds. Changes that no hypothesis explains are described.

Array letters: N reference records, M live records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from runner.domain.drift import DriftResult, FeatureDrift, InputResult, LabelResult, Level
from runner.drift.changed_categories import (
    CLEAR,
    MOST_NAMES,
    NOTABLE,
    PLAUSIBLE,
    SIGNIFICANCE,
    ChangedCategories,
    truth,
)
from runner.drift.changed_columns import DISTINCT, copied, gap, swapped
from runner.drift.changed_numbers import HALF, ChangedNumbers, Likely, ks_distance
from runner.drift.counts import hypergeometric
from runner.drift.histograms import format_value
from runner.drift.inputs import are_numeric
from runner.drift.joint import exchanged_values, order_of
from runner.drift.pairing import Segment

MOST_CAUSES = 10
"""Maximum number of features with a cause, by ascending p-value."""
SAME = "its values are unchanged"
REVERSED = "in reverse order: its correlations with the other features have the opposite sign"


def with_causes(
    result: DriftResult,
    before: pl.DataFrame,
    now: pl.DataFrame,
    parts: Sequence[Segment] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> DriftResult:
    """Add likely causes to the significant changes of inputs and of attributions.

    Args:
        result: result of the tests.
        before: inputs of the reference records.
        now: inputs of the live records.
        parts: records of the result's segments.
        groups: names of grouped features by the name of their group.
    """
    changed = sorted((each for each in result.inputs if each.p <= result.significance), key=lambda each: each.p)
    described = changed[:MOST_CAUSES]
    names = [each.name for each in described]
    named = {each.name: _described(each, before, now) for each in described}
    named |= copied(names, before, now) | swapped(names, before, now)
    result = _with_exchanged(result, before, now)
    if result.association and result.association.reversed:
        opposite = result.association.reversed
        if not _is_mirrored(before[opposite], now[opposite]):
            result = replace(result, association=replace(result.association, reversed=""))
        elif opposite in named and not re.search("sign|minus|swapped", named[opposite].text):
            named[opposite] = Likely(REVERSED, 1.0)
    inputs = tuple(
        replace(each, cause=named[each.name].text, altered=named[each.name].altered) if each.name in named else each
        for each in result.inputs
    )
    unchanged = {each.name for each in result.inputs} - {each.name for each in changed}
    explained = _Attributed(result, groups or {}, named, unchanged)
    segments = [
        replace(segment, labels=explained.labels(segment.labels, before[part.reference_N], now[part.live_M]))
        for segment, part in zip(result.segments, parts, strict=True)
    ]
    labels = explained.labels(result.labels, before, now)
    return replace(result, inputs=inputs, labels=labels, segments=tuple(segments))


def _with_exchanged(result: DriftResult, before: pl.DataFrame, now: pl.DataFrame) -> DriftResult:
    """Add the values whose exchange explains the changed association of two features."""
    found = result.association
    if found is None or found.level is Level.NONE or found.reversed:
        return result
    for name, partner in ((found.first, found.second), (found.second, found.first)):
        if are_numeric(before[partner], now[partner]) and (pair := exchanged_values(name, partner, before, now)):
            return replace(result, association=replace(found, exchanged=(name, *pair)))
    return result


def _is_mirrored(before: pl.Series, now: pl.Series) -> bool:
    """Return whether a constant minus the reference values is distributed like the live values."""
    before, now = (side.drop_nulls() for side in (before, now))
    if before.dtype == now.dtype == pl.Boolean:
        before, now = before.cast(pl.Int64), now.cast(pl.Int64)
    if not are_numeric(before, now) or before.is_empty() or now.is_empty():
        return False
    sides = ChangedNumbers.of(before, now)
    constant = sides.before_N[0] + sides.now_M[-1] if sides.codes is not None else np.median(before) + np.median(now)
    return sides.fits(constant - sides.before_N[::-1])


def _described(found: InputResult, before: pl.DataFrame, now: pl.DataFrame) -> Likely:
    """Describe a significant change of a feature's values."""
    cause = _cause_of(found.name, before, now)
    return cause or Likely(f"its values changed in at least {found.size:.0%} of the records")


@dataclass(frozen=True)
class _Attributed:
    """Causes of changed attributions.

    Attributes:
        result: result of the tests.
        groups: names of grouped features by the name of their group.
        inputs: causes of the features whose values changed.
        unchanged: features whose values did not change significantly.
    """

    result: DriftResult
    groups: Mapping[str, Sequence[str]]
    inputs: Mapping[str, Likely]
    unchanged: set[str]

    def labels(self, labels: Sequence[LabelResult], before: pl.DataFrame, now: pl.DataFrame) -> tuple[LabelResult, ...]:
        """Return the labels, with causes for the significant features with the smallest p-values."""
        causes: dict[str, str] = {}
        explained = []
        for label in labels:
            candidates = sorted(label.features, key=lambda feature: (feature.p, -feature.distance))[:MOST_CAUSES]
            wanted = [feature for feature in candidates if feature.p <= self.result.significance]
            causes |= {each.name: self._cause(each, before, now) for each in wanted if each.name not in causes}
            named = {each.name: causes[each.name] for each in wanted}
            features = tuple(replace(each, cause=named.get(each.name)) for each in label.features)
            explained.append(replace(label, features=features))
        return tuple(explained)

    def _cause(self, feature: FeatureDrift, before: pl.DataFrame, now: pl.DataFrame) -> str:
        is_whole = len(before) == self.result.rows_reference
        if feature.name in self.inputs and is_whole:
            return self.inputs[feature.name].text
        if is_whole and (related := _by_association(feature.name, self.result)):
            return related
        members = [name for name in self.groups.get(feature.name, [feature.name]) if name in now.columns]
        tested = [name for name in members if not is_whole or name not in self.unchanged]
        changed = {name: cause.text for name in tested if (cause := _cause_of(name, before, now))}
        if feature.name in changed:
            return changed[feature.name]
        if changed:
            most = max(changed, key=lambda name: _difference(before[name], now[name]))
            return f"its feature {most} changed most: {changed[most]}"
        moved = [] if set(members) <= self.unchanged else ["no change of its values is significant"]
        if is_whole and not moved:
            possible = [text for name in members if (text := _insignificant(before[name], now[name]))]
            if possible:
                return possible[0]
        return f"{moved[0] if moved else SAME}; its attribution changed because {_elsewhere(self.result)}"


def _by_association(name: str, result: DriftResult) -> str | None:
    """Return the cause that the changed association of a feature shows, although its values have one distribution."""
    found = result.association
    if found and name == found.reversed:
        return REVERSED
    return found.hypothesis if found and found.exchanged[:1] == (name,) else None


def _insignificant(before: pl.Series, now: pl.Series) -> str | None:
    """Describe a change of values that is clear by itself, but not among the tests of all features."""
    change = _missing(before, now, SIGNIFICANCE)
    before, now = before.drop_nulls(), now.drop_nulls()
    if change is None and not before.is_empty() and not now.is_empty():
        numbers = ChangedNumbers.of(before, now) if are_numeric(before, now) else None
        if numbers is None or numbers.codes is not None:
            shares = ChangedCategories.of(before, now)
            change = (shares.exchanged() or shares.largest()) if shares.p(shares.now) < PLAUSIBLE else None
        if numbers is not None and change is None and not numbers.fits(numbers.before_N):
            change = numbers.quantiles()
    return f"a possible change of its values is not significant: {change}" if change else None


def _missing(before: pl.Series, now: pl.Series, level: float) -> str | None:
    """Describe a change of the share of missing values that is significant at a level; None without one."""
    nulls = before.null_count(), now.null_count()
    if hypergeometric(nulls[1], sum(nulls), len(now), len(before) + len(now)) >= level:
        return None
    usual = f"{nulls[0] / len(before):.0%} in the reference"
    return (
        f"missing in {nulls[1] / len(now):.0%} of the records ({usual})" if nulls[1] else f"no longer missing ({usual})"
    )


def _elsewhere(result: DriftResult) -> str:
    """Name the cause of a change that is not in the feature's own values."""
    if result.canary is None:
        return "the model or other features changed"
    if result.canary.changed:
        return "the model changed"
    if all(each.p > result.significance for each in result.inputs) and not result.joint_change:
        return "the model changed for inputs like those of no canary record, or other features changed"
    return "other features changed"


def _cause_of(name: str, before: pl.DataFrame, now: pl.DataFrame) -> Likely | None:
    """Return the likely cause in a feature's values; None if no change is clear."""
    return likely_cause(before[name], now[name], partial(order_of, name, before, now))


def likely_cause(before: pl.Series, now: pl.Series, order: Callable[[], int] = lambda: 0) -> Likely | None:
    """Return the likely cause in a feature's values; None if no change is clear.

    Args:
        before: values of the reference.
        now: values of the window.
        order: returns 1 if the records have the same order by this feature as before, -1 if it is reversed, and 0 if
            this is unknown.
    """
    difference = now.null_count() / len(now) - before.null_count() / len(before)
    missing = _missing(before, now, CLEAR)
    sides = before.drop_nulls(), now.drop_nulls()
    if missing is None or abs(difference) < NOTABLE:
        return _cause_of_known(*sides, order)
    value = _replacing(before, now) if difference < 0 else None
    if value is not None:
        shares = [float((side == value).sum()) / len(side) for side in (before, now)]
        figures = f"{shares[1]:.0%} of the records" + (f" ({shares[0]:.0%} in the reference)" if shares[0] else "")
        missing = f"{missing}; {format_value(value)} in {figures}: missing values replaced?"
        sides = sides[0].filter(sides[0] != value), sides[1].filter(sides[1] != value)
    size = gap(*sides) if all(map(len, sides)) else 0.0
    other = _cause_of_known(*sides, order) if size >= DISTINCT else None
    if other is None:
        return Likely(missing)
    first, second = (
        (other.text, missing) if size * len(sides[1]) > abs(difference) * len(now) else (missing, other.text)
    )
    return Likely(f"{first} Also {second}" if first.endswith("?") else f"{first}; also {second}")


def _replacing(before: pl.Series, now: pl.Series) -> Any:
    """Return the value that may replace missing values: its share grew by theirs; None if there is none."""
    if before.dtype != now.dtype and not are_numeric(before, now):
        return None
    counts = now.drop_nulls().alias("value").value_counts(name="count").sort("count", "value", descending=[True, False])
    lost = before.null_count() / len(before) - now.null_count() / len(now)
    grown = {
        value: count / len(now) - float((before == value).sum()) / len(before)
        for value, count in counts.head(MOST_NAMES).iter_rows()
    }
    value = max(grown, key=lambda value: grown[value], default=None)
    return value if value is not None and HALF * lost <= grown[value] <= lost / HALF else None


def _cause_of_known(before: pl.Series, now: pl.Series, order: Callable[[], int]) -> Likely | None:
    """Return the likely cause in values that are not missing."""
    if now.is_empty() or before.is_empty():
        return None
    if now.n_unique() == 1 < before.n_unique():
        return Likely(f"always {format_value(now[0])} ({before.n_unique():,} distinct values in the reference)")
    if are_numeric(before, now):
        with np.errstate(all="ignore"):  # the largest and smallest numbers have infinite factors, which do not fit
            return ChangedNumbers.of(before, now).cause(order)
    cause = _retyped(before, now) or (_text_for_numbers(now) if before.dtype.is_numeric() else None)
    cause = cause or ChangedCategories.of(before, now).cause()
    return Likely(cause) if cause else None


def _retyped(before: pl.Series, now: pl.Series) -> str | None:
    """Describe truth values of another type, such as strings instead of booleans; None if there are others."""
    kinds = [
        "booleans" if side.dtype == pl.Boolean else "strings" if side.dtype == pl.String else "numbers"
        for side in (before, now)
    ]
    if "booleans" not in kinds or kinds[0] == kinds[1]:
        return None
    values = [format_value(value) for side in (before, now) for value in side.unique().to_list()]
    if not {truth(value.strip("'")) for value in values} <= {"0", "1"}:
        return None
    return f"{kinds[1]} instead of {kinds[0]}, such as {format_value(now[0])}"


def _text_for_numbers(now: pl.Series) -> str:
    """Describe strings that replace numbers."""
    example = format_value(now[0])
    comma = now.cast(pl.String).str.contains(r"^\s*[-+]?\d+,\d+\s*$").mean() or 0.0
    return f"numbers as strings{' with a decimal comma' if float(str(comma)) >= NOTABLE else ''}, such as {example}"


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
        return max(missing, ks_distance(*(values.cast(pl.Float64).to_numpy() for values in (before, now))))
    shares = ChangedCategories.of(before, now)
    return max(missing, sum(abs(shares.change(name)) for name in {*shares.before, *shares.now}) / 2)
