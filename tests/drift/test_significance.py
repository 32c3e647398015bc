"""Tests of distributions and means against scipy, enumeration and permutations, and Holm's correction."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom, ks_2samp, kstwobign

from runner.drift import significance
from runner.drift.significance import critical, distribution, holm, limit, mean_p_value, smirnov

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


def test_ties_and_lattice_points_near_the_diagonal() -> None:
    """Columns with many, few and no ties are equal together and alone, also for very small p-values."""
    rng = np.random.default_rng(5)
    sides = [rng.normal(mean, size=(rows, 4)) for rows, mean in ((250, 0.0), (90, [0.0, 0.2, 0.9, 3.0]))]
    for side in sides:
        side[:, 1] = side[:, 1].round()
        side[:, 2] = np.where(side[:, 2] > 1, 1, side[:, 2])
    together = smirnov(*sides)
    alone = [smirnov(*(side[:, [d]] for side in sides)) for d in range(4)]
    assert together.p_D.tolist() == [float(each.p_D[0]) for each in alone]
    assert together.p_D.min() < 1e-30


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


def test_rare_extremes_are_detected_by_the_tails() -> None:
    """A change in 5 % of the records is too small for the Kolmogorov-Smirnov test."""
    rng = np.random.default_rng(0)
    before_N, now_M = rng.normal(size=1000), rng.normal(size=334)
    now_M[:17] += 100
    tested = distribution(before_N[:, None], now_M[:, None])
    assert smirnov(before_N[:, None], now_M[:, None]).p_D[0] > 1e-3
    assert tested.p_D[0] < 1e-4


@pytest.mark.parametrize(("ones", "live", "total"), [(3, 10, 1010), (40, 300, 1300), (200, 1000, 2000), (30, 30, 60)])
def test_p_value_of_a_share_is_close_to_the_exact_one(ones: int, live: int, total: int) -> None:
    """It is never much smaller, and not many times larger unless all records are on one side."""
    values_K = (np.arange(total) < ones).astype(float)
    for found in range(ones * live // total + 1, min(ones, live)):
        live_K = np.zeros(total, dtype=bool)
        live_K[:found] = live_K[ones : ones + live - found] = True
        exact = min(1.0, 2 * hypergeom.sf(found - 1, total, ones, live))
        if exact > 1e-14:
            assert 0.8 * exact <= mean_p_value(values_K, live_K) <= min(1.0, 8 * exact)


def test_p_values_of_means_with_rare_extremes_hold_the_level() -> None:
    """Ten live values, a few far off: a normal approximation has a p-value of 1e-10 in 3 % of samples."""
    rng = np.random.default_rng(5)
    values_K = rng.normal(size=1010) * np.where(rng.random(1010) < 0.01, 20, 0.1)
    p = []
    for _ in range(1000):
        live_K = np.zeros(1010, dtype=bool)
        live_K[rng.choice(1010, 10, replace=False)] = True
        p.append(mean_p_value(values_K, live_K))
    for level in (0.001, 0.01, 0.1):
        assert (np.array(p) <= level).sum() <= binom.ppf(0.999, len(p), level)


def test_mean_without_a_distribution_has_p_value_1() -> None:
    """Equal values, and a side without records; the order of sides does not matter."""
    assert mean_p_value(np.ones(5), np.arange(5) < 2) == 1.0
    assert mean_p_value(np.arange(5.0), np.zeros(5, dtype=bool)) == 1.0
    values_K, live_K = np.arange(30.0) ** 2, np.arange(30) > 20
    assert mean_p_value(values_K, live_K) == pytest.approx(mean_p_value(values_K, ~live_K), rel=1e-6)
    assert mean_p_value(values_K, live_K) == pytest.approx(mean_p_value(-values_K, live_K))
