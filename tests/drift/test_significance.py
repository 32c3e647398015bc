"""Kolmogorov-Smirnov test against scipy and enumeration, Holm's correction, and the classifier two-sample test."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, ks_2samp, kstwobign
from sklearn.metrics import roc_auc_score

from runner.drift import significance
from runner.drift.significance import _areas, _margins, critical, holm, limit, separability, smirnov

SIZES = [(1, 1), (3, 5), (5, 3), (10, 30), (50, 7), (100, 300), (666, 334)]


@pytest.mark.parametrize(("N", "M"), SIZES)
def test_without_ties_it_equals_scipy(N: int, M: int) -> None:
    """Distance and exact p-value of each column are equal, also for very small p-values."""
    rng = np.random.default_rng(N * M)
    reference_ND, live_MD = rng.normal(size=(N, 4)), rng.normal([0.0, 0.3, 1.0, 5.0], size=(M, 4))
    tested = smirnov(reference_ND, live_MD)
    for d in range(4):
        truth = ks_2samp(reference_ND[:, d], live_MD[:, d], method="exact")
        assert tested.distance_D[d] == pytest.approx(truth.statistic, abs=1e-12)
        assert tested.p_D[d] == pytest.approx(truth.pvalue, rel=1e-8)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_with_ties_it_equals_the_permutation_test(reference: list[int], live: list[int]) -> None:
    """The p-value equals that of all divisions of the pooled records."""
    pooled = np.array(reference + live, dtype=float)
    N = len(reference)

    def distance(chosen: tuple[int, ...]) -> float:
        mask = np.isin(np.arange(len(pooled)), chosen)
        return float(max(abs((pooled[mask] <= v).mean() - (pooled[~mask] <= v).mean()) for v in pooled))

    observed = distance(tuple(range(N)))
    distances = [distance(chosen) for chosen in combinations(range(len(pooled)), N)]
    tested = smirnov(pooled[:N, None], pooled[N:, None])
    assert tested.distance_D[0] == pytest.approx(observed, abs=1e-12)
    assert tested.p_D[0] == pytest.approx(np.mean([each >= observed - 1e-9 for each in distances]), abs=1e-12)


def test_constant_feature_has_distance_0() -> None:
    """Its p-value is 1."""
    assert smirnov(np.zeros((5, 1)), np.zeros((7, 1))) == (np.zeros(1), np.ones(1))


def test_order_of_sides_and_records_does_not_matter() -> None:
    """Distance and p-value are bit-identical."""
    rng = np.random.default_rng(1)
    reference, live = rng.integers(0, 9, (40, 3)).astype(float), rng.integers(2, 9, (15, 3)).astype(float)
    result, swapped = smirnov(reference, live), smirnov(live[::-1], rng.permutation(reference))
    assert result.distance_D.tolist() == swapped.distance_D.tolist()
    assert result.p_D.tolist() == swapped.p_D.tolist()


def test_many_records_use_the_limit_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """The p-value equals scipy's limit distribution, and is close to the exact value."""
    rng = np.random.default_rng(2)
    reference, live = rng.normal(size=(500, 3)), rng.normal([0, 0.1, 0.2], size=(800, 3))
    exact = smirnov(reference, live)
    monkeypatch.setattr(significance, "MOST_POINTS", 1)
    limiting = smirnov(reference, live)
    assert limiting.p_D == pytest.approx(kstwobign.sf(limiting.distance_D * np.sqrt(500 * 800 / 1300)), rel=1e-9)
    assert limiting.p_D == pytest.approx(exact.p_D, rel=0.2)
    assert (limiting.p_D >= exact.p_D).all()
    assert limit(np.zeros(1), 5, 5).tolist() == [1.0]


@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-6])
def test_critical_distance_has_the_significance_level(level: float) -> None:
    """Its p-value is the level; with few records it is above 1."""
    assert limit(np.array([critical(666, 300, level)]), 666, 300)[0] == pytest.approx(level, rel=1e-2)
    assert critical(3, 3, 1e-6) > 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1))
def test_holm_rejects_the_same_as_the_step_down_procedure(p: list[float], level: float) -> None:
    """The smallest p-value is compared with level / m, the next one with level / (m - 1), until one is larger."""
    p_D = np.array(p)
    adjusted_D = holm(p_D)
    rejected = set()
    for rank, d in enumerate(p_D.argsort(kind="stable")):
        if p_D[d] * (len(p) - rank) > level:
            break
        rejected.add(int(d))
    assert rejected == set(np.nonzero(adjusted_D <= level)[0].tolist()) or level == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_between_no_correction_and_bonferroni(p: list[float]) -> None:
    """The order of the p-values is unchanged."""
    p_D = np.array(p)
    adjusted_D = holm(p_D)
    assert (adjusted_D >= p_D).all()
    assert (adjusted_D <= (p_D * len(p)).clip(max=1) + 1e-15).all()
    assert (np.diff(adjusted_D[p_D.argsort(kind="stable")]) >= 0).all()


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
