"""Tests for joint changes of several features that no single feature shows.

The test of associations compares, for each pair of features, the mean product of their standardized ranks. It detects a
lost correlation, swapped columns, and values that were joined to the wrong records.

The test of deviations predicts each feature from the others by ridge regression, and compares the deviations of both
sides from the prediction. It detects noise, old values and wrong joins that no pair of features shows. The regression
is fitted to all pooled records without regard to their side. So the deviations are exchangeable under the null
hypothesis, and the hypergeometric test of their tails is exact.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import Association, Effect
from runner.drift.counts import chi_squared_tail, extremes
from runner.drift.inputs import are_numeric
from runner.drift.significance import mean_p_value

MOST_ROWS = 1_000
"""Maximum number of records of each side for the classifier, drawn at random."""
MOST_INPUTS = 12
"""Maximum number of features whose values are used."""
MOST_ATTRIBUTIONS = 8
"""Maximum number of columns of attributions, those with the largest mean absolute value."""
MOST_CATEGORIES = 4
"""Maximum number of categories of a feature, the most frequent ones."""
RIDGE = 0.1
"""Ridge penalty, relative to the number of records; terms are standardized."""
MOST_CANDIDATES = 20
"""Maximum number of pairs whose p-value is computed precisely: the most significant ones by a normal distribution."""
MOST_LIKELY = 0.1
"""Approximate p-value, times the number of pairs, from which a pair is not a candidate."""
MOST_VALUES = 20
"""Maximum number of distinct numbers of a feature that are predictors of their own."""
RELATED, OPPOSITE = 0.3, -0.5
"""Smallest correlation of a feature with another one, and largest ratio of its correlations to those of the reference,
that show values in reverse order."""
CHANGED, EXPLAINED = 1e-4, 0.01
"""Significance levels of changed means by value, and of means that an exchange of two values explains."""
FEWEST_OF_VALUE = 8
"""Minimum number of records of a value on each side for an exchange."""
LEAST_VARIANCE = 0.1
"""Variance that is added to those of a few records, relative to that of all records."""
PREDICTION_RIDGE = 0.003
"""Ridge penalty of predictions, which have fewer terms than the classifier."""
TAIL, WIDTH = 0.25, 1.1503493803760079
"""Share of the absolute deviations beyond the quantile that measures their spread, and that quantile of a standard
normal distribution. A few outliers hardly change it."""
NOISE = 2.3263478740408408
"""Standard normal quantile of 99 %."""


@dataclass(frozen=True)
class Columns:
    """Inputs of the pooled records as numbers.

    Attributes:
        names: feature of each column.
        numeric: features whose first column contains the ranks of numbers.
        values_KD: ranks of numbers, and indicators of categories and of missing values; standardized.
        live_K: whether a record is a live one.
        term_names, terms_KF: features and values of the predictors: the columns, and squared ranks of numbers or
            indicators of few distinct numbers; standardized.
    """

    names: tuple[str, ...]
    numeric: tuple[str, ...]
    values_KD: NDArray[np.float64]
    live_K: NDArray[np.bool_]
    term_names: tuple[str, ...]
    terms_KF: NDArray[np.float64]

    @classmethod
    def of(cls, before: pl.DataFrame, now: pl.DataFrame) -> Columns:
        """Return the columns of the first `MOST_INPUTS` features."""
        named = [*_columns(before, now)]
        live_K = np.repeat([False, True], [len(before), len(now)])
        values_DK = np.array([column_K for _, column_K in named]).reshape(len(named), len(live_K))
        names, values_KD = tuple(name for name, _ in named), _scaled(values_DK.T)
        more = [*_predictors(names, values_KD)]
        terms_KF = _scaled(np.column_stack([values_KD, *(term_K for _, term_K in more)]))
        numeric = tuple(name for name in dict.fromkeys(names) if are_numeric(before[name], now[name]))
        return cls(names, numeric, values_KD, live_K, (*names, *(name for name, _ in more)), terms_KF)


def changed_association(columns: Columns) -> Association | None:
    """Return the pair of features whose association changed most clearly; None without a pair of features.

    The first one has the more significant test. The p-value is twice the smaller one of two tests, that of the
    pairs and that of the deviations, both corrected for their number.
    """
    pairs = _Pairs.of(columns)
    if not len(pairs.left_P):
        return None
    most, p_pair = pairs.clearest(columns)
    clearest = min(_deviations(columns), key=lambda each: each.p, default=_Deviation("", 1.0, 0.0, 0.0))
    if clearest.p < p_pair:
        most = pairs.with_feature(clearest.name)
    pair = [int(side_P[most]) for side_P in (pairs.left_P, pairs.right_P)]
    if clearest.p < p_pair and columns.names[pair[1]] == clearest.name:
        pair = pair[::-1]
    first, second = (columns.names[column] for column in pair)
    sides_2DD = np.array([_correlations(columns.values_KD[side_K]) for side_K in (~columns.live_K, columns.live_K)])
    before, now = sides_2DD[:, pair[0], pair[1]].tolist()
    p = min(1.0, 2 * min(p_pair, clearest.p))
    changed = Association(first, second, before, now, p, reversed=_reversed(columns.names, sides_2DD, (first, second)))
    if clearest.name != first:
        return changed
    return replace(changed, deviation_before=clearest.before, deviation_now=clearest.now, deviation_p=clearest.p)


def _correlations(values_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlations of all columns; 0 for a constant column."""
    scaled_ND = _scaled(values_ND)
    correlations_DD: NDArray[np.float64] = (scaled_ND.T @ scaled_ND / len(scaled_ND)).clip(-1, 1)
    return correlations_DD


def _reversed(columns: tuple[str, ...], sides_2DD: NDArray[np.float64], names: tuple[str, str]) -> str:
    """Return which of two features has the opposite correlations with all others; empty without one."""
    agreement = {name: _agreement(columns, sides_2DD, name) for name in names}
    least = min(agreement, key=agreement.__getitem__)
    return least if agreement[least] <= OPPOSITE else ""


def _agreement(columns: tuple[str, ...], sides_2DD: NDArray[np.float64], name: str) -> float:
    """Return the ratio of a feature's correlations with the others to those of the reference; 0 if they are small."""
    owners = np.array(columns)
    before, now = sides_2DD[:, int(np.flatnonzero(owners == name)[0]), owners != name]
    return float(before @ now / (before @ before)) if abs(before).max(initial=0.0) >= RELATED else 0.0


def order_of(name: str, before: pl.DataFrame, now: pl.DataFrame) -> int:
    """Return whether a feature orders the records as before (1) or in reverse (-1); 0 if this is unknown.

    The evidence is the sign of its correlations with the other features.
    """
    names = [name, *(each for each in before.columns if each != name)]
    columns = Columns.of(before.select(names), now.select(names))
    sides = (columns.values_KD[side_K] for side_K in (~columns.live_K, columns.live_K))
    agreement = _agreement(columns.names, np.array([_correlations(side_ND) for side_ND in sides]), name)
    return int(np.sign(agreement)) if abs(agreement) >= -OPPOSITE else 0


def exchanged_values(name: str, partner: str, before: pl.DataFrame, now: pl.DataFrame) -> tuple[str, str] | None:
    """Return the two values of a feature whose exchange explains the changed means of another feature by value.

    The sum of the squared differences of the means, in standard errors, has a χ² distribution without a change. None
    without exactly one exchange that explains them, and for too many values; rare values are left out.
    """
    sides = [side.select(name, pl.col(partner).cast(pl.Float64)).drop_nulls() for side in (before, now)]
    ranks_K = pl.concat([side[partner] for side in sides]).rank("average").to_numpy()
    codes = [side[name].cast(pl.String).to_numpy() for side in sides]
    frequent = [np.unique(side, return_counts=True) for side in codes]
    first_side, second_side = (names[counts >= FEWEST_OF_VALUE] for names, counts in frequent)
    values = np.intersect1d(first_side, second_side)
    if not 2 < len(values) <= MOST_VALUES or not ranks_K.var():
        return None
    parts = ranks_K[: len(codes[0])], ranks_K[len(codes[0]) :]
    groups = [[part[code == value] for value in values] for part, code in zip(parts, codes, strict=True)]
    means, variances, sizes = (
        np.array([[of(group) for group in side] for side in groups]) for of in (np.mean, np.var, len)
    )
    errors = (variances + LEAST_VARIANCE * ranks_K.var()) / sizes

    def p(order: Sequence[int]) -> float:
        squares = (means[0] - means[1][list(order)]) ** 2 / (errors[0] + errors[1][list(order)])
        return chi_squared_tail(float(squares.sum()), len(order))

    same = list(range(len(values)))
    if p(same) >= CHANGED:
        return None
    found = []
    for first, second in combinations(same, 2):
        order = [{first: second, second: first}.get(i, i) for i in same]
        if p(order) > EXPLAINED:
            found.append((str(values[first]), str(values[second])))
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class _Pairs:
    """Pairs of columns of different features.

    Attributes:
        means_2P: mean product of both columns in the reference, and in the window.
        z_P: difference of the mean products, in standard deviations without a change.
    """

    names: tuple[str, ...]
    left_P: NDArray[np.intp]
    right_P: NDArray[np.intp]
    means_2P: NDArray[np.float64]
    z_P: NDArray[np.float64]

    @classmethod
    def of(cls, columns: Columns) -> _Pairs:
        """Compare all pairs."""
        left_P, right_P = np.triu_indices(len(columns.names), 1)
        names = np.array(columns.names)
        left_P, right_P = (side_P[names[left_P] != names[right_P]] for side_P in (left_P, right_P))
        sizes = (~columns.live_K).sum(), columns.live_K.sum()
        means_2P = np.empty((2, len(left_P)))
        z_P = np.zeros(len(left_P))
        for i, (left, right) in enumerate(zip(left_P, right_P, strict=True)):
            product_K = columns.values_KD[:, left] * columns.values_KD[:, right]
            means_2P[:, i] = product_K[~columns.live_K].mean(), product_K[columns.live_K].mean()
            deviation = product_K.std() * math.sqrt(1 / sizes[0] + 1 / sizes[1])
            z_P[i] = abs(means_2P[1, i] - means_2P[0, i]) / deviation if deviation else 0.0
        return cls(columns.names, left_P, right_P, means_2P, z_P)

    def clearest(self, columns: Columns) -> tuple[int, float]:
        """Return the index of the pair that changed most clearly, and its p-value times the number of pairs.

        A normal distribution selects the pairs that may be significant.
        """
        first = np.argsort(-self.z_P, kind="stable")[:MOST_CANDIDATES].tolist()
        p = {
            i: mean_p_value(
                columns.values_KD[:, self.left_P[i]] * columns.values_KD[:, self.right_P[i]], columns.live_K
            )
            for i in first
            if 2 * _upper_tail(float(self.z_P[i])) * len(self.z_P) <= MOST_LIKELY
        } or {first[0]: 2 * _upper_tail(float(self.z_P[first[0]]))}
        most = min(p, key=p.__getitem__)
        return most, p[most] * len(self.z_P)

    def with_feature(self, name: str) -> int:
        """Return the index of the pair with this feature that is associated most closely in the reference."""
        names = np.array(self.names)
        has_P = (names[self.left_P] == name) | (names[self.right_P] == name)
        return int(np.where(has_P, abs(self.means_2P[0]), -1.0).argmax())


class _Deviation(NamedTuple):
    """Deviations of a numeric feature from its prediction by the other features.

    Attributes:
        p: p-value, times the number of features.
        before, now: spread of the deviations on both sides, as a normal distribution with this standard deviation has
            it, relative to the standard deviation of the feature.
    """

    name: str
    p: float
    before: float
    now: float


def _deviations(columns: Columns) -> list[_Deviation]:
    """Compare the deviations of each numeric feature from its prediction by the other features.

    If there are more live than reference records, a part of the live ones is used. Otherwise, they would determine the
    prediction.
    """
    used_K = _balanced(columns.live_K)
    names, live_K = np.array(columns.names), columns.live_K[used_K]
    owners, terms_KF = np.array(columns.term_names), columns.terms_KF[used_K]
    gram_FF = terms_KF.T @ terms_KF / len(live_K)
    found = []
    for name in columns.numeric:
        others = np.flatnonzero(owners != name)
        target_K = columns.values_KD[used_K, int(np.flatnonzero(names == name)[0])]
        penalized_FF = gram_FF[np.ix_(others, others)] + PREDICTION_RIDGE * np.eye(len(others))
        covariance_F = terms_KF[:, others].T @ target_K / len(live_K)
        deviation_K = target_K - terms_KF[:, others] @ np.linalg.solve(penalized_FF, covariance_F)
        sizes_K = abs(deviation_K - np.median(deviation_K))
        sides = sizes_K[~live_K], sizes_K[live_K]
        spreads = [float(np.quantile(side, 1 - TAIL)) / WIDTH for side in sides]
        found.append(_Deviation(name, min(1.0, extremes(*sides) * len(columns.numeric)), *spreads))
    return found


def _balanced(live_K: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the indices of all reference records, and of at most as many live ones, at equal distances."""
    live, reference = np.flatnonzero(live_K), np.flatnonzero(~live_K)
    if len(live) > len(reference):
        live = live[np.linspace(0, len(live) - 1, len(reference)).round().astype(int)]
    return np.concatenate([reference, live])


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
    sides = [drawn(np.flatnonzero(columns.live_K == side), MOST_ROWS, rng) for side in (True, False)]
    order_K = rng.permutation(np.concatenate(sides))
    terms_KF, live_K = _terms(values_KD[order_K]), columns.live_K[order_K]
    half_K = np.zeros(len(live_K), dtype=bool)
    for side in (True, False):
        half_K[np.flatnonzero(live_K == side)[::2]] = True
    tested = [_scored(terms_KF, live_K, scored_K) for scored_K in (half_K, ~half_K)]
    area = sum(area for area, _ in tested) / 2
    deviation = sum(deviation for _, deviation in tested) / 2 / math.sqrt(2)
    smallest = min(_upper_tail((area - 0.5) / deviation) for area, deviation in tested)
    return Effect(area, 0.5 + NOISE * deviation, min(1.0, 2 * smallest))


def changed_together(columns: Columns, scores_KL: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the p-value of a joint change of the inputs alone.

    It is twice the smaller one of two p-values: that of the classifier of inputs, and that of the mean of the scores as
    a ridge regression predicts them from the inputs, fitted to the reference. The latter detects small changes of many
    inputs that add up in the scores.

    Args:
        columns: inputs.
        scores_KL: scores of the same records.
        rng: random generator for records and halves.
    """
    none_K0 = columns.terms_KF[:, :0]
    p = separability(columns, none_K0[~columns.live_K], none_K0[columns.live_K], rng).p
    terms_NF, scores_NL = columns.terms_KF[~columns.live_K], scores_KL[~columns.live_K]
    penalty = PREDICTION_RIDGE * len(terms_NF)
    means = [
        mean_p_value(columns.terms_KF @ _ridge(terms_NF, score_N - score_N.mean(), penalty), columns.live_K)
        for score_N in scores_NL.T
    ]
    return min(1.0, 2 * min(1.0 if p is None else p, min(means) * len(means)))


def drawn(rows: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return at most this number of random rows."""
    return rows if len(rows) <= most else rng.choice(rows, most, replace=False, shuffle=False)


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


def _predictors(names: Sequence[str], values_KD: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the feature and the values of predictors that are not columns."""
    for name, value_K in zip(names, values_KD.T, strict=True):
        distinct = np.unique(value_K)
        if len(distinct) > MOST_VALUES:
            yield name, value_K**2
        elif len(distinct) > 2:
            yield from ((name, (value_K == value).astype(float)) for value in distinct)


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
