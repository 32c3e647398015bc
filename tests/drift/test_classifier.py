"""Classifier two-sample test: its false positives, and changes that no single feature shows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp
from sklearn.metrics import roc_auc_score

from runner.drift.classifier import _areas, _margins, separability


def correlated_attributions(rows: int, correlation: float, seed: int) -> np.ndarray:
    """Return attributions of three features, with a correlation between the first two."""
    phi_ND = np.random.default_rng(seed).normal(size=(rows, 3))
    phi_ND[:, 1] = correlation * phi_ND[:, 0] + np.sqrt(1 - correlation**2) * phi_ND[:, 1]
    return phi_ND * [1, 2, 3]


def test_p_values_are_calibrated() -> None:
    """In windows without drift their share below a significance level is that level."""
    p = np.array(
        [
            separability(
                correlated_attributions(60, 0, 2 * i),
                correlated_attributions(40, 0, 2 * i + 1),
                0.1,
                np.random.default_rng(i),
            ).p
            for i in range(200)
        ]
    )
    for level in (0.05, 0.2, 0.5):
        low, high = binom.interval(0.999, len(p), level)
        assert low <= (p <= level).sum() <= high


def test_changed_correlation_is_detected() -> None:
    """The distribution of each feature is unchanged, but two features are now correlated."""
    before_ND, now_MD = correlated_attributions(600, 0, 1), correlated_attributions(300, 0.6, 2)
    assert min(ks_2samp(before_ND[:, d], now_MD[:, d]).pvalue for d in range(3)) > 0.01
    found = separability(before_ND, now_MD, 1e-3, np.random.default_rng(0))
    assert found.p is not None
    assert found.p <= 1e-3
    assert found.value is not None
    assert found.noise is not None
    assert found.value > 0.6 > found.noise > 0.5


def test_equal_records_have_p_value_1() -> None:
    """Ties have no order, and constant features are supported."""
    found = separability(np.ones((40, 3)), np.ones((30, 3)), 0.1, np.random.default_rng(0))
    assert found.p == pytest.approx(1.0)


def test_same_seed_gives_the_same_result() -> None:
    """Results are bit-identical, also if records are sampled."""
    first, second = (
        separability(
            correlated_attributions(1200, 0, 1), correlated_attributions(50, 0, 2), 0.1, np.random.default_rng(3)
        )
        for _ in range(2)
    )
    assert first == second


def test_area_equals_scikit_learn() -> None:
    """The margin is the difference of two means."""
    rng = np.random.default_rng(0)
    predicted_PK, live_PK = rng.normal(size=(3, 50)), rng.random((3, 50)) < 0.4
    for area, margin, predicted_K, live_K in zip(
        _areas(predicted_PK, live_PK), _margins(predicted_PK, live_PK), predicted_PK, live_PK, strict=True
    ):
        assert area == pytest.approx(roc_auc_score(live_K, predicted_K))
        assert margin == pytest.approx(predicted_K[live_K].mean() - predicted_K[~live_K].mean())
