"""Statistical tests: Kolmogorov-Smirnov tests by column, and Holm's correction.

The Kolmogorov-Smirnov statistic is the largest distance between two empirical distribution functions. The p-value is
that of the permutation test, but it is computed exactly, without sampling. Under the null hypothesis, all divisions of
the pooled records into reference and live records are equally likely. Each division is a path on a lattice. The p-value
is the share of paths that leave the diagonal at least as far as the observed path. Between equal values, distances are
not counted, so the p-value is exact with ties, too.

Array letters: N reference records, M live records, D columns, K pooled records.

Source: Hodges (1958), "The significance probability of the Smirnov two-sample test"; for ties Schröer and Trenkler
(1995), "Exact and randomization distributions of Kolmogorov-Smirnov tests two or three samples".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.drift.counts import extremes

MOST_POINTS = 100_000_000
"""Maximum number of lattice points of all features for the exact distribution (about 0.5 s of work).

Above it, the limit distribution is used, whose p-values are conservative.
"""
TERMS = 100
"""Number of terms of the series of the limit distribution."""
ROUNDING = 1e-9
"""Relative tolerance when a path is compared with the observed distance."""


class Smirnov(NamedTuple):
    """Test results by feature.

    Attributes:
        distance_D: largest difference of the two distribution functions, in [0, 1].
        p_D: probability of a distance at least as large if both samples come from one distribution.
    """

    distance_D: NDArray[np.float64]
    p_D: NDArray[np.float64]


def smirnov(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> Smirnov:
    """Test each column; both samples need at least one record.

    >>> smirnov(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))
    Smirnov(distance_D=array([1.]), p_D=array([0.33333333]))
    """
    N, M = len(reference_ND), len(live_MD)
    distance_D = distance(reference_ND, live_MD)
    if distance_D.size * N * M > MOST_POINTS:
        return Smirnov(distance_D, limit(distance_D, N, M))
    sorted_KD = np.sort(np.concatenate([reference_ND, live_MD]), axis=0)
    ends_KD = np.ones(sorted_KD.shape, dtype=bool)
    ends_KD[:-1] = sorted_KD[:-1] != sorted_KD[1:]
    return Smirnov(distance_D, _straying(min(N, M), max(N, M), distance_D, ends_KD))


def distribution(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> Smirnov:
    """Test the distribution and the tails of each column; the p-value is twice the smaller one of both tests."""
    tested = smirnov(reference_ND, live_MD)
    tails_D = np.array([extremes(*sides) for sides in zip(reference_ND.T, live_MD.T, strict=True)])
    return Smirnov(tested.distance_D, np.minimum(1.0, 2 * np.minimum(tested.p_D, tails_D)))


def distance(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return distance_D, the statistic of each column without its p-value."""
    return np.array([_distance(*sides) for sides in zip(reference_ND.T, live_MD.T, strict=True)])


def _distance(reference_N: NDArray[np.float64], live_M: NDArray[np.float64]) -> float:
    """Return the distance of one column; the supremum is attained at a reference value or directly before one."""
    reference_N, live_M = np.sort(reference_N), np.sort(live_M)
    values = np.unique(reference_N)
    gaps = [
        np.searchsorted(reference_N, values, side) / len(reference_N)
        - np.searchsorted(live_M, values, side) / len(live_M)
        for side in ("left", "right")
    ]
    return float(abs(np.array(gaps)).max())


def limit(distance_D: NDArray[np.float64], N: int, M: int) -> NDArray[np.float64]:
    """Return asymptotic p-values: 2 Σ (−1)^(k−1) exp(−2 k² λ²) with λ = D √(N M / (N + M)).

    Source: Smirnov (1948), "Table for estimating the goodness of fit of empirical distributions".
    """
    root_D = distance_D * np.sqrt(N * M / (N + M))
    k = np.arange(1, TERMS + 1)[:, None]
    series_D = 2 * ((-1.0) ** (k - 1) * np.exp(-2 * (k * root_D) ** 2)).sum(axis=0)
    return np.where(root_D < 0.2, 1.0, series_D.clip(0, 1))


def critical(N: int, M: int, level: float) -> float:
    """Return the critical distance at a significance level, by the first term of `limit`; may exceed 1."""
    return float(np.sqrt(-np.log(level / 2) / 2 * (N + M) / (N * M)))


def _straying(
    small: int, large: int, distance_D: NDArray[np.float64], ends_KD: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of paths from (0, 0) to (small, large) that reach the distance after the last of equal values.

    After k steps, `stray_DI` is the share of paths to (i, k - i) that reached it.
    """
    D = len(distance_D)
    stray_DI = np.zeros((D, small + 1))
    before_DI = np.zeros_like(stray_DI)
    bound_D1 = (distance_D * (1 - ROUNDING) * small * large)[:, None]
    i = np.arange(small + 1, dtype=np.float64)
    for k in range(1, small + large + 1):
        low, high = max(0, k - large), min(k, small)
        before_DI, stray_DI = stray_DI, before_DI
        here = slice(low, high + 1)
        weight = i[here] / k
        np.multiply(before_DI[:, here], 1 - weight, out=stray_DI[:, here])
        first = max(low, 1)
        stray_DI[:, first : high + 1] += before_DI[:, first - 1 : high] * (i[first : high + 1] / k)
        if ends_KD[k - 1].any():
            far_DI = (abs(i[here] * large - (k - i[here]) * small) >= bound_D1) & ends_KD[k - 1][:, None]
            stray_DI[:, here][far_DI] = 1.0
    return stray_DI[:, small].clip(0, 1)


def holm(p_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm-adjusted p-values, which control the family-wise error rate.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order_D = p_D.argsort(kind="stable")
    factors_D = np.arange(len(p_D), 0, -1)
    adjusted_D = np.empty_like(p_D)
    adjusted_D[order_D] = np.maximum.accumulate(p_D[order_D] * factors_D).clip(max=1)
    return adjusted_D
