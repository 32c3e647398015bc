"""Tests of the inputs: do the values of a feature come from the same distribution as in the reference?

Each feature has up to five tests: of missing values, of the distribution, of its tails, of its most frequent values,
and of the number of decimals. Its p-value is the smallest one times their number; it is 0 if only one side has numbers.

Array letters: N reference records, M live records, D features, C categories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import InputResult, Level
from runner.drift.counts import categories, distance_beyond_chance, hypergeometric, sorted_extremes, unseen_by_chance
from runner.drift.significance import smirnov_sorted

RAREST_ABSENCE = 10.0
"""Negative logarithm of the probability from which the absence of a category counts: that all its pooled records are
on the side of the reference by chance."""

MOST_DECIMALS = 50_000
"""Maximum number of records whose decimals are counted."""
PLACES = range(-3, 9)
"""Numbers of decimals that are distinguished; −2 means multiples of 100."""
ROUNDING = 1e-6
"""Largest relative difference between a number and its rounded value, such as that of numbers in single precision."""
MOST_ROUNDING = 0.01
"""Largest difference between a number and its rounded value, in units of the last decimal."""


def are_numeric(before: pl.Series, now: pl.Series) -> bool:
    """Return whether a feature is numeric on both sides."""
    return before.dtype.is_numeric() and now.dtype.is_numeric()


def with_finite_numbers(features: pl.DataFrame) -> pl.DataFrame:
    """Return features in which infinite numbers and NaN are missing values."""
    numbers = pl.selectors.float()
    return features.with_columns(pl.when(numbers.is_finite()).then(numbers))


def compare_inputs(before: pl.DataFrame, now: pl.DataFrame, names: Sequence[str]) -> list[InputResult]:
    """Compare the values of each feature; p-values are not corrected for the other features."""
    numbers = {
        name: (_sorted(before[name]), _sorted(now[name])) for name in names if are_numeric(before[name], now[name])
    }
    known = {}
    complete = [
        name for name, (_, now_M) in numbers.items() if len(numbers[name][0]) == len(before) and len(now_M) == len(now)
    ]
    if complete:
        tested = smirnov_sorted([numbers[name][0] for name in complete], [numbers[name][1] for name in complete])
        known = dict(zip(complete, zip(tested.distance_D.tolist(), tested.p_D.tolist(), strict=True), strict=True))
    return [_compare(before[name], now[name], numbers.get(name), known.get(name)) for name in names]


def _sorted(values: pl.Series) -> NDArray[np.float64]:
    """Return the values that are not missing as sorted numbers."""
    return np.sort(values.drop_nulls().cast(pl.Float64).to_numpy())


def decimals(values_N: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of decimals of each value, from −3 (multiples of 1,000) to 9 (more than 8 decimals).

    >>> decimals(np.array([1200.0, 0.25, 1 / 3, 0.0])).tolist()
    [-2, 2, 9, -3]
    """
    places_N = np.full(len(values_N), PLACES.stop)
    with np.errstate(over="ignore", invalid="ignore"):
        for place in reversed(PLACES):
            scaled_N = values_N * 10.0**place
            allowed_N = np.minimum(ROUNDING * abs(scaled_N), MOST_ROUNDING) + 1e-9
            places_N[abs(scaled_N - scaled_N.round()) <= allowed_N] = place
    return places_N


def _changed_decimals(before: pl.Series, now: pl.Series) -> float:
    """Return the p-value of the numbers of decimals: the smallest one of all limits, times the number of limits.

    Of many records, every second one is considered, or every third one, and so on.
    """
    sides = (side.gather_every(1 + len(side) // MOST_DECIMALS).cast(pl.Float64).to_numpy() for side in (before, now))
    places = [decimals(side) for side in sides]
    p = []
    for place in PLACES:
        counts = [int((side <= place).sum()) for side in places]
        p.append(hypergeometric(counts[1], sum(counts), len(places[1]), sum(map(len, places))))
    return len(p) * min(p)


def _compare(
    before: pl.Series,
    now: pl.Series,
    numbers: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    tested: tuple[float, float] | None,
) -> InputResult:
    """Compare the values of one feature.

    Args:
        before: values of the reference.
        now: values of the window.
        numbers: sorted numbers of both sides; None if a side has other values.
        tested: Kolmogorov-Smirnov distance and its p-value; None if they are not yet known, or values are missing.
    """
    nulls = before.null_count(), now.null_count()
    K = len(before) + len(now)
    p = [hypergeometric(nulls[1], sum(nulls), len(now), K)] if any(nulls) else []
    missing = nulls[0] / len(before), nulls[1] / len(now)
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return InputResult(now.name, Level.NONE, min(p, default=1.0), 0.0, *missing, 0.0, 0.0, constant=False)
    if numbers:
        distance, p_distance = tested or tuple(each[0] for each in smirnov_sorted(*([side] for side in numbers)))
        p += [float(p_distance), sorted_extremes(*numbers), _changed_decimals(before, now)]
        counts = _aligned(*(_runs(side) for side in numbers))
    else:
        retyped = before.dtype.is_numeric() or now.dtype.is_numeric()
        p += [0.0] if retyped else []
        counts = category_counts(before, now)
    p.append(categories(*counts))
    change_C = counts[1] / len(now) - counts[0] / len(before)
    distance_expected = 0.0
    if numbers:
        distance = max(float(distance), float(change_C.max()))
        vanished = 0.0
        inside = np.searchsorted(numbers[1], numbers[0][-1], "right") - np.searchsorted(numbers[1], numbers[0][0])
        unseen = 1 - float(inside) / len(now)
        rare_C = counts[0][counts[0] > 0][[0, -1]]
    else:
        distance = float(abs(change_C).sum() / 2)
        distance_expected = max(0.0, distance - distance_beyond_chance(*counts))
        unseen = 1.0 if retyped else float(counts[1][counts[0] == 0].sum() / len(now))
        frequent_C = counts[0] * math.log1p(len(now) / len(before)) >= RAREST_ABSENCE
        vanished = float(counts[0][frequent_C & (counts[1] == 0)].sum() / len(before))
        rare_C = counts[0][:0] if retyped else counts[0]
    expected = unseen_by_chance(int((rare_C == 1).sum()), int((rare_C == 2).sum()), (len(before), len(now)))
    constant = bool((counts[1] > 0).sum() == 1 and (counts[0] > 0).sum() > 1)
    smallest = min(1.0, len(p) * min(p))
    present = 1 - missing[1]
    return InputResult(
        now.name,
        Level.NONE,
        smallest,
        distance,
        *missing,
        unseen * present,
        vanished,
        constant,
        unseen_expected=expected[0] * present,
        unseen_chance=expected[1] * present,
        distance_expected=distance_expected,
    )


Counted = tuple[NDArray[np.float64], NDArray[np.intp]]
"""Different numbers, ascending, and the number of records of each."""


def _runs(sorted_N: NDArray[np.float64]) -> Counted:
    starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    return sorted_N[starts], np.diff(starts, append=len(sorted_N))


def _aligned(before: Counted, now: Counted) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the number of records of each number on both sides."""
    (values_B, counts_B), (values_C, counts_C) = before, now
    place_B = np.searchsorted(values_C, values_B)
    is_missing_B = values_C[np.minimum(place_B, len(values_C) - 1)] != values_B
    now_C = np.insert(counts_C, place_B[is_missing_B], 0)
    before_C = np.zeros_like(now_C)
    before_C[place_B + np.cumsum(is_missing_B) - is_missing_B] = counts_B
    return before_C, now_C


def category_counts(before: pl.Series, now: pl.Series) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the number of records of each category on both sides."""
    first, second = (side.cast(pl.String).alias("value").value_counts(name="count") for side in (before, now))
    both = first.join(second, on="value", how="full", coalesce=True).sort("value").fill_null(0)
    return both["count"].to_numpy().astype(np.intp), both["count_right"].to_numpy().astype(np.intp)
