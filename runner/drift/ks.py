"""The two-sample Kolmogorov-Smirnov test, exact with ties: the largest distance between two empirical distributions.

Its p-value is that of the permutation test, counted instead of drawn: under the null hypothesis every order in which
the pooled records can be divided into reference and live ones is equally likely. Such an order is a path on a lattice,
and the p-value is the share of the paths that somewhere stray as far from the diagonal as the observed one. Distances
count only between different values, so a feature whose attribution is mostly the same has its exact p-value, too.

Array letters: N reference records, M live records, D features, K places in the pooled order.

Source: Hodges (1958), "The significance probability of the Smirnov two-sample test"; for ties Schröer and Trenkler
(1995), "Exact and randomization distributions of Kolmogorov-Smirnov tests two or three samples".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 300_000_000
"""Above so many lattice points of all features, a second or two, the limit distribution is taken, whose p-values are
larger if anything."""
TERMS = 100
ROUNDING = 1e-9


class Smirnov(NamedTuple):
    """The test of each feature.

    Attributes:
        distance_D: the largest difference of the two distribution functions, in [0, 1].
        p_D: the probability of a distance at least as large, were both samples from one distribution.
    """

    distance_D: NDArray[np.float64]
    p_D: NDArray[np.float64]


def smirnov(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> Smirnov:
    """Return the test of each column; both sides need a record at least.

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


def distance(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance_D of each column, without its p-value."""
    return np.array([_distance(*sides) for sides in zip(reference_ND.T, live_MD.T, strict=True)])


def _distance(reference_N: NDArray[np.float64], live_M: NDArray[np.float64]) -> float:
    """Return the distance of one column: the gap is widest at a value of the reference, or right before one."""
    reference_N, live_M = np.sort(reference_N), np.sort(live_M)
    values = np.unique(reference_N)
    gaps = [
        np.searchsorted(reference_N, values, side) / len(reference_N)
        - np.searchsorted(live_M, values, side) / len(live_M)
        for side in ("left", "right")
    ]
    return float(abs(np.array(gaps)).max())


def limit(distance_D: NDArray[np.float64], N: int, M: int) -> NDArray[np.float64]:
    """Return the p-values for samples without end: 2 Σ (−1)^(k−1) exp(−2 k² λ²) with λ = D √(N M / (N + M)).

    Source: Smirnov (1948), "Table for estimating the goodness of fit of empirical distributions".
    """
    root_D = distance_D * np.sqrt(N * M / (N + M))
    k = np.arange(1, TERMS + 1)[:, None]
    series_D = 2 * ((-1.0) ** (k - 1) * np.exp(-2 * (k * root_D) ** 2)).sum(axis=0)
    return np.where(root_D < 0.2, 1.0, series_D.clip(0, 1))


def critical(N: int, M: int, level: float) -> float:
    """Return the distance whose p-value falls to a level, for samples without end; above 1 nothing reaches it.

    It inverts the first term of `limit`.
    """
    return float(np.sqrt(-np.log(level / 2) / 2 * (N + M) / (N * M)))


def _straying(
    small: int, large: int, distance_D: NDArray[np.float64], ends_KD: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of the paths from (0, 0) to (small, large) that reach the distance where a value ends.

    `stray_ID` holds, after k steps, the share of those paths to (i, k - i) that have reached it.
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
