"""nDCG: the published example, scikit-learn, and the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import ndcg_score

from runner.drift.ndcg import chance, floor, ndcg


def test_the_documented_example() -> None:
    """The example of the AWS page, to all digits."""
    assert ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70])) == 0.6876396241226223


def test_agrees_with_scikit_learn() -> None:
    """On 1 000 random vectors, without ties and with them, scikit-learn has the same."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        size = rng.integers(2, 40)
        reference, live = rng.random(size), rng.random(size)
        assert ndcg(reference, live) == pytest.approx(ndcg_score([reference], [live], ignore_ties=True), abs=1e-12)
        tied = rng.integers(0, 4, size).astype(float)
        assert ndcg(reference, tied) == pytest.approx(ndcg_score([reference], [tied]), abs=1e-12)


@given(arrays(np.float64, (2, 4, 5), elements=st.sampled_from([0.0, 0.1, 0.3, 7.0])))
def test_rows_at_once_have_what_each_has_alone(both_PD: np.ndarray) -> None:
    """To the bit, with ties and zeros; one row of gains may stand beside many orders."""
    reference_PD, live_PD = both_PD
    alone = [ndcg(*row) for row in zip(reference_PD, live_PD, strict=True)]
    np.testing.assert_array_equal(ndcg(reference_PD, live_PD), alone)
    np.testing.assert_array_equal(ndcg(reference_PD[0], live_PD), [ndcg(reference_PD[0], live_D) for live_D in live_PD])


gains = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(any).map(np.array)


@given(gains, st.randoms())
def test_floor_and_one_are_the_bounds(reference: np.ndarray[tuple[int], np.dtype[np.float64]], random: object) -> None:
    """No order is better than the reference's own or worse than its reverse."""
    live = np.random.default_rng(0).random(len(reference))
    assert floor(reference) - 1e-12 <= ndcg(reference, live) <= 1 + 1e-12
    assert ndcg(reference, reference) == pytest.approx(1)
    assert ndcg(reference, -reference) == pytest.approx(floor(reference))


def test_chance_is_the_mean_over_orders() -> None:
    """Chance is what shuffling gives on average, and what ties between all features give."""
    reference, rng = np.array([5.0, 3.0, 2.0, 0.5]), np.random.default_rng(0)
    shuffled = [ndcg(reference, rng.random(4)) for _ in range(20_000)]
    assert chance(reference) == pytest.approx(np.mean(shuffled), abs=2e-3)
    assert chance(reference) == pytest.approx(ndcg(reference, np.ones(4)))


def test_nothing_to_rank() -> None:
    """Where all gains are zero there is no ratio."""
    assert all(np.isnan(value) for value in (ndcg(np.zeros(3), np.ones(3)), floor(np.zeros(3)), chance(np.zeros(3))))
