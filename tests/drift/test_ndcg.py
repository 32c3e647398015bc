"""nDCG: the published example, scikit-learn, and special cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import ndcg_score

from runner.drift.ndcg import chance, floor, ndcg


def test_documented_example() -> None:
    """The example of the AWS documentation, with all digits."""
    assert ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70])) == 0.6876396241226223


def test_equals_scikit_learn() -> None:
    """The values are equal for 1,000 random vectors, with and without ties."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        size = rng.integers(2, 40)
        reference, live = rng.random(size), rng.random(size)
        assert ndcg(reference, live) == pytest.approx(ndcg_score([reference], [live], ignore_ties=True), abs=1e-12)
        tied = rng.integers(0, 4, size).astype(float)
        assert ndcg(reference, tied) == pytest.approx(ndcg_score([reference], [tied]), abs=1e-12)


@given(arrays(np.float64, (2, 4, 5), elements=st.sampled_from([0.0, 0.1, 0.3, 7.0])))
def test_several_rows_equal_single_rows(both_PD: np.ndarray) -> None:
    """Results are bit-identical, with ties and zeros; one row of gains is broadcast to many rankings."""
    reference_PD, live_PD = both_PD
    single = [ndcg(*row) for row in zip(reference_PD, live_PD, strict=True)]
    np.testing.assert_array_equal(ndcg(reference_PD, live_PD), single)
    np.testing.assert_array_equal(ndcg(reference_PD[0], live_PD), [ndcg(reference_PD[0], live_D) for live_D in live_PD])


gains = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(any).map(np.array)


@given(gains, st.randoms())
def test_bounds_are_floor_and_1(reference: np.ndarray[tuple[int], np.dtype[np.float64]], random: object) -> None:
    """The reference's order is best, its reverse is worst."""
    live = np.random.default_rng(0).random(len(reference))
    assert floor(reference) - 1e-12 <= ndcg(reference, live) <= 1 + 1e-12
    assert ndcg(reference, reference) == pytest.approx(1)
    assert ndcg(reference, -reference) == pytest.approx(floor(reference))


def test_chance_is_the_mean_of_all_orders() -> None:
    """It equals the mean of random orders, and the value of a tie of all features."""
    reference, rng = np.array([5.0, 3.0, 2.0, 0.5]), np.random.default_rng(0)
    shuffled = [ndcg(reference, rng.random(4)) for _ in range(20_000)]
    assert chance(reference) == pytest.approx(np.mean(shuffled), abs=2e-3)
    assert chance(reference) == pytest.approx(ndcg(reference, np.ones(4)))


def test_zero_gains_are_undefined() -> None:
    """The ratio is NaN if all gains are zero."""
    assert all(np.isnan(value) for value in (ndcg(np.zeros(3), np.ones(3)), floor(np.zeros(3)), chance(np.zeros(3))))
