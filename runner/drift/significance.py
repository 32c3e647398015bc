"""Statistical tests: Kolmogorov-Smirnov tests by feature, Holm's correction, and a classifier test of all features.

The Kolmogorov-Smirnov statistic is the largest distance between two empirical distribution functions. The p-value is
that of the permutation test, but it is computed exactly, without sampling. Under the null hypothesis, all divisions of
the pooled records into reference and live records are equally likely. Each division is a path on a lattice. The p-value
is the share of paths that leave the diagonal at least as far as the observed path. Between equal values, distances are
not counted, so the p-value is exact with ties, too.

The classifier two-sample test detects joint changes that no single feature shows, such as a lost correlation. The
classifier is a ridge regression on the attributions, their squares and their products. Its out-of-fold predictions are
linear in the class labels, so a permutation costs one matrix product.

Array letters: N reference records, M live records, D features, F terms, K pooled records, P permutations.

Source: Hodges (1958), "The significance probability of the Smirnov two-sample test"; for ties Schröer and Trenkler
(1995), "Exact and randomization distributions of Kolmogorov-Smirnov tests two or three samples"; Lopez-Paz and Oquab
(2017), "Revisiting classifier two-sample tests".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.domain.drift import Effect
from runner.drift.effects import p_value

MOST_POINTS = 300_000_000
"""Maximum number of lattice points of all features for the exact distribution (1 to 2 s of work).

Above it, the limit distribution is used, whose p-values are conservative.
"""
TERMS = 100
"""Number of terms of the series of the limit distribution."""
ROUNDING = 1e-9
"""Relative tolerance when a path is compared with the observed distance."""
MOST_ROWS = 1_000
"""Maximum number of records of each side in the classifier test."""
MOST_COLUMNS = 16
"""Maximum number of columns in the classifier test, those with the largest mean absolute attribution."""
FOLDS = 3
"""Number of folds of the classifier's cross-validation."""
RIDGE = 0.1
"""Ridge penalty of the classifier, relative to the number of records; terms are standardized."""
BATCH = 500
"""Number of permutations of the classifier test in one batch."""
ENOUGH = 10
"""Number of permutations at least as extreme as the observation at which sampling ends without significance."""
NOISE = 0.99
"""Quantile of the permutation distribution that is reported as noise."""


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


def separability(
    before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], level: float, rng: np.random.Generator
) -> Effect:
    """Return the out-of-fold area under the ROC curve; 0.5 means that the classifier cannot separate the sides.

    The tested statistic is the margin, the difference between the mean predictions of both sides. Permutations are
    drawn until the p-value is known to exceed the level, or until they are enough for a p-value below the level.

    Args:
        before_ND: local attributions of the reference, with the columns of all labels.
        now_MD: local attributions of the window.
        level: significance level of the test.
        rng: random generator for records, folds and permutations.

    Source for the p-value: Besag and Clifford (1991), "Sequential Monte Carlo p-values".
    """
    before_ND, now_MD = _subsample(before_ND, rng), _subsample(now_MD, rng)
    pooled_KD = np.concatenate([before_ND, now_MD])
    live_K = np.repeat([False, True], [len(before_ND), len(now_MD)])
    order_K = rng.permutation(len(live_K))  # breaks ties at random
    terms_KF, live_K = _terms(pooled_KD[order_K]), live_K[order_K]
    observed_1K = _predicted(terms_KF, live_K[None])
    margin = float(_margins(observed_1K, live_K[None])[0])
    margins: list[float] = []
    areas: list[float] = []
    while len(margins) < 2 / level and sum(each >= margin for each in margins) < ENOUGH:
        shuffled_PK = rng.permuted(np.broadcast_to(live_K, (BATCH, len(live_K))), axis=1)
        predicted_PK = _predicted(terms_KF, shuffled_PK)
        margins += _margins(predicted_PK, shuffled_PK).tolist()
        areas = areas or _areas(predicted_PK, shuffled_PK).tolist()
    noise = float(np.quantile(areas, NOISE))
    return Effect(float(_areas(observed_1K, live_K[None])[0]), noise, p_value(margin, np.array(margins)))


def _subsample(phi_ND: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    if len(phi_ND) <= MOST_ROWS:
        return phi_ND
    return phi_ND[rng.choice(len(phi_ND), MOST_ROWS, replace=False, shuffle=False)]


def _terms(phi_KD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest attributions, their squares and products, standardized."""
    largest_D = np.argsort(-abs(phi_KD).mean(axis=0), kind="stable")[:MOST_COLUMNS]
    scaled_KD = _scaled(phi_KD[:, largest_D])
    left, right = np.triu_indices(len(largest_D))
    return np.hstack([scaled_KD, _scaled(scaled_KD[:, left] * scaled_KD[:, right])])


def _scaled(values_KF: NDArray[np.float64]) -> NDArray[np.float64]:
    spread_F = values_KF.std(axis=0)
    scaled_KF: NDArray[np.float64] = (values_KF - values_KF.mean(axis=0)) / np.where(spread_F > 0, spread_F, 1.0)
    return scaled_KF


def _predicted(terms_KF: NDArray[np.float64], live_PK: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return out-of-fold predictions of ridge regressions, one row per permutation."""
    folds_K = np.arange(len(terms_KF)) % FOLDS
    predicted_PK = np.empty(live_PK.shape)
    for fold in range(FOLDS):
        held_out_K = folds_K == fold
        fitted_KF, sides_PK = terms_KF[~held_out_K], live_PK[:, ~held_out_K].astype(np.float64)
        sides_PK -= sides_PK.mean(axis=1, keepdims=True)
        gram_FF = fitted_KF.T @ fitted_KF + RIDGE * len(fitted_KF) * np.eye(terms_KF.shape[1])
        weights_FP = np.linalg.solve(gram_FF, fitted_KF.T @ sides_PK.T)
        predicted_PK[:, held_out_K] = (terms_KF[held_out_K] @ weights_FP).T
    return predicted_PK


def _margins(predicted_PK: NDArray[np.float64], live_PK: NDArray[np.bool_]) -> NDArray[np.float64]:
    lives_P = live_PK.sum(axis=1)
    inside_P = (predicted_PK * live_PK).sum(axis=1)
    outside_P = predicted_PK.sum(axis=1) - inside_P
    margins_P: NDArray[np.float64] = inside_P / lives_P - outside_P / (live_PK.shape[1] - lives_P)
    return margins_P


def _areas(predicted_PK: NDArray[np.float64], live_PK: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of (live, reference) pairs in which the live prediction is larger."""
    rank_PK = np.empty_like(predicted_PK)
    np.put_along_axis(rank_PK, predicted_PK.argsort(axis=1, kind="stable"), np.arange(live_PK.shape[1]) + 1.0, axis=1)
    lives_P = live_PK.sum(axis=1)
    wins_P = (rank_PK * live_PK).sum(axis=1) - lives_P * (lives_P + 1) / 2
    areas_P: NDArray[np.float64] = wins_P / (lives_P * (live_PK.shape[1] - lives_P))
    return areas_P
