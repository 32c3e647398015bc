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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.drift.counts import sorted_extremes

MOST_POINTS = 20_000_000
"""Maximum number of lattice points of all columns for the exact distribution (about 0.2 s of work).

Above it, the limit distribution is used, whose p-values are conservative.
"""
MOST_STEPS = 12_000
"""Maximum number of pooled records for the exact distribution, for the same reason."""
TERMS = 100
"""Number of terms of the series of the limit distribution."""
ROUNDING = 1e-9
"""Relative tolerance when a path is compared with the observed distance."""
FEW_TIES = 0.5
"""Share of different values from which a column has few ties; its paths near the diagonal pass few points."""
Columns = Sequence[NDArray[np.float64]]
"""Sorted values of each column."""


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
    return smirnov_sorted(_sorted(reference_ND), _sorted(live_MD))


def distribution(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> Smirnov:
    """Test the distribution and the tails of each column; the p-value is twice the smaller one of both tests."""
    sides = _sorted(reference_ND), _sorted(live_MD)
    tested = smirnov_sorted(*sides)
    tails_D = np.array([sorted_extremes(*columns) for columns in zip(*sides, strict=True)])
    return Smirnov(tested.distance_D, np.minimum(1.0, 2 * np.minimum(tested.p_D, tails_D)))


def distance(reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return distance_D, the statistic of each column without its p-value."""
    return _distances(_sorted(reference_ND), _sorted(live_MD))


def _sorted(values_ND: NDArray[np.float64]) -> Columns:
    return [np.sort(column_N) for column_N in values_ND.T]


def smirnov_sorted(reference: Columns, live: Columns) -> Smirnov:
    """Test each column of sorted values; all columns of one side have equally many."""
    N, M = len(reference[0]), len(live[0])
    distance_D = _distances(reference, live)
    p_D = limit(distance_D, N, M)
    if N + M > MOST_STEPS:
        return Smirnov(distance_D, p_D)
    pooled = [np.sort(np.concatenate(sides), kind="stable") for sides in zip(reference, live, strict=True)]
    ends_KD = np.ones((N + M, len(pooled)), dtype=bool)
    ends_KD[:-1] = np.column_stack([column_K[:-1] != column_K[1:] for column_K in pooled])
    tied_D = ends_KD.mean(axis=0) < FEW_TIES
    for columns_D in (np.flatnonzero(tied_D), np.flatnonzero(~tied_D)):
        lattice = _Lattice.of(min(N, M), max(N, M), distance_D[columns_D], ends_KD[:, columns_D])
        if 0 < lattice.points <= MOST_POINTS:
            p_D[columns_D] = lattice.straying()
    return Smirnov(distance_D, p_D)


def _distances(reference: Columns, live: Columns) -> NDArray[np.float64]:
    return np.array([_distance(*sides) for sides in zip(reference, live, strict=True)])


def _distance(reference_N: NDArray[np.float64], live_M: NDArray[np.float64]) -> float:
    """Return the distance of one column; the supremum is attained at a reference value or directly before one."""
    first_N = np.append(True, reference_N[1:] != reference_N[:-1])
    values = reference_N[first_N]
    starts = np.append(np.flatnonzero(first_N), len(reference_N))
    gaps = [
        starts[:-1] / len(reference_N) - np.searchsorted(live_M, values, "left") / len(live_M),
        starts[1:] / len(reference_N) - np.searchsorted(live_M, values, "right") / len(live_M),
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


@dataclass(frozen=True)
class _Lattice:
    """Paths from (0, 0) to (small, large), and the points of the lattice that paths near the diagonal pass.

    Attributes:
        bound_D1: distance of each column in units of the lattice.
        ends_KD: whether a value is the last one of equal values; distances count only there.
        low_K, high_K: range of the positions, in the smaller sample, that paths near the diagonal reach by each step.
    """

    small: int
    large: int
    bound_D1: NDArray[np.float64]
    ends_KD: NDArray[np.bool_]
    low_K: NDArray[np.intp]
    high_K: NDArray[np.intp]

    @classmethod
    def of(cls, small: int, large: int, distance_D: NDArray[np.float64], ends_KD: NDArray[np.bool_]) -> _Lattice:
        """Return the lattice of all columns; its range is the union of those of the columns."""
        K = small + large
        bound_D1 = (distance_D * (1 - ROUNDING) * small * large)[:, None]
        steps_K1 = np.arange(1, K + 1)[:, None]
        last_KD = np.maximum.accumulate(np.where(ends_KD, steps_K1, 0))
        last_KD = np.concatenate([np.zeros((1, len(distance_D)), dtype=last_KD.dtype), last_KD[:-1]])
        low_KD = np.floor((last_KD * small - bound_D1.T) / K).astype(np.intp)
        high_KD = np.ceil((last_KD * small + bound_D1.T) / K).astype(np.intp) + steps_K1 - last_KD
        low_K = low_KD.min(axis=1, initial=small).clip(np.maximum(0, steps_K1[:, 0] - large))
        high_K = np.minimum(high_KD.max(axis=1, initial=0), np.minimum(steps_K1[:, 0], small))
        return cls(small, large, bound_D1, ends_KD, low_K, high_K)

    @property
    def points(self) -> int:
        """Number of points of all columns."""
        return int((self.high_K - self.low_K + 1).sum()) * len(self.bound_D1)

    def straying(self) -> NDArray[np.float64]:
        """Return the share of paths that reach the distance after the last of equal values.

        After k steps, `stray_DI` is the share of paths to (i, k - i) that reached it: 1 outside of the range.
        """
        stray_DI = np.ones((len(self.bound_D1), self.small + 1))
        stray_DI[:, 0] = 0.0
        before_DI = np.ones_like(stray_DI)
        i_I = np.arange(self.small + 1, dtype=np.float64)
        far_I = i_I * (self.small + self.large)
        ends_K = np.any(self.ends_KD, axis=1)
        for k, (low, high) in enumerate(zip(self.low_K.tolist(), self.high_K.tolist(), strict=True), 1):
            before_DI, stray_DI = stray_DI, before_DI
            here, first = slice(low, high + 1), max(low, 1)
            weight_I = i_I[here] / k
            stray_DI[:, here] = before_DI[:, here] * (1 - weight_I)
            stray_DI[:, first : high + 1] += before_DI[:, first - 1 : high] * weight_I[first - low :]
            if ends_K[k - 1]:
                far_DI = (abs(far_I[here] - k * self.small) >= self.bound_D1) & self.ends_KD[k - 1][:, None]
                stray_DI[:, here][far_DI] = 1.0
            stray_DI[:, max(0, low - 2) : low] = 1.0
            stray_DI[:, high + 1 : high + 2] = 1.0
        return stray_DI[:, self.small].clip(0, 1)


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
