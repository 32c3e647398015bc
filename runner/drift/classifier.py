"""Classifier two-sample test: can a classifier separate live local attributions from those of the reference?

It detects joint changes that no single feature shows, such as a lost correlation. The classifier is a ridge regression
on the attributions, their squares and their products. Its out-of-fold predictions are linear in the class labels, so
a permutation costs one matrix product.

Array letters: N reference records, M live records, K pooled records, D columns, F terms, P permutations.

Source: Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runner.domain.drift import Effect
from runner.drift.permutation import p_value

MOST_ROWS = 1_000
"""Records of each side at most."""
MOST_COLUMNS = 16
"""Columns at most, by descending mean absolute attribution."""
FOLDS = 3
"""Folds of the cross-validation."""
RIDGE = 0.1
"""Ridge penalty relative to the number of records; terms are standardized."""
BATCH = 500
"""Permutations in one batch."""
ENOUGH = 10
"""Permutations at least as extreme as the observation after which sampling stops without a significant result."""
NOISE = 0.99
"""Quantile of the permutation distribution that is reported as noise."""


def separability(
    before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], level: float, rng: np.random.Generator
) -> Effect:
    """Return the out-of-fold area under the ROC curve; 0.5 means that the classifier cannot separate the sides.

    The p-value belongs to the margin, the difference between the mean predictions of both sides. Permutations are drawn
    until the p-value is known to exceed the level, or can fall below it.

    Args:
        before_ND: local attributions of the reference; the columns of all labels.
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
