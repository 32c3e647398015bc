"""Exact tests of counts: the hypergeometric test, applied to the extremes of a column and to categories; and χ².

In a feature with many rare categories, the sides differ also without drift: the expected difference is here, too.

Under the null hypothesis, all divisions of the K pooled records into M live and N reference records are equally likely.
Of k records that are chosen without regard to their side, the number of live ones is then hypergeometric.

Array letters: N reference records, M live records, K pooled records, G cuts, C categories.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from runner.domain.drift import CLEAR

SMALLEST_CUT = 4
"""Number of records beyond the outermost cut; the number of records doubles with each further cut."""
LARGEST_CUT = 1 / 4
"""Share of the pooled records beyond the innermost cut."""
MOST_CATEGORIES = 50
"""Maximum number of categories that are tested on their own; the rarer ones are pooled."""
MIN_EXPECTED = 10
"""Minimum expected number of records of a category on each side in the χ² test; rarer categories are pooled."""
CHI_SQUARED_FACTOR = 3
"""Factor of the p-value of the χ² test, whose limit distribution is too optimistic in the far tail."""
REACH = 12
"""Number of standard deviations after which the terms of a tail are negligible."""
Q = NDArray[np.float64]


def hypergeometric(found: int, chosen: int, live: int, total: int) -> float:
    """Return the two-sided p-value of the number of live records among chosen ones, twice the smaller tail.

    Args:
        found: number of live records among the chosen ones.
        chosen: number of chosen records.
        live: number of live records.
        total: number of live and reference records.

    >>> round(hypergeometric(3, 3, 5, 10), 6)
    0.166667

    Source: Fisher (1935), "The logic of inductive inference".
    """
    mean = chosen * live / total
    if total < 2 or found == mean:
        return 1.0
    deviation = math.sqrt(mean * (1 - live / total) * (total - chosen) / (total - 1))
    reach = int(REACH * deviation) + 2 * REACH
    lowest, highest = max(0, chosen + live - total), min(chosen, live)
    inside = (found, min(highest, found + reach)) if found > mean else (max(lowest, found - reach), found)
    i = np.arange(inside[0], inside[1] + 1)
    logs = _log_choose(chosen, i) + _log_choose(total - chosen, live - i) - _log_choose(total, np.array(live))
    return min(1.0, 2 * float(np.exp(logs).sum()))


def _log_choose(n: int, i: NDArray[np.intp]) -> Q:
    logs = _log_factorials(1 << int(n).bit_length())
    chosen: Q = logs[n] - logs[i] - logs[n - i]
    return chosen


@cache
def _log_factorials(most: int) -> Q:
    """Return ln(i!) for i up to `most`."""
    return np.concatenate([[0.0], np.log(np.arange(1, most + 1)).cumsum()])


def unseen_by_chance(singles: int, pairs: int, rows: tuple[int, int]) -> tuple[float, float]:
    """Return the share of live records that is expected to be unseen without drift, and its largest excess by chance.

    The expected share is that of the reference records that no other reference record equals. The excess has a
    probability of about 1 %.

    Args:
        singles: number of values that one reference record has.
        pairs: number of values that two reference records have.
        rows: number of reference and of live records.

    >>> unseen_by_chance(0, 10, (1000, 300))[0], unseen_by_chance(500, 100, (1000, 300))[0]
    (0.0, 0.5)

    Source: Good (1953), "The population frequencies of species and the estimation of population parameters"; for the
    variance Esty (1983), "A normal limit law for a nonparametric estimator of the coverage of a random sample".
    """
    N, M = rows
    expected = singles / N
    variance = expected * (1 - expected) / M + (expected * (1 - expected) + 2 * pairs / N) / N
    return expected, CLEAR * math.sqrt(variance) if singles else 0.0


def distance_beyond_chance(reference_C: NDArray[np.intp], live_C: NDArray[np.intp]) -> float:
    """Return an estimated lower bound of the total variation distance between the populations of both sides.

    Of a feature with many rare categories, the distance of the samples is large also without drift. The bound is the
    largest one of three: the distance less its expected value for rare categories; the distance if all rare categories
    are one; and the largest increase of a share. Rare categories have fewer than `MIN_EXPECTED` expected records on the
    smaller side.

    >>> round(distance_beyond_chance(np.arange(100) % 2, 1 - np.arange(100) % 2), 3)
    0.02

    Source: de Moivre (1730) for the mean deviation of a binomial variable; Diaconis and Zabell (1991), "Closed form
    summation for classical distributions".
    """
    N, M = int(reference_C.sum()), int(live_C.sum())
    total_C, change_C = reference_C + live_C, live_C / M - reference_C / N
    p = M / (N + M)
    rare_C = total_C * min(p, 1 - p) < MIN_EXPECTED
    k, number = np.unique(total_C[rare_C], return_counts=True)
    above = np.floor(k * p).astype(int) + 1
    logs = _log_factorials(1 << int(k.max(initial=1)).bit_length())
    log_choose = logs[k] - logs[above] - logs[k - above]
    deviation = 2 * above * np.exp(log_choose + above * math.log(p) + (k - above + 1) * math.log1p(-p))
    by_chance = (number * deviation).sum() * (1 / N + 1 / M) / 2
    pooled = abs(change_C[~rare_C]).sum() + abs(change_C[rare_C].sum())
    return float(max(abs(change_C).sum() / 2 - by_chance, pooled / 2, change_C.max()))


def extremes(reference_N: Q, live_M: Q) -> float:
    """Return the p-value of a test of both tails of a column, which the Kolmogorov-Smirnov test hardly weighs.

    The largest and the smallest 4, 8, 16, ... pooled values are cut off, up to a quarter of them. Equal values are cut
    off together. The p-value is the smallest one of all cuts times their number.

    >>> extremes(np.arange(1000.0), np.append(np.arange(980.0), np.full(20, 1e6))) < 1e-4
    True
    """
    return sorted_extremes(np.sort(reference_N), np.sort(live_M))


def sorted_extremes(reference_N: Q, live_M: Q) -> float:
    """Return the p-value of `extremes`; the values of each side are ascending."""
    N, M = len(reference_N), len(live_M)
    K = N + M
    sizes = np.array([SMALLEST_CUT << i for i in range(K.bit_length()) if SMALLEST_CUT << i <= K * LARGEST_CUT], int)
    lower_G, upper_G = (_order_statistics(reference_N, live_M, ranks) for ranks in (sizes - 1, K - sizes))
    before_G = [*np.searchsorted(reference_N, lower_G, "right"), *(N - np.searchsorted(reference_N, upper_G))]
    now_G = [*np.searchsorted(live_M, lower_G, "right"), *(M - np.searchsorted(live_M, upper_G))]
    p_G = [hypergeometric(int(now), int(before + now), M, K) for before, now in zip(before_G, now_G, strict=True)]
    return min(1.0, len(p_G) * min(p_G)) if p_G else 1.0


def _order_statistics(first_N: Q, second_M: Q, ranks_G: NDArray[np.intp]) -> Q:
    """Return the pooled values of some ranks, counted from 0; both samples are sorted, and the pool is not built."""
    rank_N = np.arange(len(first_N)) + np.searchsorted(second_M, first_N)
    smaller_G = np.searchsorted(rank_N, ranks_G, "right")
    is_first_G = (smaller_G > 0) & (rank_N[smaller_G - 1] == ranks_G)
    found_G: Q = second_M[np.minimum(ranks_G - smaller_G, len(second_M) - 1)]
    found_G[is_first_G] = first_N[smaller_G[is_first_G] - 1]
    return found_G


def categories(reference_C: NDArray[np.intp], live_C: NDArray[np.intp]) -> float:
    """Return the p-value of a change of the shares of categories.

    It is twice the smaller one of two p-values: that of the category whose share changed most clearly, times the number
    of categories, and that of the χ² test of all categories.

    Args:
        reference_C: number of reference records of each category.
        live_C: number of live records of each category.

    >>> categories(np.array([500, 500]), np.array([150, 50])) < 1e-9
    True
    """
    both = reference_C, live_C
    total_C = reference_C + live_C
    fewest = np.partition(total_C, -MOST_CATEGORIES)[-MOST_CATEGORIES] if len(total_C) > MOST_CATEGORIES else 0
    frequent_C = np.flatnonzero(total_C >= max(2, fewest))
    first = frequent_C[np.argsort(-total_C[frequent_C], kind="stable")[:MOST_CATEGORIES]]
    pooled = [[side_C.sum() - side_C[first].sum()] if len(first) < len(total_C) else [] for side_C in both]
    counts = np.array([[*side_C[first], *rest] for side_C, rest in zip(both, pooled, strict=True)])
    M, K = int(live_C.sum()), int(total_C.sum())
    single: float = min((hypergeometric(int(now), int(before + now), M, K) for before, now in counts.T), default=1.0)
    return float(min(1.0, 2 * min(single * counts.shape[1], _chi_squared(counts))))


def _chi_squared(counts_2C: NDArray[np.intp]) -> float:
    """Return the p-value of Pearson's χ² test of homogeneity, times `CHI_SQUARED_FACTOR`.

    Source: Pearson (1911), "On the probability that two independent distributions of frequency are really samples from
    the same population".
    """
    smaller = counts_2C.sum(axis=1).min() / max(1, counts_2C.sum())
    frequent_C = counts_2C.sum(axis=0) * smaller >= MIN_EXPECTED
    pooled_2C = np.column_stack([counts_2C[:, frequent_C], counts_2C[:, ~frequent_C].sum(axis=1)])
    pooled_2C = pooled_2C[:, pooled_2C.sum(axis=0) * smaller >= MIN_EXPECTED]
    degrees = pooled_2C.shape[1] - 1
    if degrees < 1 or not pooled_2C.sum(axis=1).all():
        return 1.0
    expected_2C = np.outer(pooled_2C.sum(axis=1), pooled_2C.sum(axis=0)) / pooled_2C.sum()
    statistic = float(((pooled_2C - expected_2C) ** 2 / expected_2C).sum())
    return min(1.0, CHI_SQUARED_FACTOR * chi_squared_tail(statistic, degrees))


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a χ² variable exceeds a value.

    The recurrence Q(a + 1, x) = Q(a, x) + xᵃ e⁻ˣ / Γ(a + 1) starts from Q(1, x) = e⁻ˣ or Q(½, x) = erfc(√x).

    >>> round(chi_squared_tail(3.841459, 1), 6), round(chi_squared_tail(5.991465, 2), 6)
    (0.05, 0.05)

    Source: Abramowitz and Stegun (1964), 6.5.22 and 26.4.19.
    """
    x, a = statistic / 2, 1.0 if degrees % 2 == 0 else 0.5
    if x <= 0:
        return 1.0
    tail = math.exp(-x) if degrees % 2 == 0 else math.erfc(math.sqrt(x))
    while a < degrees / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, tail)
