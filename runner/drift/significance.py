"""Statistical tests: Kolmogorov-Smirnov tests by column, and Holm's correction.

The Kolmogorov-Smirnov statistic is the largest distance between two empirical distribution functions. The p-value is
that of the permutation test, but it is computed exactly, without sampling. Under the null hypothesis, all divisions of
the pooled records into reference and live records are equally likely. Each division is a path on a lattice. The p-value
is the share of paths that leave the diagonal at least as far as the observed path. Between equal values, distances are
not counted, so the p-value is exact with ties, too.

The p-value of a mean is that of the permutation test, by a saddlepoint approximation. It is close also in the far tail,
for few records, and for values that are mostly equal, where a normal approximation is too small by any factor.

Array letters: N reference records, M live records, D columns, K pooled records.

Source: Hodges (1958), "The significance probability of the Smirnov two-sample test"; for ties Schröer and Trenkler
(1995), "Exact and randomization distributions of Kolmogorov-Smirnov tests two or three samples"; Robinson (1982),
"Saddlepoint approximations for permutation tests and confidence intervals", and Skovgaard (1987) for the conditional
tail.
"""

from __future__ import annotations

import math
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
TOGETHER = 64
"""Number of steps whose shares and ranges are computed together, because numpy's calls take longer than their work."""
TERMS = 100
"""Number of terms of the series of the limit distribution."""
ROUNDING = 1e-9
"""Relative tolerance when a path is compared with the observed distance."""
FEW_TIES = 0.5
"""Share of different values from which a column has few ties; its paths near the diagonal pass few points."""
NEWTON_STEPS = 40
NEWTON_TOLERANCE = 1e-6
MOST_LATTICE, LATTICE_FACTOR = 20, 5
"""Maximum number of different values whose sums are assumed to be on a lattice, and the factor of their p-values,
because the approximation is that of a continuous distribution."""
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

        After k steps, `stray_DI[:, 1 + i]` is the share of paths to (i, k - i) that reached it: 1 outside of the range.
        """
        stray_DI = np.ones((len(self.bound_D1), 1 + self.small + 1))
        stray_DI[:, 1] = 0.0
        for start in range(0, len(self.low_K), TOGETHER):
            steps = slice(start, start + TOGETHER)
            low, high = int(self.low_K[steps].min()), int(self.high_K[steps].max())
            band_DI = stray_DI[:, low : high + 2].copy()
            here_DI, left_DI = band_DI[:, 1:], band_DI[:, :-1]
            stay_DI, move_DI = np.empty_like(here_DI), np.empty_like(here_DI)
            for stay_I, move_I, reached_DI in zip(*self._steps(steps, np.arange(low - 1, high + 1)), strict=True):
                np.multiply(here_DI, stay_I, out=stay_DI)
                np.multiply(left_DI, move_I, out=move_DI)
                np.add(stay_DI, move_DI, out=here_DI)
                np.putmask(band_DI, reached_DI, 1.0)
            stray_DI[:, low : high + 2] = band_DI
        return stray_DI[:, -1].clip(0, 1)

    def _steps(
        self, steps: slice, i_I: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return for each step the shares of paths that come from i and from i - 1, and the points that all reach.

        The first of the points is outside of the range. It has no shares.
        """
        k_K1 = np.arange(1, len(self.low_K) + 1)[steps, None]
        move_KI = i_I[1:] / k_K1
        distance_KI = abs(i_I * float(self.small + self.large) - k_K1 * self.small)
        distance_KI[(i_I < self.low_K[steps, None]) | (i_I > self.high_K[steps, None])] = np.inf
        bound_KD = np.where(self.ends_KD[steps], self.bound_D1.T, np.inf)
        return 1 - move_KI, move_KI, distance_KI[:, None] >= bound_KD[:, :, None]


def mean_p_value(values_K: NDArray[np.float64], live_K: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of the mean of the live values, twice the smaller tail.

    Permutations are modelled by independent choices of each record, given that their number is that of live records.
    An exponential tilt, with the parameters s and t, gives the choices the observed number and mean.

    >>> round(mean_p_value(np.arange(100.0), np.arange(100) % 3 == 0), 1)
    1.0
    """
    scaled_K = values_K - values_K.mean()
    K, M, spread = len(scaled_K), int(live_K.sum()), float(scaled_K.std())
    if not 0 < M < K or not spread:
        return 1.0
    scaled_K = scaled_K / spread
    observed = float(scaled_K[live_K].sum())
    if observed < 0:
        scaled_K, observed = -scaled_K, -observed
    tilt = _Tilt.fitted(scaled_K, M, observed)
    lattice = len(np.unique(scaled_K)) <= MOST_LATTICE
    return min(1.0, 2 * tilt.tail * (LATTICE_FACTOR if lattice else 1))


@dataclass(frozen=True)
class _Tilt:
    """Exponential tilt of random choices of records.

    Attributes:
        t: tilt by the value.
        exponent: logarithm of the likelihood ratio of the tilt.
        determinant: determinant of the covariance of number and sum, relative to the one without a tilt.
        choices: variance of the number of choices without a tilt.
        converged: whether the choices have the observed number and sum.
    """

    t: float
    exponent: float
    determinant: float
    choices: float
    converged: bool

    @classmethod
    def fitted(cls, scaled_K: NDArray[np.float64], M: int, observed: float) -> _Tilt:
        """Return the tilt with the largest likelihood ratio, by Newton's method."""
        K = len(scaled_K)
        logs = math.log(M / K), math.log1p(-M / K)
        choices = M * (1 - M / K)
        s, t, exponent, determinant = 0.0, 0.0, 0.0, 1.0
        for _ in range(NEWTON_STEPS):
            odds_K = logs[0] - logs[1] + s + t * scaled_K
            chosen_K = 1 / (1 + np.exp(-odds_K.clip(-700, 700)))
            weight_K = chosen_K * (1 - chosen_K)
            missing = M - float(chosen_K.sum()), observed - float(chosen_K @ scaled_K)
            first, second = float(weight_K @ scaled_K), float(weight_K @ scaled_K**2)
            determinant = (float(weight_K.sum()) * second - first**2) / choices**2
            if max(map(abs, missing)) < NEWTON_TOLERANCE * math.sqrt(choices):
                return cls(t, exponent, determinant, choices, converged=True)
            if determinant < NEWTON_TOLERANCE**2:
                break
            step_s = (second * missing[0] - first * missing[1]) / determinant / choices**2
            step_t = (float(weight_K.sum()) * missing[1] - first * missing[0]) / determinant / choices**2
            before = exponent
            for halvings in range(NEWTON_STEPS):
                next_s, next_t = s + 0.5**halvings * step_s, t + 0.5**halvings * step_t
                odds_K = logs[0] + next_s + next_t * scaled_K
                exponent = next_t * observed + next_s * M - float(np.logaddexp(logs[1], odds_K).sum())
                if exponent >= before:
                    break
            s, t = next_s, next_t
        return cls(t, exponent, determinant, choices, converged=False)

    @property
    def tail(self) -> float:
        """Probability of a sum at least as large as the observed one; Chernoff's bound without convergence."""
        bound = min(1.0, math.sqrt(2 * math.pi * self.choices) * math.exp(-self.exponent))
        if not self.converged or self.exponent <= NEWTON_TOLERANCE:
            return bound
        root, scale = math.sqrt(2 * self.exponent), self.t * math.sqrt(self.determinant * self.choices)
        density = math.exp(-self.exponent) / math.sqrt(2 * math.pi)
        return min(bound, max(0.0, math.erfc(root / math.sqrt(2)) / 2 + density * (1 / scale - 1 / root)))


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
