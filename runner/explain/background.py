"""The background: rows whose values replace those of masked features (`shap.baseline`).

The rows are listed in the settings, or computed from a dataset: its mean, its medians and most frequent values, or the
most central record of each cluster. Clustering uses standardized numbers. In all other columns the distance of two
different values is 1, as much as one standard deviation. A null is one more value: its distance to any number is 1.

Array letters: N records, D numeric columns, G numeric columns with nulls, C columns of codes, K clusters.

Source: Huang (1998), k-prototypes; San, Huynh and Nakamori (2004), frequencies as centres of categories; Arthur and
Vassilvitskii (2007), k-means++.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import pi
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.domain.numbers import plural
from runner.errors import BackgroundError
from runner.explain.masking import hash_rows

MAX_NUMBER = 1e100
"""Absolute value from which a number in the settings is considered a mistake."""
MAX_CLUSTERS = 12
"""Maximum number of clusters with `shap.num_clusters=auto`."""
SPLIT = 2 / pi
"""Share of the variance that splitting a one-dimensional Gaussian at its mean removes."""
MAX_CLUSTERED = 10_000
"""Maximum number of clustered records; larger datasets are subsampled by content hash."""
UNUSUAL = 0.1
"""Share of the records whose scores are unusual, half of them low and half of them high."""
ROUNDING = 1e-9
"""Largest absolute and relative difference between two equal scores."""
STARTS, STEPS = 4, 50
"""Number of initializations of the clusters, and maximum number of steps after each."""


class Summary(StrEnum):
    """Rows that are computed from a dataset (`shap.baseline`)."""

    MEAN = "mean"
    MEDIAN_MODE = "median_mode"


def summarize(
    features: pl.DataFrame, summary: Summary, num_clusters: int | Literal["auto"] | None, seed: int
) -> pl.DataFrame:
    """Return background rows of a dataset: a summary, or its representative records if `num_clusters` is given.

    Raises:
        BackgroundError: if the mean of a column is not defined.
    """
    if num_clusters is not None:
        return representatives(features, None if num_clusters == "auto" else num_clusters, seed)
    return mean(features) if summary is Summary.MEAN else median_mode(features)


def mean(features: pl.DataFrame) -> pl.DataFrame:
    """Return one row of column means; means of integer columns are rounded half to even.

    Raises:
        BackgroundError: if a column has no numbers.

    >>> mean(pl.DataFrame({"age": [40, 41], "rate": [0.5, 1.0]})).row(0)
    (40, 0.75)
    """
    row = {}
    for column in features:
        if not column.dtype.is_numeric():
            content = "only nulls" if column.dtype == pl.Null else f"values of type {column.dtype}"
            raise BackgroundError(
                f"mean needs numbers, but feature {column.name!r} has {content}; "
                "set shap.baseline=median_mode or shap.num_clusters, or give rows"
            )
        value = float(np.mean(column.drop_nulls().to_numpy().astype(np.float64)))
        row[column.name] = round(value) if column.dtype.is_integer() else value
    return pl.DataFrame([pl.Series(name, [value], dtype=features.schema[name]) for name, value in row.items()])


def median_mode(features: pl.DataFrame) -> pl.DataFrame:
    """Return one row with the median of each numeric column, and the most frequent value of each other column.

    Medians of integer columns are rounded half to even. A numeric column with more nulls than numbers has null. In
    other columns null counts as a value. Of equally frequent values the smallest is taken, and null last.

    >>> median_mode(pl.DataFrame({"age": [40, None, 41, 50], "job": ["b", "a", "b", None]})).row(0)
    (41, 'b')
    """
    return pl.DataFrame([pl.Series(column.name, [_typical_value(column)], dtype=column.dtype) for column in features])


def _typical_value(column: pl.Series) -> Any:
    known = column.drop_nulls()
    if not column.dtype.is_numeric():
        counts = column.value_counts().sort("count", column.name, descending=[True, False], nulls_last=True)
        return counts.item(0, column.name)
    if len(known) < column.null_count():
        return None
    value = float(np.median(known.to_numpy().astype(np.float64)))
    return round(value) if column.dtype.is_integer() else value


def representatives(features: pl.DataFrame, clusters: int | None, seed: int) -> pl.DataFrame:
    """Return the most central record of each cluster, by descending cluster size and without duplicates.

    Args:
        features: dataset; its order does not matter.
        clusters: number of clusters, None for a number from 1 to 12 that `_choose_clusters` finds.
        seed: seed of the initial clusters.
    """
    sample = features[hash_rows(features)[0].argsort(kind="stable")[:MAX_CLUSTERED]]
    points = _points(sample)
    best = _choose_clusters(points, seed) if clusters is None else _cluster(points, clusters, seed)
    medoids_K = points.medoids(best.numbers_KD, best.cluster_N)
    return sample[medoids_K[np.argsort(-np.bincount(best.cluster_N), kind="stable")]].unique(maintain_order=True)


def given(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pl.DataFrame:
    """Return rows from the settings as a table.

    Raises:
        BackgroundError: if there is no row, or the number of values in a row differs from the number of features.
    """
    if not rows:
        raise BackgroundError("there is no row; give at least one, or 'mean' or 'median_mode'")
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise BackgroundError(f"row {i} has {plural(len(row), 'value')}; expected {len(names)}, one per feature")
    return pl.DataFrame([_given_column(name, [row[d] for row in rows]) for d, name in enumerate(names)])


def _given_column(name: str, values: list[Any]) -> pl.Series:
    known = [value for value in values if value is not None]
    kinds = {{str: "string", bool: "boolean"}.get(type(value), "number") for value in known}
    are_numbers = kinds == {"number"}
    if are_numbers and not all(isinstance(value, int | float) and abs(value) < MAX_NUMBER for value in known):
        expected = f"finite numbers up to {MAX_NUMBER:g}, strings, booleans or nulls"
        raise BackgroundError(f"feature {name!r} has the values {values}; expected {expected}")
    if len(kinds) > 1:
        raise BackgroundError(f"feature {name!r} has values of different types: {values}")
    if are_numbers and any(isinstance(value, float) or abs(value) >= 2**63 for value in known):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, values)


def align(background: pl.DataFrame, features: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return background and features with the same column types, so that their values are interchangeable.

    A numeric column has integers only if the features have integers and all numbers of the background are integral.
    Otherwise it has floats.

    Raises:
        BackgroundError: if the types of a feature differ, such as numbers and strings.
    """
    if background.columns != features.columns:
        background = pl.DataFrame([background[name] for name in features.columns])
    if background.dtypes == features.dtypes:
        return background, features
    aligned_background, aligned_features = [], []
    for column, replacement in zip(features, background, strict=True):
        dtype = _common_type(column, replacement)
        aligned_background.append(replacement.cast(dtype))
        aligned_features.append(column.cast(dtype))
    return pl.DataFrame(aligned_background), pl.DataFrame(aligned_features)


def _common_type(column: pl.Series, replacement: pl.Series) -> pl.DataType:
    own, replaced = column.dtype, replacement.dtype
    if own.is_integer() and replaced.is_float() and _is_integral(replacement):
        return own
    if replaced in (own, pl.Null):
        return own
    if own == pl.Null:
        return replaced
    if own.is_numeric() and replaced.is_numeric():
        return pl.Float64()
    here, there = (f"a {_type_name(each.dtype)} ({each[0]!r})" for each in (replacement, column))
    raise BackgroundError(f"feature {column.name!r} is {here} here, but {there} in the records")


def _type_name(dtype: pl.DataType) -> str:
    return "number" if dtype.is_numeric() else "boolean" if dtype == pl.Boolean else "string"


def _is_integral(column: pl.Series) -> bool:
    """Return whether all numbers of a float column are 64-bit integers."""
    values = column.drop_nulls()
    return bool(((values == values.round()) & (values.abs() < 2**63)).all())


def identity(background: pl.DataFrame) -> str:
    """Return a hash of the background's names and values; integral floats hash like integers."""
    rows = [[int(v) if isinstance(v, float) and v.is_integer() else v for v in row] for row in background.rows()]
    return hashlib.sha256(json.dumps([background.columns, rows]).encode()).hexdigest()


@dataclass(frozen=True)
class BaselineScore:
    """Score of the background for one label, among the scores of the records.

    Attributes:
        score: mean of the model outputs on the background rows, in the explained unit.
        quantile: share of the records with a lower score; equal scores count half.
    """

    label: str
    score: float
    quantile: float


def baseline_scores(attributions: Attributions) -> tuple[BaselineScore, ...]:
    """Return the score of the background for each label.

    >>> scores_NL = np.array([[0.1], [0.2], [0.2], [0.7]])
    >>> phi_NDL, expected_L = np.zeros((4, 0, 1)), np.array([0.2])
    >>> baseline_scores(Attributions((), ("yes",), phi_NDL, expected_L, scores_NL, 4))
    (BaselineScore(label='yes', score=0.2, quantile=0.5),)
    """
    expected_L, scores_NL = attributions.expected_L, attributions.scores_NL
    equal_NL = np.isclose(scores_NL, expected_L, rtol=ROUNDING, atol=ROUNDING)
    quantile_L = (np.where(equal_NL, 0.5, scores_NL < expected_L)).mean(axis=0)
    found = zip(attributions.labels, expected_L.tolist(), quantile_L.tolist(), strict=True)
    return tuple(BaselineScore(*values) for values in found)


def most_unusual(scores: Sequence[BaselineScore]) -> tuple[BaselineScore, bool]:
    """Return the score farthest from the median, and whether it is unusual.

    With several labels, each may be unusual by chance. So the share `UNUSUAL` is divided by their number.
    """
    worst = max(scores, key=lambda each: abs(each.quantile - 0.5))
    low, high = usual_range(len(scores))
    return worst, not low <= worst.quantile <= high


def usual_range(labels: int) -> tuple[float, float]:
    """Return the range of usual quantiles of the score of the background, given the number of labels."""
    tail = UNUSUAL / 2 / labels
    return tail, 1 - tail


@dataclass(frozen=True)
class Points:
    """Records as points: standardized numbers, and codes of all other values.

    Attributes:
        numbers_ND: numbers; 0, the mean, in place of nulls.
        gaps_G: indices of the numeric columns with nulls.
        missing_NG: whether each of their values is null; the codes contain the same, so that null differs from numbers.
        codes_NC: codes of the values of other columns.
    """

    numbers_ND: NDArray[np.float64]
    gaps_G: NDArray[np.intp]
    missing_NG: NDArray[np.bool_]
    codes_NC: NDArray[np.int64]

    def distances(self, numbers_KD: NDArray[np.float64], codes_KC: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared distances_NK to cluster centres."""
        squares_NK = self._number_distances(numbers_KD)
        for code_N, code_K in zip(self.codes_NC.T, codes_KC.T, strict=True):
            squares_NK += code_N[:, None] != code_K
        return squares_NK.clip(min=0)

    def _number_distances(self, numbers_KD: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return squared distances_NK in the columns in which a record has numbers."""
        squares_NK: NDArray[np.float64] = (self.numbers_ND**2).sum(axis=1)[:, None] - 2 * self.numbers_ND @ numbers_KD.T
        squares_NK += (numbers_KD**2).sum(axis=1)
        squares_NK -= self.missing_NG @ (numbers_KD[:, self.gaps_G] ** 2).T
        return squares_NK

    def mean(self, members: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the means_D of the numbers of some records; 0 for a column in which all are null."""
        mean_D: NDArray[np.float64] = self.numbers_ND[members].mean(axis=0)
        known_G = (~self.missing_NG[members]).sum(axis=0)
        mean_D[self.gaps_G] *= members.sum() / known_G.clip(min=1)
        return mean_D

    def medoids(self, numbers_KD: NDArray[np.float64], cluster_N: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the index_K of the most central record of each cluster.

        It has the smallest sum of its squared distance to the centre in numbers, and of the shares of the cluster's
        records from which its other values differ. So a value that occurs once is as central as any other such value.
        """
        squares_NK = self._number_distances(numbers_KD).clip(min=0)
        sizes_K = np.bincount(cluster_N)
        for code_N in self.codes_NC.T:
            codes = code_N.max() + 1
            counts = np.bincount(cluster_N * codes + code_N, minlength=len(sizes_K) * codes).reshape(-1, codes)
            squares_NK += 1 - counts.T[code_N] / sizes_K
        medoid_K: NDArray[np.intp] = squares_NK.argmin(axis=0)
        return medoid_K


@dataclass(frozen=True)
class Clustering:
    """Clusters of records.

    Attributes:
        cluster_N: cluster of each record.
        numbers_KD: numbers of the centres.
        inertia: sum of squared distances to the centres.
    """

    cluster_N: NDArray[np.intp]
    numbers_KD: NDArray[np.float64]
    inertia: float


def _choose_clusters(points: Points, seed: int) -> Clustering:
    """Add clusters until the next one cuts the inertia by less than twice what splitting one Gaussian would."""
    best = _cluster(points, 1, seed)
    dimensions = points.numbers_ND.shape[1] + points.codes_NC.shape[1]
    for clusters in range(2, MAX_CLUSTERS + 1):
        more = _cluster(points, clusters, seed)
        if more.inertia >= best.inertia * (1 - 2 * SPLIT / (dimensions * (clusters - 1))):
            break
        best = more
    return best


def _points(features: pl.DataFrame) -> Points:
    numbers, codes = [np.zeros((features.height, 0))], [np.zeros((features.height, 0), dtype=np.int64)]
    gaps, missing = list[int](), [np.zeros((features.height, 0), dtype=np.bool_)]
    for column in features:
        is_missing_N1 = column.is_null().to_numpy()[:, None]
        if not column.dtype.is_numeric():
            codes.append(column.rank("dense").fill_null(0).to_numpy().astype(np.int64)[:, None])
            continue
        if is_missing_N1.any():
            gaps.append(len(numbers) - 1)
            missing.append(is_missing_N1)
            codes.append(is_missing_N1.astype(np.int64))
        numbers.append(_standardized(column)[:, None])
    return Points(np.hstack(numbers), np.array(gaps, dtype=np.intp), np.hstack(missing), np.hstack(codes))


def _standardized(column: pl.Series) -> NDArray[np.float64]:
    """Return numbers with mean 0 and variance 1, and 0 in place of nulls."""
    values_N, known = np.zeros(len(column)), column.drop_nulls().to_numpy().astype(np.float64)
    if not known.size:
        return values_N
    deviation = known.std()
    values_N[column.is_not_null().to_numpy()] = (known - known.mean()) / (deviation if deviation > 0 else 1.0)
    return values_N


def _cluster(points: Points, clusters: int, seed: int) -> Clustering:
    """Return the clustering with the smallest inertia of several runs."""
    rng = np.random.default_rng([seed, clusters])
    return min((_run(points, clusters, rng) for _ in range(STARTS)), key=lambda clustering: clustering.inertia)


def _run(points: Points, clusters: int, rng: np.random.Generator) -> Clustering:
    centres_K = _initial_centres(points, clusters, rng)
    numbers_KD, codes_KC = points.numbers_ND[centres_K], points.codes_NC[centres_K]
    cluster_N = np.full(len(points.numbers_ND), -1)
    for _ in range(STEPS):
        squares_NK = points.distances(numbers_KD, codes_KC)
        previous_N, cluster_N = cluster_N, squares_NK.argmin(axis=1)
        if (previous_N == cluster_N).all():
            break
        for k in np.unique(cluster_N).tolist():
            members = cluster_N == k
            numbers_KD[k] = points.mean(members)
            codes_KC[k] = [np.bincount(code_N).argmax() for code_N in points.codes_NC[members].T]
    squares_NK = points.distances(numbers_KD, codes_KC)
    cluster_N = squares_NK.argmin(axis=1)
    used_K, cluster_N = np.unique(cluster_N, return_inverse=True)
    return Clustering(cluster_N, numbers_KD[used_K], float(squares_NK.min(axis=1).sum()))


def _initial_centres(points: Points, clusters: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the indices of distant records (k-means++).

    The first one is drawn uniformly. Each further one is drawn with a probability proportional to its squared distance
    to the nearest record drawn before.
    """
    N = len(points.numbers_ND)
    centres = [int(rng.integers(N))]
    while len(centres) < min(clusters, N):
        squares_N = points.distances(points.numbers_ND[centres], points.codes_NC[centres]).min(axis=1)
        total = squares_N.sum()
        if total <= 0:
            break
        centres.append(int(rng.choice(N, p=squares_N / total)))
    return np.array(centres)
