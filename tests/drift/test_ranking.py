"""The verdict and every edge of it."""

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


def analysis(*columns: list[float], names: str = "abcdef", labels: tuple[str, ...] | None = None) -> GlobalAttributions:
    """Return global attributions with a column of values per label."""
    values_DL = np.array(columns).T
    labels = labels or tuple(f"label{i}" for i in range(len(columns)))
    return GlobalAttributions(tuple(names[: len(values_DL)]), labels, values_DL, np.zeros(len(columns)))


def judged(reference: GlobalAttributions, live: GlobalAttributions) -> RankingResult:
    """Return the verdict with the usual threshold."""
    return rank_labels(reference, live, 0.9)


def told(reference: GlobalAttributions, live: GlobalAttributions) -> str:
    """Return headline and sentence of the verdict."""
    result = judged(reference, live)
    return f"{headline(result, None)}: {sentence(result, None, reference, live)}"


def test_order_decides_not_size() -> None:
    """Attributions ten times as large in the same order are no drift; the reverse order is."""
    reference = analysis([0.7, 0.5, 0.05])
    assert not judged(reference, analysis([7.0, 5.0, 0.5])).violations
    (violation,) = judged(reference, analysis([0.1, 0.2, 0.7])).violations
    assert violation.ndcg == pytest.approx(0.6876396241226223)
    assert violation.floor == violation.ndcg


def test_features_are_matched_by_name() -> None:
    """Another order of the features in the documents changes nothing."""
    live = analysis([0.05, 0.7, 0.5], names="cab")
    (drift,) = judged(analysis([0.7, 0.5, 0.05]), live).drifts
    assert drift.ndcg == 1


def test_features_on_one_side_only(golden: Golden) -> None:
    """They are named, on both sides."""
    with golden.raises(FeatureMismatch):
        judged(analysis([1, 2, 3]), analysis([1, 2, 3], names="axy"))


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
def test_edges_are_judged_and_noted(reference: list[float], live: list[float], ndcg: float | None, note: str) -> None:
    """One feature, no attribution, negative values and an unreachable threshold each have their rule and their note."""
    (drift,) = judged(analysis(reference), analysis(live)).drifts
    assert drift.ndcg == ndcg
    assert note in " ".join(drift.notes)


def test_ties_are_averaged() -> None:
    """Live features with the same value share the mean gain of their places."""
    (tied,) = judged(analysis([0.7, 0.5, 0.05]), analysis([1.0, 1.0, 1.0])).drifts
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
    """Names first; when none is common and both sides have as many, position."""
    assert match_labels(reference, live) == expected


def test_unmatched_labels_are_reported_never_violations(golden: Golden) -> None:
    """A label on one side only is a note."""
    reference = analysis([0.7, 0.5, 0.05], [0.7, 0.5, 0.05], labels=("a", "b"))
    result = judged(reference, analysis([0.7, 0.5, 0.05], [0.1, 0.2, 0.7], labels=("a", "c")))
    assert not result.violations
    assert [drift.label for drift in result.drifts] == ["a"]
    golden("\n".join(result.notes))


def test_the_sentence_names_the_mover(golden: Golden) -> None:
    """A violation is told with its figures and the feature that moved most."""
    reference, live = analysis([0.7, 0.5, 0.05]), analysis([0.1, 0.2, 0.7])
    golden(told(reference, live))


@pytest.mark.parametrize(
    ("reference", "live"),
    [
        (analysis([0.7, 0.5]), analysis([0.8, 0.5])),
        (analysis([0.0, 0.0]), analysis([0.8, 0.5])),
        (analysis([0.7, 0.1, 0.0]), analysis([0.0, 0.0, 0.0])),
        (analysis([1, 2], [1, 2]), analysis([1, 2], labels=("x",))),
        (analysis([9, 1], [9, 1]), analysis([9, 1], [1, 9])),
    ],
    ids=["same ranking", "zero reference", "zero live", "no label", "second label"],
)
def test_each_ranking_result_has_a_sentence(
    reference: GlobalAttributions, live: GlobalAttributions, golden: Golden
) -> None:
    """No drift, no verdict and the worst of several labels are told too."""
    golden(told(reference, live))


def test_reachability_is_told_at_baselining(golden: Golden) -> None:
    """The sentences say how low nDCG can fall, and when the alarm can never ring."""
    steep, flat, nothing = ndcg_range_notes(analysis([0.7, 0.5, 0.05], [1.0, 0.99, 0.98], [0.0, 0.0, 0.0]), 0.9)
    golden(steep)
    golden(flat)
    assert "degenerate" in nothing


def test_shares_and_ranks() -> None:
    """Shares are parts of the absolute sum, ranks start at 1 and ties share the better place."""
    np.testing.assert_allclose(share(np.array([3.0, -1.0])), [0.75, 0.25])
    np.testing.assert_allclose(share(np.zeros(2)), [0, 0])
    assert rank(np.array([2.0, 5.0, 2.0, 1.0])).tolist() == [2, 1, 2, 4]
