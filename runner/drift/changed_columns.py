"""Features whose values are those of another feature: swapped and copied columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from runner.drift.changed_categories import CLEAR
from runner.drift.changed_numbers import ALL, HALF, ChangedNumbers, Likely, ks_distance
from runner.drift.counts import categories
from runner.drift.inputs import are_numeric, category_counts
from runner.drift.significance import critical

DISTINCT = 0.1
"""Smallest distance between clearly different distributions."""
FEWEST_EQUAL = 10
"""Smallest number of records with equal values, other than the most frequent one, of a copied column."""


def swapped(changed: Sequence[str], before: pl.DataFrame, now: pl.DataFrame) -> dict[str, Likely]:
    """Return the causes of pairs of features whose values are exchanged, by feature.

    Args:
        changed: names of the features whose values changed.
        before: inputs of the reference records.
        now: inputs of the live records.
    """
    gaps = {name: gap(before[name], now[name]) for name in changed}
    found = []
    for first, second in combinations([name for name in changed if gaps[name] >= DISTINCT], 2):
        if gap(before[first], before[second]) < DISTINCT:
            continue
        sides = (before[second], now[first]), (before[first], now[second])
        if any(_differ(*each) for each in sides):
            continue
        left = [_distance(*each) for each in sides]
        if left[0] <= HALF * gaps[first] and left[1] <= HALF * gaps[second]:
            found.append((sum(left), first, second))
    causes: dict[str, Likely] = {}
    for _, *pair in sorted(found):
        if not causes.keys() & {*pair}:
            for name, other in (pair, pair[::-1]):
                text = f"its values are like those of {other} in the reference: columns swapped?"
                causes[name] = Likely(text, 1.0 if are_numeric(before[name], now[name]) else 0.0)
    return causes


def copied(changed: Sequence[str], before: pl.DataFrame, now: pl.DataFrame) -> dict[str, Likely]:
    """Return the causes of features whose values equal those of an unchanged feature, by feature.

    Args:
        changed: names of the features whose values changed.
        before: inputs of the reference records.
        now: inputs of the live records.
    """
    causes: dict[str, Likely] = {}
    for name in changed:
        for other in before.columns:
            if other in changed or not _same_kind(now[name], now[other]):
                continue
            share = _equal(now[name], now[other])
            if share < ALL or (usual := _equal(before[name], before[other])) > HALF:
                continue
            if _differ_alike(now[name], now[other]):
                figures = f"equal to {other} in {share:.0%} of the records ({usual:.0%} in the reference)"
                causes[name] = Likely(f"{figures}: copied from {other}?")
    return causes


def _equal(values: pl.Series, others: pl.Series) -> float:
    """Return the share of the records with equal values, of those with both values."""
    known = values.is_not_null() & others.is_not_null()
    share = (values.filter(known) == others.filter(known)).mean()
    return float(str(share)) if share is not None else 0.0


def _differ_alike(values: pl.Series, others: pl.Series) -> bool:
    """Return whether values are equal also where they are not the most frequent one."""
    rare = others != others.drop_nulls().mode().min()
    return int(rare.sum()) >= FEWEST_EQUAL and _equal(values.filter(rare), others.filter(rare)) >= ALL


def _same_kind(values: pl.Series, others: pl.Series) -> bool:
    return are_numeric(values, others) or (values.dtype == others.dtype and values.dtype in {pl.String, pl.Boolean})


def gap(before: pl.Series, now: pl.Series) -> float:
    """Return the distance between the distributions of two columns; 0 if it may be due to chance."""
    return _distance(before, now) if _differ(before, now) else 0.0


def _differ(before: pl.Series, now: pl.Series) -> bool:
    """Return whether two columns have clearly different distributions."""
    before, now = before.drop_nulls(), now.drop_nulls()
    if are_numeric(before, now) and len(before) and len(now):
        sides = ChangedNumbers.of(before, now).sides
        return ks_distance(*sides) > critical(len(sides[0]), len(sides[1]), CLEAR)
    if _same_kind(before, now) and len(before) and len(now):
        return categories(*category_counts(before, now)) < CLEAR
    return True


def _distance(before: pl.Series, now: pl.Series) -> float:
    """Return the Kolmogorov-Smirnov distance of numbers, or the total variation distance of categories."""
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.is_empty() or now.is_empty() or not _same_kind(before, now):
        return 1.0
    if are_numeric(before, now):
        return ks_distance(*ChangedNumbers.of(before, now).sides)
    counts = category_counts(before, now)
    return float(abs(counts[0] / len(before) - counts[1] / len(now)).sum() / 2)
