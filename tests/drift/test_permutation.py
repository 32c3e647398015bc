"""Divisions by chance: they are what every division is on average, and p-values from them are fair."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from runner.drift import permutation


@pytest.mark.parametrize("agg_method", ["mean_abs", "mean_sq", "median"])
@pytest.mark.parametrize(("N", "M"), [(3, 5), (5, 3)])
def test_a_division_is_one_of_all_and_all_come_equally_often(agg_method: str, N: int, M: int) -> None:
    """Against every division of eight records."""
    rng = np.random.default_rng(4)
    pooled_KD = rng.normal(size=(N + M, 2))
    everything = []
    for chosen in combinations(range(N + M), N):
        mask = np.isin(np.arange(N + M), chosen)
        everything.append([*permutation.observed(pooled_KD[mask], pooled_KD[~mask], agg_method)])
    truth = np.array(everything)
    reference_PD, live_PD = permutation.permuted(
        pooled_KD[:N], pooled_KD[N:], agg_method, 20_000, np.random.default_rng(5)
    )
    drawn = np.stack([reference_PD, live_PD], axis=1)
    known = {tuple(np.round(each.ravel(), 9)) for each in truth}
    assert {tuple(np.round(each.ravel(), 9)) for each in drawn[:2000]} <= known
    assert drawn.mean(axis=0) == pytest.approx(truth.mean(axis=0), rel=0.03)
    assert drawn.std(axis=0) == pytest.approx(truth.std(axis=0), rel=0.05)


def test_the_same_seed_divides_the_same_way() -> None:
    """To the bit; the inputs are left as they were."""
    rng = np.random.default_rng(6)
    reference_ND, live_MD = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    kept = reference_ND.copy(), live_MD.copy()
    first, second = (permutation.permuted(*kept, "mean_abs", 50, np.random.default_rng(7)) for _ in range(2))
    assert first.live.tolist() == second.live.tolist()
    assert (reference_ND == kept[0]).all()
    assert (live_MD == kept[1]).all()


def test_p_is_never_zero() -> None:
    """What was observed counts as one of the divisions."""
    assert permutation.p_value(9.0, np.zeros(99)) == 0.01
    assert permutation.p_value(0.0, np.zeros(99)) == 1.0
