"""The Kolmogorov-Smirnov test against scipy where no values coincide, and against enumeration where they do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstwobign

from runner.drift import ks
from runner.drift.ks import critical, limit, smirnov

SIZES = [(1, 1), (3, 5), (5, 3), (10, 30), (50, 7), (100, 300), (666, 334)]


@pytest.mark.parametrize(("N", "M"), SIZES)
def test_without_ties_it_is_scipys(N: int, M: int) -> None:
    """Distance and exact p-value of each column, far into the tail."""
    rng = np.random.default_rng(N * M)
    reference_ND, live_MD = rng.normal(size=(N, 4)), rng.normal([0.0, 0.3, 1.0, 5.0], size=(M, 4))
    tested = smirnov(reference_ND, live_MD)
    for d in range(4):
        truth = ks_2samp(reference_ND[:, d], live_MD[:, d], method="exact")
        assert tested.distance_D[d] == pytest.approx(truth.statistic, abs=1e-12)
        assert tested.p_D[d] == pytest.approx(truth.pvalue, rel=1e-8)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_with_ties_it_is_the_permutation_test(reference: list[int], live: list[int]) -> None:
    """Every division of the pooled records, one by one, gives the same p-value."""
    pooled = np.array(reference + live, dtype=float)
    N = len(reference)

    def distance(chosen: tuple[int, ...]) -> float:
        mask = np.isin(np.arange(len(pooled)), chosen)
        return float(max(abs((pooled[mask] <= v).mean() - (pooled[~mask] <= v).mean()) for v in pooled))

    seen = distance(tuple(range(N)))
    everything = [distance(chosen) for chosen in combinations(range(len(pooled)), N)]
    tested = smirnov(pooled[:N, None], pooled[N:, None])
    assert tested.distance_D[0] == pytest.approx(seen, abs=1e-12)
    assert tested.p_D[0] == pytest.approx(np.mean([each >= seen - 1e-9 for each in everything]), abs=1e-12)


def test_a_feature_that_is_always_the_same_has_not_moved() -> None:
    """Its distance is 0, and every division is as far out."""
    assert smirnov(np.zeros((5, 1)), np.zeros((7, 1))) == (np.zeros(1), np.ones(1))


def test_the_order_of_the_sides_and_of_the_records_does_not_matter() -> None:
    """Neither distance nor p-value change by a bit."""
    rng = np.random.default_rng(1)
    one, two = rng.integers(0, 9, (40, 3)).astype(float), rng.integers(2, 9, (15, 3)).astype(float)
    here, there = smirnov(one, two), smirnov(two[::-1], rng.permutation(one))
    assert here.distance_D.tolist() == there.distance_D.tolist()
    assert here.p_D.tolist() == there.p_D.tolist()


def test_very_many_records_have_the_limits_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is scipy's limit distribution, and close to the exact value."""
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(500, 3)), rng.normal([0, 0.1, 0.2], size=(800, 3))
    exact = smirnov(one, two)
    monkeypatch.setattr(ks, "MOST_POINTS", 1)
    far = smirnov(one, two)
    assert far.p_D == pytest.approx(kstwobign.sf(far.distance_D * np.sqrt(500 * 800 / 1300)), rel=1e-9)
    assert far.p_D == pytest.approx(exact.p_D, rel=0.2)
    assert (far.p_D >= exact.p_D).all()
    assert limit(np.zeros(1), 5, 5).tolist() == [1.0]


@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-6])
def test_the_critical_distance_has_the_level(level: float) -> None:
    """Its p-value is the level; with few records nothing reaches it."""
    assert limit(np.array([critical(666, 300, level)]), 666, 300)[0] == pytest.approx(level, rel=1e-2)
    assert critical(3, 3, 1e-6) > 1
