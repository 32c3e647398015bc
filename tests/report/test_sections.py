"""Sections of labels and segments: bars, effects, rules and order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Effect, InputResult, LabelRanking, LabelResult, Level, RankingResult, SegmentResult
from runner.drift.effects import rank, share
from runner.report import sections
from runner.report.sections import Label, compare_features, compare_labels, largest
from tests.golden import Golden
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


def test_without_tests_the_largest_change_of_a_share_is_first(golden: Golden) -> None:
    """Features have the shares of both sides and the ratio of their attributions, but no level."""
    features = compare_features({"a": 4.0, "b": 1.0, "c": 5.0}, {"a": 5.0, "b": 4.0, "c": 1.0})
    table = sections.top_changes([Label("u", features, 0.0, None, None)], None)
    assert table is not None
    assert [row[0] for row in table.rows] == ["c", "b", "a"]
    golden("\n".join(column.head for column in table.columns))
    keys = [column.key for column in table.columns]
    assert [row[keys.index("share_change")] for row in table.rows] == [
        "+40.0%",
        "\u221230.0%",
        "\u221210.0%",
    ]
    assert [row[keys.index("ratio")] for row in table.rows] == ["5.00", "0.25", "0.80"]
    assert "level" not in keys
    assert table.sentence == ""


def test_changed_inputs_are_rows_and_their_effects_are_a_sentence(golden: Golden) -> None:
    """Features whose values are unchanged are no rows, although their attributions or shares changed."""
    result = replace(RESULT, labels=(CHANGED,), significance=0.5, inputs=(changed_input("b", Level.WARNING),))
    table = sections.top_changes(compare_labels(LIVE, None, drift_document(LIVE, result)), result)
    assert table is not None
    assert [row[:3] for row in table.rows] == [("b", "warning", "renamed?")]
    golden(table.sentence)


def test_without_changed_inputs_changed_attributions_are_rows() -> None:
    """The smallest p-value first; without any significant change there is no table."""
    labels = compare_labels(LIVE, None, drift_document(LIVE, replace(RESULT, labels=(CHANGED,))))
    changed = sections.top_changes(labels, replace(RESULT, significance=0.5))
    assert changed is not None
    assert [row[0] for row in changed.rows] == ["c", "b"]
    assert sections.top_changes(labels, replace(RESULT, significance=1e-9)) is None


def changed_input(name: str, level: Level) -> InputResult:
    """Return a changed input with a cause."""
    return InputResult(name, level, 1e-9, 0.5, 0.0, 0.0, 0.25, 0.0, constant=False, cause="renamed?")


def test_effects_have_the_values_expected_by_chance(golden: Golden) -> None:
    """A test that is off has no row; an undefined effect has no expected value."""
    effects = list(sections.effect_rows(CHANGED, Effect(0.75, 0.5625, 0.001)))
    assert [effect.value for effect in effects] == ["25.0%", "undefined", "0.8750", "0.750"]
    expected = [effect.noise and effect.noise.split()[-1] for effect in effects]
    assert expected == ["10.0%", None, "0.9375", "0.562"]
    golden("\n".join(f"{effect.name} | {effect.value} | {effect.noise or ''}" for effect in effects))
    assert len(list(sections.effect_rows(CHANGED, None))) == 3


def test_the_segment_with_the_highest_level_is_first() -> None:
    """A segment shows its label with the highest level; one with too few records has no figures."""
    segments = tuple(
        SegmentResult(name, level, 1200, 30, labels)
        for name, level, labels in (
            ("few", Level.INSUFFICIENT_DATA, ()),
            ("calm", Level.NONE, (CALM,)),
            ("bad", Level.WARNING, (CHANGED, WORST)),
            ("less", Level.WARNING, (CHANGED,)),
        )
    )
    table = sections.segments_table(replace(RESULT, segments=segments))
    assert table is not None
    assert [row[0] for row in table.rows] == ["bad", "less", "few", "calm"]
    assert table.rows[0][1:6] == ("warning", "1,200", "30", "50.0%", "10.0%")
    assert table.rows[2][1:] == ("insufficient data", "1,200", "30", "", "", "", "")
    assert sections.segments_table(RESULT) is None


def test_rule_is_violated_below_the_threshold() -> None:
    """An undefined nDCG is no violation; without a ranking there is no rule."""
    label = Label("u", compare_features({"a": 1.0}, None), 0.0, None, None)
    rules = []
    for ndcg in (0.5, 0.95, None):
        ranked = replace(label, ranking=LabelRanking("u", "u", ndcg, None, None))
        rules.append(sections.section(ranked, 0.9, None, "mean_abs").rule)
    assert [(rule.ndcg, rule.violated) for rule in rules if rule] == [
        ("0.5000", True),
        ("0.9500", False),
        ("undefined", False),
    ]
    assert sections.section(label, 0.9, None, "mean_abs").rule is None


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
