"""Representative records as the background: one of each cluster of a dataset, real ones, so that any model takes them.

Numbers are standardised; a text, a boolean or a null that differs counts as much as a standard deviation. Every cluster
is represented by the record nearest to its centre.

Array letters: N records, D numeric columns, C others, K clusters.

Source: Huang (1998), k-prototypes; Arthur and Vassilvitskii (2007), k-means++.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.explain.hashing import keys

MOST = 12
"""Clusters that are tried when their number is to be found."""
SPLIT = 2 / pi
"""Of a normal cluster's variance in one dimension, what goes when it is divided in that dimension."""
MOST_RECORDS = 10_000
"""Of more records so many are clustered, drawn by what they hold."""
STARTS, STEPS = 4, 50


def representatives(features: pl.DataFrame, clusters: int | None, seed: int) -> pl.DataFrame:
    """Return one record of each cluster, the largest cluster first; fewer where there are not as many different ones.

    Args:
        features: the dataset; its order does not matter.
        clusters: how many, None for a number from 1 to 12: until one more hardly makes them tighter.
        seed: draws where the clusters start.
    """
    drawn = features[keys(features)[0].argsort(kind="stable")[:MOST_RECORDS]]
    points = _points(drawn)
    best = _described(points, seed) if clusters is None else _clustered(points, clusters, seed)
    sizes_K = np.bincount(best.cluster_N, minlength=len(best.nearest_K))
    return drawn[best.nearest_K[np.argsort(-sizes_K, kind="stable")]].unique(maintain_order=True)


@dataclass(frozen=True)
class Points:
    """Records as numbers, standardised, and as codes of everything else."""

    numbers_ND: NDArray[np.float64]
    codes_NC: NDArray[np.int64]

    def distances(self, numbers_KD: NDArray[np.float64], codes_KC: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared distances_NK to centres."""
        squares_NK: NDArray[np.float64] = (self.numbers_ND**2).sum(axis=1)[:, None] - 2 * self.numbers_ND @ numbers_KD.T
        squares_NK += (numbers_KD**2).sum(axis=1)
        for code_N, code_K in zip(self.codes_NC.T, codes_KC.T, strict=True):
            squares_NK += code_N[:, None] != code_K
        return squares_NK.clip(min=0)


@dataclass(frozen=True)
class Clustered:
    """Which cluster each record belongs to, the record nearest to each centre, and the sum of squared distances."""

    cluster_N: NDArray[np.intp]
    nearest_K: NDArray[np.intp]
    inertia: float


def _described(points: Points, seed: int) -> Clustered:
    """Return so many clusters that one more is no better than twice what dividing a normal one would be."""
    best = _clustered(points, 1, seed)
    dimensions = points.numbers_ND.shape[1] + points.codes_NC.shape[1]
    for clusters in range(2, MOST + 1):
        more = _clustered(points, clusters, seed)
        if more.inertia >= best.inertia * (1 - 2 * SPLIT / (dimensions * (clusters - 1))):
            break
        best = more
    return best


def _points(features: pl.DataFrame) -> Points:
    numbers, codes = [np.zeros((features.height, 0))], [np.zeros((features.height, 0), dtype=np.int64)]
    for column in features:
        if column.dtype.is_numeric() and not column.null_count():
            values_N = column.to_numpy().astype(np.float64)
            spread = values_N.std()
            numbers.append(((values_N - values_N.mean()) / (spread if spread > 0 else 1.0))[:, None])
        else:
            codes.append(column.rank("dense").fill_null(0).to_numpy().astype(np.int64)[:, None])
    return Points(np.hstack(numbers), np.hstack(codes))


def _clustered(points: Points, clusters: int, seed: int) -> Clustered:
    """Return the best of several runs."""
    rng = np.random.default_rng([seed, clusters])
    return min((_run(points, clusters, rng) for _ in range(STARTS)), key=lambda found: found.inertia)


def _run(points: Points, clusters: int, rng: np.random.Generator) -> Clustered:
    centres_K = _started(points, clusters, rng)
    numbers_KD, codes_KC = points.numbers_ND[centres_K], points.codes_NC[centres_K]
    cluster_N = np.full(len(points.numbers_ND), -1)
    for _ in range(STEPS):
        squares_NK = points.distances(numbers_KD, codes_KC)
        before_N, cluster_N = cluster_N, squares_NK.argmin(axis=1)
        if (before_N == cluster_N).all():
            break
        for k in np.unique(cluster_N).tolist():
            inside = cluster_N == k
            numbers_KD[k] = points.numbers_ND[inside].mean(axis=0)
            codes_KC[k] = [np.bincount(code_N).argmax() for code_N in points.codes_NC[inside].T]
    squares_NK = points.distances(numbers_KD, codes_KC)
    cluster_N = squares_NK.argmin(axis=1)
    used_K = np.unique(cluster_N)
    nearest_K = squares_NK[:, used_K].argmin(axis=0)
    return Clustered(np.searchsorted(used_K, cluster_N), nearest_K, float(squares_NK.min(axis=1).sum()))


def _started(points: Points, clusters: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the places of records far from each other: each drawn by its squared distance from those before."""
    N = len(points.numbers_ND)
    centres = [int(rng.integers(N))]
    while len(centres) < min(clusters, N):
        squares_N = points.distances(points.numbers_ND[centres], points.codes_NC[centres]).min(axis=1)
        total = squares_N.sum()
        if total <= 0:
            break
        centres.append(int(rng.choice(N, p=squares_N / total)))
    return np.array(centres)
