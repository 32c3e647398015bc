"""Tests for joint changes of several features that no single feature shows.

The test of associations compares, for each pair of features, the mean product of their standardized ranks. It detects a
lost correlation, swapped columns, and values that were joined to the wrong records.

The classifier two-sample test also detects other changes. The classifier is a ridge regression on inputs, attributions,
their squares and their products. Each half of the pooled records is scored by the classifier that is fitted to the
other half. On a scored half, all divisions into live and reference records are equally likely under the null
hypothesis, so the rank sum of its live records has a known distribution. The p-value is twice the smaller one of both
halves.

Array letters: N reference records, M live records, D columns, F terms, P pairs of columns, K pooled records.

Source: Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests"; Mann and Whitney (1947) for the rank sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import Association, Effect
from runner.drift.inputs import are_numeric
from runner.drift.significance import mean_p_value

MOST_ROWS = 1_000
"""Maximum number of records of each side, drawn at random."""
MOST_INPUTS = 12
"""Maximum number of features whose values are used."""
MOST_ATTRIBUTIONS = 8
"""Maximum number of columns of attributions, those with the largest mean absolute value."""
MOST_CATEGORIES = 4
"""Maximum number of categories of a feature, the most frequent ones."""
RIDGE = 0.1
"""Ridge penalty, relative to the number of records; terms are standardized."""
MOST_CANDIDATES = 20
"""Maximum number of pairs whose p-value is computed precisely, those that are the most significant approximately."""
MOST_LIKELY = 0.1
"""Approximate p-value, times the number of pairs, from which a pair is not a candidate."""
NOISE = 2.3263478740408408
"""Standard normal quantile of 99 %."""


@dataclass(frozen=True)
class Columns:
    """Inputs of the pooled records as numbers.

    Attributes:
        names: feature of each column.
        values_KD: ranks of numbers, and indicators of categories and of missing values; standardized.
        live_K: whether a record is a live one.
    """

    names: tuple[str, ...]
    values_KD: NDArray[np.float64]
    live_K: NDArray[np.bool_]

    @classmethod
    def of(cls, before: pl.DataFrame, now: pl.DataFrame) -> Columns:
        """Return the columns of the first `MOST_INPUTS` features."""
        named = [*_columns(before, now)]
        live_K = np.repeat([False, True], [len(before), len(now)])
        values_DK = np.array([column_K for _, column_K in named]).reshape(len(named), len(live_K))
        return cls(tuple(name for name, _ in named), _scaled(values_DK.T), live_K)


def changed_association(columns: Columns) -> Association | None:
    """Return the pair of features whose association changed most clearly; None without a pair of features.

    The p-value is that of the difference of the mean products, times the number of pairs. A normal distribution selects
    the pairs that may be significant.
    """
    left_P, right_P = np.triu_indices(len(columns.names), 1)
    names = np.array(columns.names)
    left_P, right_P = (side_P[names[left_P] != names[right_P]] for side_P in (left_P, right_P))
    if not len(left_P):
        return None
    sizes = (~columns.live_K).sum(), columns.live_K.sum()
    means_2P = np.empty((2, len(left_P)))
    z_P = np.zeros(len(left_P))
    for i, (left, right) in enumerate(zip(left_P, right_P, strict=True)):
        product_K = columns.values_KD[:, left] * columns.values_KD[:, right]
        means_2P[:, i] = product_K[~columns.live_K].mean(), product_K[columns.live_K].mean()
        deviation = product_K.std() * math.sqrt(1 / sizes[0] + 1 / sizes[1])
        z_P[i] = abs(means_2P[1, i] - means_2P[0, i]) / deviation if deviation else 0.0
    first = np.argsort(-z_P, kind="stable")[:MOST_CANDIDATES].tolist()
    p = {
        i: mean_p_value(columns.values_KD[:, left_P[i]] * columns.values_KD[:, right_P[i]], columns.live_K)
        for i in first
        if 2 * _upper_tail(float(z_P[i])) * len(z_P) <= MOST_LIKELY
    } or {first[0]: 2 * _upper_tail(float(z_P[first[0]]))}
    most = min(p, key=p.__getitem__)
    before, now = means_2P[:, most].tolist()
    return Association(
        columns.names[left_P[most]], columns.names[right_P[most]], before, now, min(1.0, p[most] * len(z_P))
    )


def separability(
    columns: Columns, before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], rng: np.random.Generator
) -> Effect:
    """Return the area under the ROC curve of the classifier; 0.5 means that it cannot separate the sides.

    Args:
        columns: inputs.
        before_ND: local attributions of the reference records, with the columns of all labels.
        now_MD: those of the live records.
        rng: random generator for records and halves.
    """
    phi_KD = np.concatenate([before_ND, now_MD])
    largest_D = np.argsort(-abs(phi_KD).mean(axis=0), kind="stable")[:MOST_ATTRIBUTIONS]
    values_KD = np.hstack([columns.values_KD, phi_KD[:, largest_D]])
    drawn = [_drawn(np.flatnonzero(columns.live_K == side), rng) for side in (True, False)]
    order_K = rng.permutation(np.concatenate(drawn))
    terms_KF, live_K = _terms(values_KD[order_K]), columns.live_K[order_K]
    half_K = np.zeros(len(live_K), dtype=bool)
    for side in (True, False):
        half_K[np.flatnonzero(live_K == side)[::2]] = True
    tested = [_scored(terms_KF, live_K, scored_K) for scored_K in (half_K, ~half_K)]
    area = sum(area for area, _ in tested) / 2
    deviation = sum(deviation for _, deviation in tested) / 2 / math.sqrt(2)
    smallest = min(_upper_tail((area - 0.5) / deviation) for area, deviation in tested)
    return Effect(area, 0.5 + NOISE * deviation, min(1.0, 2 * smallest))


def _drawn(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    return rows if len(rows) <= MOST_ROWS else rng.choice(rows, MOST_ROWS, replace=False, shuffle=False)


def _columns(before: pl.DataFrame, now: pl.DataFrame) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the name and the values of each column."""
    for name in before.columns[:MOST_INPUTS]:
        sides = before[name], now[name]
        if are_numeric(*sides):
            pooled = pl.concat([side.cast(pl.Float64) for side in sides])
            ranks = pooled.rank("average")
            yield name, ranks.fill_null(ranks.mean() or 0.0).to_numpy()
        else:
            pooled = pl.concat([side.cast(pl.String) for side in sides]).alias("value")
            frequent = pooled.drop_nulls().value_counts().sort("count", "value", descending=[True, False])
            for category in frequent["value"][:MOST_CATEGORIES]:
                yield name, (pooled == category).fill_null(value=False).cast(pl.Float64).to_numpy()
        if pooled.null_count():
            yield name, pooled.is_null().cast(pl.Float64).to_numpy()


def _terms(values_KD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the columns, their squares and their products, standardized."""
    scaled_KD = _scaled(values_KD)
    left, right = np.triu_indices(scaled_KD.shape[1])
    return np.hstack([scaled_KD, _scaled(scaled_KD[:, left] * scaled_KD[:, right])])


def _scaled(values_KF: NDArray[np.float64]) -> NDArray[np.float64]:
    spread_F = values_KF.std(axis=0)
    scaled_KF: NDArray[np.float64] = (values_KF - values_KF.mean(axis=0)) / np.where(spread_F > 0, spread_F, 1.0)
    return scaled_KF


def _scored(
    terms_KF: NDArray[np.float64], live_K: NDArray[np.bool_], scored_K: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the area under the ROC curve on the scored records, and its standard deviation without a change."""
    fitted_KF = terms_KF[~scored_K]
    target_K = live_K[~scored_K] - live_K[~scored_K].mean()
    penalty = RIDGE * len(fitted_KF)
    weights_F = _ridge(fitted_KF, target_K, penalty)
    rank_K = pl.Series(terms_KF[scored_K] @ weights_F).rank("average").to_numpy()
    lives = int(live_K[scored_K].sum())
    others = len(rank_K) - lives
    area = (rank_K[live_K[scored_K]].sum() - lives * (lives + 1) / 2) / (lives * others)
    return float(area), math.sqrt((lives + others + 1) / (12 * lives * others))


def _ridge(terms_KF: NDArray[np.float64], target_K: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Return the weights_F of a ridge regression, from the smaller one of the two equivalent problems."""
    records, terms = terms_KF.shape
    if terms <= records:
        solved_F = np.linalg.solve(terms_KF.T @ terms_KF + penalty * np.eye(terms), terms_KF.T @ target_K)
        return np.asarray(solved_F, dtype=np.float64)
    dual_K = np.linalg.solve(terms_KF @ terms_KF.T + penalty * np.eye(records), target_K)
    return np.asarray(terms_KF.T @ dual_K, dtype=np.float64)


def _upper_tail(z: float) -> float:
    """Return the probability that a standard normal variable exceeds a value."""
    return math.erfc(z / math.sqrt(2)) / 2
