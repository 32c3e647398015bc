"""Pairing: reference and live local attributions matched by the names of features and labels, and their segments.

Array letters: N reference records, M live records, D features.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.domain.numbers import plural
from runner.drift.ranking import match_features, match_labels
from runner.errors import SegmentError

MAX_SEGMENTS = 10
"""Maximum number of segments for single values; all rarer values form the segment `all others`."""
MAX_CHARACTERS = 2_000
"""Maximum number of characters of an expression."""
QUARTERS = (0.25, 0.5, 0.75)
"""Quantiles of the reference that divide numbers with more than `MAX_SEGMENTS` distinct values."""
MISSING, REST = RESERVED = "missing", "all others"
"""Names of segments without a value of their own."""

Key = float | int | str | None
"""Value of a segment; None for a missing value."""


@dataclass(frozen=True)
class Segment:
    """A named part of the records: indices into the reference records and the live records, ascending."""

    name: str
    reference_N: NDArray[np.intp]
    live_M: NDArray[np.intp]

    @property
    def smaller(self) -> int:
        """Number of records on the smaller side."""
        return min(len(self.reference_N), len(self.live_M))


def segments(by: str, before: pl.DataFrame, now: pl.DataFrame, min_rows: int) -> tuple[Segment, ...]:
    """Divide records by the value of a feature or an expression, in the order of the values.

    Values with fewer than `min_rows` records on one side are pooled, and so are the rarest values if there are more
    than `MAX_SEGMENTS`. The pooled segment comes last and may still be too small. If every value would be pooled, there
    are no segments.

    Args:
        by: name of a feature, or a SQL expression over features.
        before: inputs of the reference records.
        now: inputs of the live records.
        min_rows: minimum number of records of a segment on each side.

    Raises:
        SegmentError: if `by` is not a feature or valid expression, or does not have one value for each record.
    """
    names, before_N, now_M = _named(record_values(by, before), record_values(by, now))
    smaller = np.minimum(*(np.bincount(side, minlength=len(names)) for side in (before_N, now_M)))
    largest = sorted(range(len(names)), key=lambda i: -smaller[i])[:MAX_SEGMENTS]
    own = sorted(i for i in largest if smaller[i] >= min_rows)
    parts = [Segment(f"{by}: {names[i]}", np.flatnonzero(before_N == i), np.flatnonzero(now_M == i)) for i in own]
    if not parts:
        return ()
    others = [np.flatnonzero(~np.isin(side, own)) for side in (before_N, now_M)]
    return (*parts, Segment(f"{by}: {REST}", *others)) if any(map(len, others)) else tuple(parts)


def record_values(by: str, features: pl.DataFrame, setting: str = "drift.segment_by") -> pl.Series:
    """Return the value of a feature, or of a SQL expression over features, for each record.

    Args:
        by: name of a feature, or a SQL expression.
        features: inputs of the records.
        setting: name of the setting, for messages.

    Raises:
        SegmentError: if `by` is not a feature or valid expression, or does not have one value for each record.
    """
    if by in features.columns:
        return features[by]
    if len(by) > MAX_CHARACTERS:  # the time to parse grows with the cube of the length, and the parser may crash
        problem = f"the expression has {len(by):,} characters; at most {MAX_CHARACTERS:,} are supported"
        raise SegmentError(by, problem, setting)
    try:
        values = features.select(pl.sql_expr(by).alias("value"))["value"]
    except pl.exceptions.PolarsError as error:
        raise SegmentError(by, str(error).splitlines()[0], setting) from error
    if len(values) != features.height:
        counts = f"{plural(len(values), 'value')} for {plural(features.height, 'record')}"
        raise SegmentError(by, f"the expression has {counts}", setting)
    return values


def _named(before: pl.Series, now: pl.Series) -> tuple[list[str], NDArray[np.intp], NDArray[np.intp]]:
    """Return the distinct segment names in order, and the index of the segment of each record.

    Numbers with many distinct values are divided at the quartiles of the reference.
    """
    numbers = before.dtype.is_numeric() and now.dtype.is_numeric()
    if numbers and before.n_unique() > MAX_SEGMENTS:
        cuts = np.unique([before.quantile(quarter, "lower") for quarter in QUARTERS]).astype(np.float64)
        shown = _distinct(cuts.tolist(), [f"{cut:g}" for cut in cuts])
        between = [f"above {low} to {high}" for low, high in pairwise(shown)]
        names = [f"up to {shown[0]}", *between, f"above {shown[-1]}", MISSING]
        return names, _binned(before, cuts), _binned(now, cuts)
    before_keys, now_keys = _keys(before, numbers), _keys(now, numbers)
    keys = list({*before_keys, *now_keys})
    shown = [MISSING if key is None else f"{key:.15g}" if numbers else str(key) for key in keys]
    named = sorted(zip(_distinct(keys, shown), keys, strict=True), key=lambda pair: _in_order(pair[0]))
    index = {key: i for i, (_, key) in enumerate(named)}
    before_N, now_M = (np.array([index[key] for key in side], dtype=np.intp) for side in (before_keys, now_keys))
    return [name for name, _ in named], before_N, now_M


def _keys(values: pl.Series, numbers: bool) -> list[Key]:
    """Return a key for each value, equal for equal values; None for a missing value.

    Numbers are their own keys, so that equal integers and floats have equal keys.
    """
    keys = {value: value if numbers else str(value) for value in values.unique().drop_nulls().to_list()}
    return [keys.get(value) for value in values.to_list()]


def _distinct(keys: Sequence[Key], names: Sequence[str]) -> list[str]:
    """Return the names of keys; a name that is not unique, or reserved, is replaced by the key's exact value."""
    counts = Counter([*names, *RESERVED])
    exact = [name if key is None or counts[name] == 1 else repr(key) for key, name in zip(keys, names, strict=True)]
    repeated = Counter(exact)
    return [f"{name} ({key!r})" if repeated[name] > 1 else name for key, name in zip(keys, exact, strict=True)]


def _in_order(name: str) -> tuple[bool, float, str]:
    """Return a sort key: numbers by value, then strings."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (True, 0.0, name) if math.isnan(number) else (False, number, name)


def _binned(values: pl.Series, cuts: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of the interval between two cuts for each value; missing values come last."""
    index = np.searchsorted(cuts, values.cast(pl.Float64).fill_null(0.0).to_numpy(), side="left")
    return np.where(values.is_null().to_numpy(), len(cuts) + 1, index)


@dataclass(frozen=True)
class Pairing:
    """Reference and live attributions by label, with features in the same order.

    Attributes:
        names: features, in the live order.
        labels: pairs of a live label and its reference label.
        before, now: local attributions_ND and attributions_MD of each label.
        agg_method: aggregation of local attributions into global ones.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    before: tuple[NDArray[np.float64], ...]
    now: tuple[NDArray[np.float64], ...]
    agg_method: str

    def part(self, segment: Segment) -> Pairing:
        """Return the pairing restricted to a segment."""
        return replace(
            self,
            before=tuple(phi_ND[segment.reference_N] for phi_ND in self.before),
            now=tuple(phi_MD[segment.live_M] for phi_MD in self.now),
        )

    @property
    def tests(self) -> int:
        """Number of hypothesis tests: features times labels."""
        return len(self.names) * len(self.labels)


def pair(reference: Attributions, live: Attributions, agg_method: str) -> Pairing:
    """Match both sides; labels without a counterpart are left out.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
    """
    match_features(reference.names, live.names)
    labels = match_labels(reference.labels, live.labels)
    before, now = _local(reference, live.names, tuple(labels.values())), _local(live, live.names, tuple(labels))
    return Pairing(live.names, tuple(labels.items()), before, now, agg_method)


def _local(
    attributions: Attributions, names: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[NDArray[np.float64], ...]:
    columns = [attributions.names.index(name) for name in names]
    phi_NDL = attributions.phi_NDL if columns == [*range(len(columns))] else attributions.phi_NDL[:, columns]
    return tuple(phi_NDL[:, :, attributions.labels.index(label)] for label in labels)
