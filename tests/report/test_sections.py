"""Sections of labels, features and segments: the one with most to say comes first."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Effect, Level
from runner.drift.shares import rank, share
from runner.report import sections
from runner.results.documents import dump_analysis
from tests.golden import Golden
from tests.report.samples import finding, manifest

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_shares_and_places_are_those_of_the_verdict(pairs: list[tuple[float, float]]) -> None:
    """Of any figures, ties and zeros among them, in the order of the reference."""
    before, now = ({str(i): pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    rows = sections.feature_rows(now, before, None)
    assert [row["rank_before"] for row in rows] == sorted(row["rank_before"] for row in rows)
    for side, values in (("before", before), ("now", now)):
        values_D = np.array(list(values.values()))
        told = {row["name"]: (row[f"share_{side}"], row[f"rank_{side}"]) for row in rows}
        np.testing.assert_allclose([told[name][0] for name in values], share(values_D), rtol=1e-12)
        assert [told[name][1] for name in values] == rank(abs(values_D)).tolist()


def test_what_moved_most_comes_first_with_a_bar_to_its_side(golden: Golden) -> None:
    """The longest bar reaches the edge; what moved next to nothing has next to no bar, whatever else there is."""
    rows = sections.feature_rows({"a": 4.0, "b": 1.0, "c": 5.0}, {"a": 5.0, "b": 4.0, "c": 1.0}, None)
    table = sections.top_changes_table(rows, "median")
    assert [row[0] for row in table["rows"]] == ["c", "b", "a"]
    golden("\n".join(table["heads"]))
    assert [row[5] for row in table["rows"]] == ["+40.0%", "-30.0%", "-10.0%"]
    assert table["bars"] == [
        {"from": 50.0, "length": 50.0, "gain": True},
        {"from": 12.5, "length": 37.5, "gain": False},
        {"from": 37.5, "length": 12.5, "gain": False},
    ]
    calm = sections.top_changes_table(
        sections.feature_rows({"a": 0.51, "b": 0.49}, {"a": 0.5, "b": 0.5}, None), "mean_abs"
    )
    assert [bar["length"] for bar in calm["bars"]] == [5.0, 5.0]


def test_charts_show_the_largest_of_either_side() -> None:
    """In the order of the table."""
    rows = sections.feature_rows(
        {"a": 0.0, "b": 1.0, "c": 2.0, "d": 9.0}, {"a": 9.0, "b": 2.0, "c": 1.0, "d": 0.0}, None
    )
    assert [row["name"] for row in sections.largest(rows, 2)] == ["a", "d"]
    assert sections.largest(rows, 4) == rows


NAMES = ("a", "b", "c")
LIVE = GlobalAttributions(NAMES, ("u", "v", "w"), np.random.default_rng(0).random((3, 3)), np.zeros(3))
FOUND = finding(LIVE, LIVE)
CALM, MOVED, WORST = (
    replace(label, level=level, attribution_shift=Effect(moved, 0.1, 0.5))
    for label, level, moved in zip(
        FOUND.labels, (Level.NONE, Level.WARNING, Level.WARNING), (0.75, 0.25, 0.5), strict=True
    )
)


def told(*labels_: Any) -> list[dict[str, Any]]:
    """Return the sections of a page over what was found."""
    document = orjson.loads(orjson.dumps(asdict(replace(FOUND, labels=labels_))))
    return sections.label_sections(
        {**manifest(), "verdict": {}}, orjson.loads(dump_analysis(LIVE)), {"finding": document}
    )


def test_the_worst_label_is_first() -> None:
    """By its level, then by the share that moved; a label that was not compared is last."""
    assert [section["label"] for section in told(CALM, MOVED, WORST)] == ["w", "v", "u"]
    assert [section["label"] for section in told(replace(MOVED, level=Level.INFO), WORST)] == ["w", "v", "u"]
    assert [section["tested"] for section in told(WORST)] == [True, False, False]


def test_without_a_finding_the_lowest_ndcg_is_first() -> None:
    """One that is undefined comes after those that are not."""
    rule: dict[str, Any] = {"floor": None, "chance": None, "violated": False, "notes": []}
    rules = [{"label": name, "reference_label": name, "ndcg": ndcg, **rule} for name, ndcg in (("u", None), ("v", 0.5))]
    verdict = {"threshold": 0.9, "labels": rules}
    shown = sections.label_sections({**manifest(), "verdict": verdict}, orjson.loads(dump_analysis(LIVE)), {})
    assert [section["label"] for section in shown] == ["v", "u", "w"]
    assert shown[1]["verdict"]["ndcg"] == "undefined"


def test_effects_stand_beside_chance(golden: Golden) -> None:
    """One that was not asked for is not there; one that is undefined has no noise."""
    found = {**asdict(MOVED), "separability": asdict(Effect(0.75, 0.5625, 0.001))}
    effects = sections.effects(found)
    assert [effect["value"] for effect in effects] == ["25.0%", "undefined", "0.8750", "0.750"]
    noises = [effect["noise"] and effect["noise"].split()[-1] for effect in effects]
    assert noises == ["10.0%", None, "0.9375", "0.562"]
    golden("\n".join(" | ".join(str(value) for value in effect.values()) for effect in effects))
    assert len(sections.effects({**found, "separability": None})) == 3


def test_the_worst_segment_is_first() -> None:
    """Of its labels the worst is told, with what moved most of it; one with too few records has no figures."""
    parts = [
        {
            "name": name,
            "level": level,
            "rows_reference": 1200,
            "rows_live": 30,
            "labels": [asdict(each) for each in found],
        }
        for name, level, found in (
            ("few", "insufficient_data", ()),
            ("calm", "none", (CALM,)),
            ("bad", "warning", (MOVED, WORST)),
            ("less", "warning", (MOVED,)),
        )
    ]
    table = sections.segment_table(parts)
    assert table is not None
    assert [row[0] for row in table["rows"]] == ["bad", "less", "few", "calm"]
    assert table["rows"][0][1:6] == ["warning", "1,200", "30", "50.0%", "10.0%"]
    assert table["rows"][2][1:] == ["insufficient data", "1,200", "30", "", "", "", ""]
    assert sections.segment_table([]) is None
