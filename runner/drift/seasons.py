"""Daily and weekly cycles: recognized in the records of the reference, whose same hours a window is compared with.

The test of a cycle compares the mean of each hour of the day, or week, over several days. Its null distribution rotates
the hours within each day, or permutes whole days. Hours and days that differ at random are thus no cycle.

Array letters: N records, K days, C columns, P positions in the cycle (hours).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import Season
from runner.domain.numbers import plural
from runner.drift.policy import DriftPolicy

DAY, WEEK = 24, 168
PERIODS: Mapping[Literal["day", "week"], int] = {"week": WEEK, "day": DAY}
"""Lengths of the cycles in hours, the longest first."""
MIN_DAYS = {DAY: 4, WEEK: 14}
"""Minimum number of days with records from which a cycle is recognized."""
MIN_REPEATS = 2
"""Minimum number of days, or weeks, from which the records of an hour come."""
PERMUTATIONS = 199
LEVEL = 0.01
"""Significance level of the test of each cycle."""
SMALLEST_CYCLE = 0.03
"""Smallest deviation of an hour's mean, in standard deviations, that is a cycle; smaller ones raise no false alarms."""
MOST_ROWS = 200_000
"""Maximum number of records in the test of a cycle, drawn at random."""
MOST_COLUMNS = 200
"""Maximum number of columns in the test: scores, values, categories and missing values."""
MOST_CATEGORIES = 4
"""Maximum number of categories of a feature, the most frequent ones."""
DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
MONDAY = 72
"""Hours from a Monday to the first hour of 1970, a Thursday."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class SameHours:
    """Records of the reference in the hours of a window.

    Attributes:
        records: the records.
        season: the hours; None for all hours.
        notes: what the window is compared with; empty for a reference without a cycle.
    """

    records: Explained
    season: Season | None
    notes: list[str]


def hours_of(at: pl.Series) -> NDArray[np.int64]:
    """Return the number of hours since the first Monday at or before 1970."""
    hours: NDArray[np.int64] = at.dt.epoch("s").to_numpy() // 3600 + MONDAY
    return hours


def cycle(explained: Explained, seed: int) -> int:
    """Return the length of the longest cycle of records with times: `DAY`, `WEEK`, or 0 for none."""
    events = explained.events
    if events is None or events["at"].null_count() or events["at"].is_empty():
        return 0
    rng = np.random.default_rng(seed)
    N = len(events)
    rows = np.arange(N) if N <= MOST_ROWS else np.sort(rng.choice(N, MOST_ROWS, replace=False, shuffle=False))
    hour_N = hours_of(events["at"][rows])
    day_N = hour_N // DAY - hour_N.min() // DAY
    K = int(day_N.max()) + 1
    cell_N = day_N * DAY + hour_N % DAY
    counts_KP = np.bincount(cell_N, minlength=K * DAY).reshape(K, DAY).astype(np.float64)
    sums = [
        np.bincount(cell_N, column_N, K * DAY).reshape(K, DAY)
        for column_N in islice(_columns(explained.rows(rows)), MOST_COLUMNS)
    ]
    if not sums or (counts_KP.sum(axis=1) > 0).sum() < MIN_DAYS[DAY]:
        return 0
    sums_KPC = np.stack(sums, axis=2).astype(np.float64)
    weekday_K = (np.arange(K) + hour_N.min() // DAY) % 7
    daily = _daily(sums_KPC, counts_KP, rng)
    means_PC = _ratio(sums_KPC.sum(axis=0), counts_KP.sum(axis=0)[:, None])
    rest_KPC = sums_KPC - counts_KP[:, :, None] * means_PC
    if (counts_KP.sum(axis=1) > 0).sum() >= MIN_DAYS[WEEK] and _weekly(rest_KPC, counts_KP, weekday_K, rng):
        return WEEK
    return DAY if daily else 0


def _daily(sums_KPC: Values, counts_KP: Values, rng: np.random.Generator) -> bool:
    """Return whether hours of the day differ by more than random rotations of the hours of each day."""
    day_KC = _ratio(sums_KPC.sum(axis=1), counts_KP.sum(axis=1)[:, None])
    sums_KPC = sums_KPC - counts_KP[:, :, None] * day_KC[:, None, :]
    K, P = counts_KP.shape
    observed_C, means_PC = _between(sums_KPC.sum(axis=0), counts_KP.sum(axis=0))
    rows, hours = np.arange(K)[:, None], np.arange(P)
    highest = []
    for _ in range(PERMUTATIONS):
        turned = (hours + rng.integers(0, P, (K, 1))) % P
        highest.append(_between(sums_KPC[rows, turned].sum(axis=0), counts_KP[rows, turned].sum(axis=0))[0].max())
    return _is_cycle(observed_C, means_PC, highest)


def _weekly(rest_KPC: Values, counts_KP: Values, weekday_K: NDArray[np.int64], rng: np.random.Generator) -> bool:
    """Return whether days of the week, or their hours, differ by more than permuted days; without the daily cycle."""
    K, P, C = rest_KPC.shape
    flat_KF = np.concatenate([rest_KPC.reshape(K, P * C), counts_KP], axis=1)

    def between(days_K: NDArray[np.int64]) -> tuple[Values, Values]:
        totals_WF = np.eye(7)[:, days_K] @ flat_KF
        return _between(totals_WF[:, : P * C].reshape(7 * P, C), totals_WF[:, P * C :].reshape(7 * P))

    observed_C, means_PC = between(weekday_K)
    highest = [between(rng.permutation(weekday_K))[0].max() for _ in range(PERMUTATIONS)]
    return _is_cycle(observed_C, means_PC, highest)


def _between(sums_PC: Values, counts_P: Values) -> tuple[Values, Values]:
    """Return the sum of squares between positions, by column, and the means."""
    means_PC = _ratio(sums_PC, counts_P[:, None])
    return (means_PC * sums_PC).sum(axis=0), means_PC


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = sums / np.maximum(counts, 1)
    return ratio


def _is_cycle(observed_C: NDArray[np.float64], means_PC: NDArray[np.float64], highest: list[float]) -> bool:
    most = int(observed_C.argmax())
    exceeded = sum(each >= observed_C[most] for each in highest)
    return bool((1 + exceeded) / (1 + PERMUTATIONS) <= LEVEL and abs(means_PC[:, most]).max() >= SMALLEST_CYCLE)


def _columns(explained: Explained) -> Iterator[NDArray[np.float64]]:
    """Yield the ranks of numbers and scores, and indicators of categories and of missing values; standardized."""
    scores = [pl.Series(values) for values in explained.attributions.scores_NL.T]
    for column in [*scores, *explained.features]:
        if column.null_count():
            yield from _scaled(column.is_null())
        if column.dtype.is_numeric():
            ranks = column.rank("average")
            yield from _scaled(ranks.fill_null(ranks.mean() or 0.0))
        else:
            text = column.cast(pl.String).alias("value")
            frequent = text.drop_nulls().value_counts().sort("count", "value", descending=[True, False])
            for category in frequent["value"][:MOST_CATEGORIES]:
                yield from _scaled((text == category).fill_null(value=False))


def _scaled(column: pl.Series) -> Iterator[NDArray[np.float64]]:
    values_N = column.cast(pl.Float64).to_numpy()
    if deviation := float(values_N.std()):
        yield (values_N - values_N.mean()) / deviation


def stratified(explained: Explained, rows: int, period: int, seed: int) -> Explained:
    """Draw a sample with as many records of each hour of the cycle as possible, at most equally many.

    Columns `period` and `weight`, the number of records that a record stands for, are added to the events.
    """
    events = explained.events
    if events is None:
        return explained
    position_N = hours_of(events["at"]) % period
    order_N = np.random.default_rng(seed).permutation(len(position_N))
    sorted_N = order_N[np.argsort(position_N[order_N], kind="stable")]
    counts_P = np.bincount(position_N, minlength=period)
    rank_N = np.arange(len(sorted_N)) - np.repeat(counts_P.cumsum() - counts_P, counts_P)
    drawn = np.sort(sorted_N[np.argsort(rank_N, kind="stable")[:rows]])
    drawn_P = np.bincount(position_N[drawn], minlength=period)
    weight_N = counts_P[position_N[drawn]] / drawn_P[position_N[drawn]]
    columns = pl.lit(period, pl.UInt16).alias("period"), pl.Series("weight", weight_N)
    return replace(explained.rows(drawn), events=events[drawn].with_columns(*columns))


def same_hours(reference: Explained, start: datetime | None, length: timedelta, policy: DriftPolicy) -> SameHours:
    """Return the records of the reference in the same hours as a window: of the week, else of the day, even if too few.

    Args:
        reference: sample of the reference.
        start: start of the window; None for all hours.
        length: length of the window.
        policy: minimum number of records, and seed of the choice if hours of different weights are compared together.
    """
    events = reference.events
    if events is None or "period" not in events.columns:
        return SameHours(reference, None, [])
    hour_N, missing = hours_of(events["at"]), list[str]()
    for season, hours in _candidates(start, length, int(events["period"][0]), policy):
        period = PERIODS[season.cycle]
        rows = _representative(np.flatnonzero(np.isin(hour_N % period, hours % period)), events, policy.seed)
        repeats = len(np.unique((hour_N[rows] - hours[0]) // period))
        if len(rows) >= policy.min_rows and repeats >= MIN_REPEATS:
            compared = f"compared with {plural(len(rows), 'reference record')} of {season.hours} (drift.season)"
            return SameHours(reference.rows(rows), season, [*missing, compared])
        found = f"{plural(len(rows), 'record')} of {season.hours} in {plural(repeats, season.cycle)}"
        missing.append(f"the reference has a cycle, but only {found}; store more by drift.reference_rows")
    if missing:  # other hours are no reference for this one: there is no verdict
        return SameHours(reference.rows(rows), season, missing)
    rows = _representative(np.arange(len(hour_N)), events, policy.seed)
    return SameHours(reference.rows(rows), None, missing)


def _candidates(
    start: datetime | None, length: timedelta, period: int, policy: DriftPolicy
) -> Iterator[tuple[Season, NDArray[np.int64]]]:
    """Yield the hours of a window in each cycle up to a period that it does not cover, the longest first."""
    if start is None or policy.season == "none":
        return
    first, last = (int(start.timestamp()) // 3600, -int(-(start + length).timestamp() // 3600))
    for name, hours in PERIODS.items():
        if last - first < hours <= period:
            yield Season(name, _named(start, length, name)), np.arange(first, last) + MONDAY


def hour_rows(sample: Explained) -> int:
    """Return the mean number of records that an hour is compared with: all without a cycle."""
    rows = sample.features.height
    return rows // int(sample.events["period"][0]) if sample.events is not None and "period" in sample.events else rows


def season_notes(sample: Explained, policy: DriftPolicy) -> list[str]:
    """Return notes on the cycle of a stored sample."""
    events = sample.events
    if events is None:
        return []
    if "period" in events.columns:
        period = int(events["period"][0])
        name = "week" if period == WEEK else "day"
        least = int(np.bincount(hours_of(events["at"]) % period, minlength=period).min())
        cycle_name = {WEEK: "weekly", DAY: "daily"}[period]
        stored = f"the reference has a {cycle_name} cycle: windows are compared with the same hours of the {name}"
        if least >= policy.min_rows:
            return [f"{stored}; at least {plural(least, 'record')} of each hour are stored"]
        few = f"only {plural(least, 'record')} of some hours are stored, fewer than drift.min_rows={policy.min_rows}"
        return [f"{stored}, but {few}; store more by drift.reference_rows, or capture a longer span"]
    if policy.season == "auto" and events["at"].dt.date().n_unique() < MIN_DAYS[WEEK]:
        return [f"a weekly cycle is recognized only in captures of at least {MIN_DAYS[WEEK]} days"]
    return []


def _representative(rows: NDArray[np.intp], events: pl.DataFrame, seed: int) -> NDArray[np.intp]:
    """Draw from these rows so that each hour has its share of the captured records."""
    weight_N = events["weight"].to_numpy()[rows]
    if not len(rows) or weight_N.max() == weight_N.min():
        return rows
    drawn: NDArray[np.intp] = rows[np.random.default_rng(seed).random(len(rows)) < weight_N / weight_N.max()]
    return drawn


def _named(start: datetime, length: timedelta, name: Literal["day", "week"]) -> str:
    """Return the hours of a window.

    >>> from datetime import UTC
    >>> _named(datetime(2026, 1, 5, 14, tzinfo=UTC), timedelta(hours=1), "week")
    'Mondays 14:00–15:00 UTC'
    """
    end = start + length
    if name == "day":
        return f"all days {start:%H:%M}–{end:%H:%M} UTC"
    if end.date() == start.date() or length <= timedelta(hours=1):
        return f"{DAYS[start.weekday()]} {start:%H:%M}–{end:%H:%M} UTC"
    return f"{DAYS[start.weekday()]} {start:%H:%M} to {DAYS[end.weekday()]} {end:%H:%M} UTC"
