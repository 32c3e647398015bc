"""The background: rows whose values replace those of masked features (`shap.baseline`).

The rows are listed in the settings, or computed from a dataset: its mean, or the record nearest to each cluster centre.
Clustering uses standardized numbers. In all other columns, and in numeric columns with nulls, the distance of two
different values is 1, as much as one standard deviation.

Array letters: N records, D numeric columns, C other columns, K clusters.

Source: Huang (1998), k-prototypes; Arthur and Vassilvitskii (2007), k-means++.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
STARTS, STEPS = 4, 50
"""Number of initializations of the clusters, and maximum number of steps after each."""


def summarize(features: pl.DataFrame, num_clusters: int | Literal["auto"] | None, seed: int) -> pl.DataFrame:
    """Return background rows of a dataset: its mean, or its representative records if `num_clusters` is given.

    Raises:
        BackgroundError: if the mean of a column is not defined.
    """
    if num_clusters is None:
        return mean(features)
    return representatives(features, None if num_clusters == "auto" else num_clusters, seed)


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
                f"mean needs numbers, but feature {column.name!r} has {content}; give rows, or set shap.num_clusters"
            )
        value = float(np.mean(column.drop_nulls().to_numpy().astype(np.float64)))
        row[column.name] = round(value) if column.dtype.is_integer() else value
    return pl.DataFrame([pl.Series(name, [value], dtype=features.schema[name]) for name, value in row.items()])


def representatives(features: pl.DataFrame, clusters: int | None, seed: int) -> pl.DataFrame:
    """Return the record nearest to each cluster centre, by descending cluster size and without duplicates.

    Args:
        features: dataset; its order does not matter.
        clusters: number of clusters, None for a number from 1 to 12 that `_choose_clusters` finds.
        seed: seed of the initial clusters.
    """
    sample = features[hash_rows(features)[0].argsort(kind="stable")[:MAX_CLUSTERED]]
    points = _points(sample)
    best = _choose_clusters(points, seed) if clusters is None else _cluster(points, clusters, seed)
    sizes_K = np.bincount(best.cluster_N, minlength=len(best.nearest_K))
    return sample[best.nearest_K[np.argsort(-sizes_K, kind="stable")]].unique(maintain_order=True)


def given(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pl.DataFrame:
    """Return rows from the settings as a table.

    Raises:
        BackgroundError: if there is no row, or the number of values in a row differs from the number of features.
    """
    if not rows:
        raise BackgroundError("there is no row; give at least one, or 'mean'")
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
class Points:
    """Records as points: standardized numbers, and codes of all other values."""

    numbers_ND: NDArray[np.float64]
    codes_NC: NDArray[np.int64]

    def distances(self, numbers_KD: NDArray[np.float64], codes_KC: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared distances_NK to cluster centres."""
        squares_NK: NDArray[np.float64] = (self.numbers_ND**2).sum(axis=1)[:, None] - 2 * self.numbers_ND @ numbers_KD.T
        squares_NK += (numbers_KD**2).sum(axis=1)
        for code_N, code_K in zip(self.codes_NC.T, codes_KC.T, strict=True):
            squares_NK += code_N[:, None] != code_K
        return squares_NK.clip(min=0)


@dataclass(frozen=True)
class Clustering:
    """Clusters of records.

    Attributes:
        cluster_N: cluster of each record.
        nearest_K: record nearest to each cluster centre.
        inertia: sum of squared distances to the centres.
    """

    cluster_N: NDArray[np.intp]
    nearest_K: NDArray[np.intp]
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
    for column in features:
        if column.dtype.is_numeric() and not column.null_count():
            values_N = column.to_numpy().astype(np.float64)
            deviation = values_N.std()
            numbers.append(((values_N - values_N.mean()) / (deviation if deviation > 0 else 1.0))[:, None])
        else:
            codes.append(column.rank("dense").fill_null(0).to_numpy().astype(np.int64)[:, None])
    return Points(np.hstack(numbers), np.hstack(codes))


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
            numbers_KD[k] = points.numbers_ND[members].mean(axis=0)
            codes_KC[k] = [np.bincount(code_N).argmax() for code_N in points.codes_NC[members].T]
    squares_NK = points.distances(numbers_KD, codes_KC)
    cluster_N = squares_NK.argmin(axis=1)
    used_K = np.unique(cluster_N)
    nearest_K = squares_NK[:, used_K].argmin(axis=0)
    return Clustering(np.searchsorted(used_K, cluster_N), nearest_K, float(squares_NK.min(axis=1).sum()))


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
