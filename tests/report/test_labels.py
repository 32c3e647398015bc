"""Labels and segments: the one with most to say comes first."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import orjson

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Effect, Level
from runner.report import labels, segments
from runner.results.documents import analysis
from tests.golden import Golden
from tests.report.samples import finding, manifest

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
    return labels.sections({**manifest(), "verdict": {}}, orjson.loads(analysis(LIVE)), {"finding": document})


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
    sections = labels.sections({**manifest(), "verdict": verdict}, orjson.loads(analysis(LIVE)), {})
    assert [section["label"] for section in sections] == ["v", "u", "w"]
    assert sections[1]["verdict"]["ndcg"] == "undefined"


def test_effects_stand_beside_chance(golden: Golden) -> None:
    """One that was not asked for is not there; one that is undefined has no noise."""
    found = {**asdict(MOVED), "separability": asdict(Effect(0.75, 0.5625, 0.001))}
    effects = labels.effects(found)
    assert [effect["value"] for effect in effects] == ["25.0%", "undefined", "0.8750", "0.750"]
    noises = [effect["noise"] and effect["noise"].split()[-1] for effect in effects]
    assert noises == ["10.0%", None, "0.9375", "0.562"]
    golden("\n".join(" | ".join(str(value) for value in effect.values()) for effect in effects))
    assert len(labels.effects({**found, "separability": None})) == 3


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
    table = segments.parts(parts)
    assert table is not None
    assert [row[0] for row in table["rows"]] == ["bad", "less", "few", "calm"]
    assert table["rows"][0][1:6] == ["warning", "1,200", "30", "50.0%", "10.0%"]
    assert table["rows"][2][1:] == ["insufficient data", "1,200", "30", "", "", "", ""]
    assert segments.parts([]) is None
