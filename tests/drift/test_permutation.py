"""Random divisions of the pooled records, and p-values."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from runner.drift import permutation


@pytest.mark.parametrize("agg_method", ["mean_abs", "mean_sq", "median"])
@pytest.mark.parametrize(("N", "M"), [(3, 5), (5, 3)])
def test_random_divisions_are_uniform(agg_method: str, N: int, M: int) -> None:
    """Values, mean and standard deviation match all divisions of eight records."""
    rng = np.random.default_rng(4)
    pooled_KD = rng.normal(size=(N + M, 2))
    all_divisions = []
    for chosen in combinations(range(N + M), N):
        mask = np.isin(np.arange(N + M), chosen)
        all_divisions.append([*permutation.observed(pooled_KD[mask], pooled_KD[~mask], agg_method)])
    truth = np.array(all_divisions)
    reference_PD, live_PD = permutation.permuted(
        pooled_KD[:N], pooled_KD[N:], agg_method, 20_000, np.random.default_rng(5)
    )
    drawn = np.stack([reference_PD, live_PD], axis=1)
    possible = {tuple(np.round(each.ravel(), 9)) for each in truth}
    assert {tuple(np.round(each.ravel(), 9)) for each in drawn[:2000]} <= possible
    assert drawn.mean(axis=0) == pytest.approx(truth.mean(axis=0), rel=0.03)
    assert drawn.std(axis=0) == pytest.approx(truth.std(axis=0), rel=0.05)


def test_same_seed_gives_the_same_divisions() -> None:
    """Results are bit-identical; the inputs are unchanged."""
    rng = np.random.default_rng(6)
    reference_ND, live_MD = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    copies = reference_ND.copy(), live_MD.copy()
    first, second = (permutation.permuted(*copies, "mean_abs", 50, np.random.default_rng(7)) for _ in range(2))
    assert first.live.tolist() == second.live.tolist()
    assert (reference_ND == copies[0]).all()
    assert (live_MD == copies[1]).all()


def test_p_value_is_never_zero() -> None:
    """The observed division counts as one of the divisions."""
    assert permutation.p_value(9.0, np.zeros(99)) == 0.01
    assert permutation.p_value(0.0, np.zeros(99)) == 1.0
