"""Labels and features: ranks, shares and order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Effect, LabelRanking, LabelResult, Level, RankingResult
from runner.drift.effects import rank, share
from runner.report.sections import Label, compare_features, compare_labels, largest
from tests.report.samples import drift_document, drift_result

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
LIVE = GlobalAttributions(("a", "b", "c"), ("u", "v", "w"), np.random.default_rng(0).random((3, 3)), np.zeros(3))
RESULT = drift_result(LIVE, LIVE)
CALM, CHANGED, WORST = (
    replace(label, level=level, attribution_shift=Effect(shift, 0.1, 0.5))
    for label, level, shift in zip(
        RESULT.labels, (Level.NONE, Level.WARNING, Level.WARNING), (0.75, 0.25, 0.5), strict=True
    )
)


def with_results(*results: LabelResult) -> list[Label]:
    """Return the labels of an analysis with the results of some of them."""
    return compare_labels(LIVE, None, drift_document(LIVE, replace(RESULT, labels=results)))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_shares_and_ranks_equal_the_ones_of_the_drift_tests(pairs: list[tuple[float, float]]) -> None:
    """Also with ties and zeros; the features are in the order of the reference."""
    before, now = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    features = compare_features(now, before)
    ranks = [feature.rank_before or 0 for feature in features]
    assert ranks == sorted(ranks)
    by_name = {feature.name: feature for feature in features}
    shares = [by_name[name].share_before or 0.0 for name in before]
    before_D, now_D = np.array(list(before.values())), np.array(list(now.values()))
    np.testing.assert_allclose(shares, share(before_D), rtol=1e-12)
    np.testing.assert_allclose([by_name[name].share_now for name in now], share(now_D), rtol=1e-12)
    assert [by_name[name].rank_before for name in before] == rank(abs(before_D)).tolist()
    assert [by_name[name].rank_now for name in now] == rank(abs(now_D)).tolist()


def test_charts_show_the_features_with_the_largest_shares() -> None:
    """Live or in the reference, in the order of the table."""
    features = compare_features({"a": 0.0, "b": 1.0, "c": 2.0, "d": 9.0}, {"a": 9.0, "b": 2.0, "c": 1.0, "d": 0.0})
    assert [feature.name for feature in largest(features, 2)] == ["a", "d"]
    assert largest(features, 4) == list(features)


def test_the_label_with_the_highest_level_is_first() -> None:
    """Labels with equal levels are sorted by attribution shift; labels without a result are last."""
    assert [label.name for label in with_results(CALM, CHANGED, WORST)] == ["w", "v", "u"]
    assert [label.name for label in with_results(replace(CHANGED, level=Level.INFO), WORST)] == ["w", "v", "u"]
    assert [label.result is not None for label in with_results(WORST)] == [True, False, False]


def test_without_tests_the_label_with_the_lowest_ndcg_is_first() -> None:
    """Labels with an undefined nDCG follow."""
    ranking = RankingResult(
        0.9, tuple(LabelRanking(name, name, ndcg, None, None) for name, ndcg in (("u", None), ("v", 0.5)))
    )
    labels = compare_labels(LIVE, ranking, None)
    assert [label.name for label in labels] == ["v", "u", "w"]
