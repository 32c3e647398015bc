"""Why a feature's attributions have changed: what has probably happened to its own values.

A suspicion is told when it makes the live values look like the reference's again: shifted by one, in another unit, with
the opposite sign, with two codes swapped. Everything else that can be seen in the values alone is told as it is.

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

SURE = 0.01
"""The level at which the values themselves count as changed."""
NOTABLE = 0.1
"""The share of the records from which missing or unseen values are told."""
RESTORED = 1 / 3
"""A suspicion has to bring the distance below what chance does, or down to this part of what it was."""
ALIKE = 1 / 4
"""Suspicions closer than this part of what chance does cannot be told apart: the simplest is told."""
MOST_CODES = 50
"""A feature with no more different values is taken for one of codes."""
MOST_TOLD = 10
"""Features that are looked at, those that have changed most surely."""
UNITS = (10.0, 100.0, 1000.0, 12.0, 60.0, 24.0, 7.0, 365.25, 3600.0, 2.54, 1.609344, 0.45359237, 1e6)
"""Ratios between units: decimal prefixes, months, minutes, hours, days, inches, miles, pounds."""
SAME = "its own values are as before"


def with_causes(
    finding: DriftResult,
    before: pl.DataFrame,
    now: pl.DataFrame,
    parts: Sequence[Segment] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> DriftResult:
    """Return a finding whose surely changed features say what has probably happened to them.

    Args:
        finding: what was found.
        before: the inputs of the reference's records.
        now: those of the live ones.
        parts: the records of the finding's segments.
        groups: the features that are explained as one, by the name they have then.
    """
    told = partial(_told, finding, groups or {})
    segments = [
        replace(segment, labels=told(segment.labels, before[part.reference_N], now[part.live_M]))
        for segment, part in zip(finding.segments, parts, strict=True)
    ]
    return replace(finding, labels=told(finding.labels, before, now), segments=tuple(segments))


def _told(
    finding: DriftResult,
    groups: Mapping[str, Sequence[str]],
    labels: Sequence[LabelResult],
    before: pl.DataFrame,
    now: pl.DataFrame,
) -> tuple[LabelResult, ...]:
    """Return labels whose features, those that have changed most surely, bear a cause."""
    causes: dict[str, str] = {}

    def cause(feature: FeatureDrift) -> FeatureDrift:
        if feature.name not in causes:
            members = list(groups.get(feature.name, [feature.name]))
            causes[feature.name] = _among(members, before, now) or _elsewhere(finding.canary)
        return replace(feature, cause=causes[feature.name])

    bearing = []
    for label in labels:
        sure = sorted(label.features, key=lambda feature: (feature.p, -feature.distance))[:MOST_TOLD]
        wanted = {feature.name for feature in sure if feature.p <= finding.significance}
        features = tuple(cause(feature) if feature.name in wanted else feature for feature in label.features)
        bearing.append(replace(label, features=features))
    return tuple(bearing)


def _elsewhere(canary: Canary | None) -> str:
    """Return where a change comes from that is not in a feature's own values."""
    if canary is None:
        return f"{SAME}; what they are worth has changed, through the model or through other features"
    if canary.changed:
        return f"{SAME}; the model, which has changed, values them differently"
    return f"{SAME}, and so is the model; what they are worth has changed through other features"


def _among(members: Sequence[str], before: pl.DataFrame, now: pl.DataFrame) -> str | None:
    """Return what has probably happened to a feature, or to the one of several whose values have moved most."""
    if len(members) == 1:
        return likely_cause(before[members[0]], now[members[0]])
    most = max(members, key=lambda name: _moved(before[name], now[name]))
    found = likely_cause(before[most], now[most])
    return found and f"of its features {most} has changed most: {found}"


def likely_cause(before: pl.Series, now: pl.Series) -> str | None:
    """Return what has probably happened to the values of a feature, without a full stop; None for nothing."""
    missing = now.null_count() / len(now), before.null_count() / len(before)
    if missing[0] - missing[1] >= NOTABLE:
        return f"it is missing in {missing[0]:.0%} of the records, before in {missing[1]:.0%}"
    before, now = before.drop_nulls(), now.drop_nulls()
    if now.is_empty() or before.is_empty():
        return None
    if now.n_unique() == 1 < before.n_unique():
        return f"it is always {shown(now[0])}, and had {before.n_unique():,} different values"
    return _of_numbers(before, now) if are_numbers(before, now) else _of_codes(before, now)


def are_numbers(before: pl.Series, now: pl.Series) -> bool:
    """Return whether a feature holds numbers on both sides."""
    return before.dtype.is_numeric() and now.dtype.is_numeric()


def _of_numbers(before: pl.Series, now: pl.Series) -> str | None:
    before_N, now_M = (values.cast(pl.Float64).to_numpy() for values in (before, now))
    chance = critical(len(before_N), len(now_M), SURE)
    apart = _apart(before_N, now_M)
    if apart <= chance:
        return None
    suspicions = [(_apart(before_N, restored_M), told) for restored_M, told in _suspicions(before_N, now_M)]
    closest = min(left for left, _ in suspicions)
    if closest <= max(chance, apart * RESTORED) and closest < apart:
        return next(told for left, told in suspicions if left <= closest + chance * ALIKE)
    if before.n_unique() <= MOST_CODES and (unseen := _of_codes(before, now)):
        return unseen
    return f"its own values have changed: the median is {np.median(now_M):.4g}, and was {np.median(before_N):.4g}"


def _suspicions(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Yield what the live values would be if something were undone, and what that is; the simplest first."""
    if (now_M == now_M.round()).all():
        yield now_M + 1, "it is one lower than before, as from another label encoding"
        yield now_M - 1, "it is one higher than before, as from another label encoding"
    codes = np.unique(before_N)
    if len(codes) == 2 and np.isin(now_M, codes).all():
        yield codes.sum() - now_M, f"its codes {shown(codes[0])} and {shown(codes[1])} are probably swapped"
    yield -now_M, "it has the opposite sign"
    for ratio in UNITS:
        part = f"1/{ratio:g} of" if ratio == round(ratio) else f"{1 / ratio:.4g} times"
        yield now_M * ratio, f"it is {part} what it was, as in another unit"
        yield now_M / ratio, f"it is {ratio:.4g} times what it was, as in another unit"


def _of_codes(before: pl.Series, now: pl.Series) -> str | None:
    """Return which values were never seen before, or which has become more frequent; None where nothing stands out."""
    had, has = (_named(counted(values)) for values in (before, now))
    unseen = Counter({value: count for value, count in has.items() if value not in had})
    if unseen.total() >= NOTABLE * has.total():
        example = min(unseen, key=lambda value: (-unseen[value], value))
        part = unseen.total() / has.total()
        return f"it has values never seen before in {part:.0%} of the records, such as {example}"
    then = {value: had[value] / had.total() for value in has}
    share = {value: count / has.total() for value, count in has.items()}
    grown = min(has, key=lambda value: (then[value] - share[value], value))
    if share[grown] - then[grown] < NOTABLE:
        return None
    return f"it is {grown} in {share[grown]:.0%} of the records, before in {then[grown]:.0%}"


def _apart(before_N: NDArray[np.float64], now_M: NDArray[np.float64]) -> float:
    return float(distance(before_N[:, None], now_M[:, None])[0])


def _moved(before: pl.Series, now: pl.Series) -> float:
    """Return how far the values of a feature have moved, from 0 to 1: in their order, from one to another, or away."""
    missing = abs(now.null_count() / len(now) - before.null_count() / len(before))
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return missing
    if are_numbers(before, now):
        return max(missing, _apart(*(values.cast(pl.Float64).to_numpy() for values in (before, now))))
    had, has = (_named(counted(values)) for values in (before, now))
    return max(missing, sum(abs(has[value] / len(now) - had[value] / len(before)) for value in {*had, *has}) / 2)


def _named(counts: Counter[Any]) -> Counter[str]:
    """Return how often there is what is told in the same words."""
    named: Counter[str] = Counter()
    for value, count in counts.items():
        named[shown(value)] += count
    return named


def counted(values: pl.Series) -> Counter[Any]:
    """Return how often each value occurs.

    >>> counted(pl.Series(["a", "b", "a"])).most_common()
    [('a', 2), ('b', 1)]
    """
    table = values.alias("value").value_counts(name="count")
    return Counter(dict(table.iter_rows()))


def shown(value: object) -> str:
    """Return a value as it is told.

    >>> shown(5.0), shown(0.25), shown("US")
    ('5', '0.25', "'US'")
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(snippet(value)) if isinstance(value, str) else snippet(value)
