"""nDCG rule: verdict, matching and special cases."""

from __future__ import annotations

import numpy as np
import pytest

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import RankingResult
from runner.drift import ranking
from runner.drift.ranking import match_labels, ndcg_range_notes, rank_labels
from runner.drift.shares import rank, share
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
