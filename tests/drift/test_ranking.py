"""nDCG rule: verdict, matching and special cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import ndcg_score

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import RankingResult
from runner.drift import ranking
from runner.drift.effects import rank, share
from runner.drift.ranking import chance, floor, match_labels, ndcg, ndcg_range_notes, rank_labels
from runner.drift.summary import headline, sentence
from runner.errors import FeatureMismatch
from tests.golden import Golden


def global_attributions(
    *columns: list[float], names: str = "abcdef", labels: tuple[str, ...] | None = None
) -> GlobalAttributions:
    """Return global attributions with a column of values per label."""
    values_DL = np.array(columns).T
    labels = labels or tuple(f"label{i}" for i in range(len(columns)))
    return GlobalAttributions(tuple(names[: len(values_DL)]), labels, values_DL, np.zeros(len(columns)))


def ranking_result(reference: GlobalAttributions, live: GlobalAttributions) -> RankingResult:
    """Return the result of the nDCG rule with the threshold 0.9."""
    return rank_labels(reference, live, 0.9)


def verdict(reference: GlobalAttributions, live: GlobalAttributions) -> str:
    """Return headline and sentence of the verdict."""
    result = ranking_result(reference, live)
    return f"{headline(result, None)}: {sentence(result, None, reference, live)}"


def test_ndcg_depends_on_the_order_only() -> None:
    """Ten times larger attributions in the same order are no drift; the reverse order is."""
    reference = global_attributions([0.7, 0.5, 0.05])
    assert not ranking_result(reference, global_attributions([7.0, 5.0, 0.5])).violations
    (violation,) = ranking_result(reference, global_attributions([0.1, 0.2, 0.7])).violations
    assert violation.ndcg == pytest.approx(0.6876396241226223)
    assert violation.floor == violation.ndcg


def test_features_are_matched_by_name() -> None:
    """The order of the features in the documents does not matter."""
    live = global_attributions([0.05, 0.7, 0.5], names="cab")
    (drift,) = ranking_result(global_attributions([0.7, 0.5, 0.05]), live).drifts
    assert drift.ndcg == 1


def test_different_features_are_refused(golden: Golden) -> None:
    """The error names the features of one side only."""
    with golden.raises(FeatureMismatch):
        ranking_result(global_attributions([1, 2, 3]), global_attributions([1, 2, 3], names="axy"))


@pytest.mark.parametrize(
    ("reference", "live", "ndcg", "note"),
    [
        ([1.0], [2.0], 1.0, ranking.ONE_FEATURE),
        ([0.0, 0.0], [1.0, 2.0], None, ranking.DEGENERATE),
        ([-0.7, 0.5, 0.05], [0.1, 0.2, 0.7], 0.6876396241226223, ranking.ABSOLUTE),
        ([0.7, 0.5, 0.05], [-0.1, 0.2, 0.7], 0.6876396241226223, ranking.ABSOLUTE),
        (
            [1.0, 0.99],
            [1.0, 2.0],
            pytest.approx((0.99 + 1 / np.log2(3)) / (1 + 0.99 / np.log2(3))),
            "no order of the features can bring nDCG below 0.9",
        ),
    ],
)
def test_special_cases_have_notes(reference: list[float], live: list[float], ndcg: float | None, note: str) -> None:
    """One feature, zero attributions, negative values and an unreachable threshold have a rule and a note."""
    (drift,) = ranking_result(global_attributions(reference), global_attributions(live)).drifts
    assert drift.ndcg == ndcg
    assert note in " ".join(drift.notes)


def test_ties_are_averaged() -> None:
    """Live features with equal values have the mean gain of their ranks."""
    (tied,) = ranking_result(global_attributions([0.7, 0.5, 0.05]), global_attributions([1.0, 1.0, 1.0])).drifts
    assert tied.ndcg == pytest.approx(tied.chance)


@pytest.mark.parametrize(
    ("reference", "live", "expected"),
    [
        (("a", "b"), ("b", "a"), {"b": "b", "a": "a"}),
        (("0.79",), ("label0",), {"label0": "0.79"}),
        (("a", "b"), ("b", "c"), {"b": "b"}),
        (("a", "b", "c"), ("x", "y"), {}),
    ],
)
def test_labels_match_by_name_else_by_position(
    reference: tuple[str, ...], live: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Labels match by position if no name is common and both sides have the same number of labels."""
    assert match_labels(reference, live) == expected


def test_unmatched_labels_are_notes(golden: Golden) -> None:
    """A label of one side only is never a violation."""
    reference = global_attributions([0.7, 0.5, 0.05], [0.7, 0.5, 0.05], labels=("a", "b"))
    result = ranking_result(reference, global_attributions([0.7, 0.5, 0.05], [0.1, 0.2, 0.7], labels=("a", "c")))
    assert not result.violations
    assert [drift.label for drift in result.drifts] == ["a"]
    golden("\n".join(result.notes))


def test_sentence_names_the_top_change(golden: Golden) -> None:
    """The sentence of a violation states nDCG and the feature with the largest change."""
    reference, live = global_attributions([0.7, 0.5, 0.05]), global_attributions([0.1, 0.2, 0.7])
    golden(verdict(reference, live))


@pytest.mark.parametrize(
    ("reference", "live"),
    [
        (global_attributions([0.7, 0.5]), global_attributions([0.8, 0.5])),
        (global_attributions([0.0, 0.0]), global_attributions([0.8, 0.5])),
        (global_attributions([0.7, 0.1, 0.0]), global_attributions([0.0, 0.0, 0.0])),
        (global_attributions([1, 2], [1, 2]), global_attributions([1, 2], labels=("x",))),
        (global_attributions([9, 1], [9, 1]), global_attributions([9, 1], [1, 9])),
    ],
    ids=["same ranking", "zero reference", "zero live", "no label", "second label"],
)
def test_each_ranking_result_has_a_sentence(
    reference: GlobalAttributions, live: GlobalAttributions, golden: Golden
) -> None:
    """There are sentences for no drift, no verdict and the worst of several labels."""
    golden(verdict(reference, live))


def test_ndcg_range_is_noted(golden: Golden) -> None:
    """The notes state the lowest possible nDCG, and whether the rule can alert."""
    steep, flat, nothing = ndcg_range_notes(
        global_attributions([0.7, 0.5, 0.05], [1.0, 0.99, 0.98], [0.0, 0.0, 0.0]), 0.9
    )
    golden(steep)
    golden(flat)
    assert "degenerate" in nothing


def test_shares_and_ranks() -> None:
    """Shares are fractions of the absolute sum; ranks start at 1; ties have the better rank."""
    np.testing.assert_allclose(share(np.array([3.0, -1.0])), [0.75, 0.25])
    np.testing.assert_allclose(share(np.zeros(2)), [0, 0])
    assert rank(np.array([2.0, 5.0, 2.0, 1.0])).tolist() == [2, 1, 2, 4]


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
