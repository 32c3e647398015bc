"""Tests of the inputs: do the values of a feature come from the same distribution as in the reference?

Each feature has up to four tests: of missing values, of the distribution, of its tails, and of its most frequent
values. Its p-value is the smallest one times their number; it is 0 if only one side has numbers.

Array letters: N reference records, M live records, D features, C categories.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import InputResult, Level
from runner.drift.counts import categories, extremes, hypergeometric
from runner.drift.significance import smirnov

FEWEST_EXPECTED = 10
"""Smallest expected number of live records of a category whose absence counts."""


def are_numeric(before: pl.Series, now: pl.Series) -> bool:
    """Return whether a feature is numeric on both sides."""
    return before.dtype.is_numeric() and now.dtype.is_numeric()


def with_finite_numbers(features: pl.DataFrame) -> pl.DataFrame:
    """Return features in which infinite numbers and NaN are missing values."""
    numbers = pl.selectors.float()
    return features.with_columns(pl.when(numbers.is_finite()).then(numbers))


def compare_inputs(before: pl.DataFrame, now: pl.DataFrame, names: Sequence[str]) -> list[InputResult]:
    """Compare the values of each feature; p-values are not corrected for the other features."""
    complete = [
        name
        for name in names
        if are_numeric(before[name], now[name]) and not before[name].null_count() and not now[name].null_count()
    ]
    known = {}
    if complete:
        tested = smirnov(_matrix(before, complete), _matrix(now, complete))
        known = dict(zip(complete, zip(tested.distance_D.tolist(), tested.p_D.tolist(), strict=True), strict=True))
    return [_compare(before[name], now[name], known.get(name)) for name in names]


def _matrix(features: pl.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    return np.column_stack([features[name].cast(pl.Float64).to_numpy() for name in names])


def _compare(before: pl.Series, now: pl.Series, tested: tuple[float, float] | None) -> InputResult:
    """Compare the values of one feature.

    Args:
        before: values of the reference.
        now: values of the window.
        tested: Kolmogorov-Smirnov distance and its p-value; None if they are not yet known, or values are missing.
    """
    nulls = before.null_count(), now.null_count()
    K = len(before) + len(now)
    p = [hypergeometric(nulls[1], sum(nulls), len(now), K)] if any(nulls) else []
    missing = nulls[0] / len(before), nulls[1] / len(now)
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty():
        return InputResult(now.name, Level.NONE, min(p, default=1.0), 0.0, *missing, 0.0, 0.0, constant=False)
    if numeric := are_numeric(before, now):
        before, now = before.cast(pl.Float64), now.cast(pl.Float64)
        sides = before.to_numpy(), now.to_numpy()
        distance, p_distance = tested or tuple(each[0] for each in smirnov(sides[0][:, None], sides[1][:, None]))
        p += [float(p_distance), extremes(*sides)]
    else:
        p += [0.0] if before.dtype.is_numeric() or now.dtype.is_numeric() else []
        before, now = before.cast(pl.String), now.cast(pl.String)
    counts = _counts(before, now)
    p.append(categories(*counts))
    change_C = counts[1] / len(now) - counts[0] / len(before)
    if numeric:
        distance = max(float(distance), float(change_C.max()))
        vanished = 0.0
        low, high = sides[0].min(), sides[0].max()
        unseen = float(((sides[1] < low) | (sides[1] > high)).mean())
    else:
        distance = float(abs(change_C).sum() / 2)
        unseen = float(counts[1][counts[0] == 0].sum() / len(now))
        frequent_C = counts[0] * len(now) / len(before) >= FEWEST_EXPECTED
        vanished = float(counts[0][frequent_C & (counts[1] == 0)].sum() / len(before))
    constant = bool((counts[1] > 0).sum() == 1 and (counts[0] > 0).sum() > 1)
    smallest = min(1.0, len(p) * min(p))
    return InputResult(
        now.name, Level.NONE, smallest, distance, *missing, unseen * (1 - missing[1]), vanished, constant
    )


def _counts(before: pl.Series, now: pl.Series) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the number of records of each value on both sides."""
    if before.dtype == pl.String:
        codes_K = pl.concat([before, now]).rank("dense").to_numpy()
        before, now = pl.Series(codes_K[: len(before)]), pl.Series(codes_K[len(before) :])
    values, counts = zip(*(np.unique(side.to_numpy(), return_counts=True) for side in (before, now)), strict=True)
    pooled_C = np.union1d(*values)
    counts_2C = np.zeros((2, len(pooled_C)), dtype=np.intp)
    for side in range(2):
        counts_2C[side, np.searchsorted(pooled_C, values[side])] = counts[side]
    return counts_2C[0], counts_2C[1]
