"""Charts of single records: numbers and places of marks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from runner.domain.drift import ChangedRecord, Contribution, Parity, SampledFeature, ScorePairs, Value
from runner.report.record_charts import (
    MOST_CATEGORIES,
    beeswarm,
    dependence,
    probability,
    score_pairs,
    shown_features,
    value_steps,
    waterfall,
)
from runner.report.svg import NARROW, WIDE
from tests.report.samples import HOSTILE

RNG = np.random.default_rng(2)
VALUES: tuple[Value, ...] = tuple(float(i) for i in range(100))


def feature(
    name: str, values: tuple[Value, ...], live: tuple[Value, ...] | None = None, moved: float = 0
) -> SampledFeature:
    """Return a feature with attributions that grow with the index of the record."""
    live = values if live is None else live
    phi = [tuple((np.linspace(-1, 1, len(side)) + shift).tolist()) for side, shift in ((values, 0), (live, moved))]
    return SampledFeature(name, phi[0], phi[1], values, live)


def dots(svg: str) -> dict[str, int]:
    """Return the number of dots of each color."""
    found = re.findall(r'<path d="((?:m-?\d+ ?-?\d+h0)+)"[^>]* stroke="([^"]*)"', svg)
    counts: dict[str, int] = {}
    for data, color in found:
        counts[color] = counts.get(color, 0) + data.count("m")
    return counts


def texts(svg: str) -> list[str]:
    """Return the strings of a chart."""
    return [re.sub("<[^>]*>", "", text) for text in re.findall(r"<text[^>]*>(.*?)</text>", svg)]


def bars(svg: str) -> list[tuple[float, float, str]]:
    """Return left end, width and color of each step."""
    found = re.findall(r'<rect x="([^"]*)" y="[^"]*" width="([^"]*)" height="14" fill="([^"]*)"', svg)
    return [(float(x), float(width), color) for x, width, color in found]


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_pairs_of_equal_scores_are_grey(width: int) -> None:
    """Differences up to the tolerance are equal; the legend counts all records, the axes include all scores."""
    pairs = ScorePairs("y", (0.25, 0.5, -7.0), (0.25, 0.501, 9.0), ())
    svg = score_pairs(pairs, Parity(16.0, 2000, 0.01, 40), width)
    assert dots(svg) == {"#7d8899": 2, "#6a3ab2": 1}
    assert {"1,960 equal", "40 differ", "\u22125"} <= set(texts(svg))
    assert score_pairs(ScorePairs("y", (0.0,), (0.0,), ()), Parity(1.0, 1), width)


def test_colors_are_fifths_of_the_reference() -> None:
    """Values beyond the reference have the outermost colors; ties share the middle one."""
    each = feature("a", VALUES, (-5.0, 0.0, 50.0, 99.0, 1e9, None))
    assert value_steps(each, each.live_values) == [0, 0, 2, 4, 4, None]
    assert [value_steps(each, each.reference_values).count(step) for step in range(5)] == [20] * 5
    constant = feature("b", (1.0,) * 9)
    assert set(value_steps(constant, constant.live_values)) == {2}
    assert value_steps(feature("c", ("x", None)), ("x", None)) == [None, None]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_each_record_is_a_dot(width: int) -> None:
    """Five colors for numbers, grey for categories, missing values and groups."""
    group = SampledFeature("group", (0.5,) * 7, (0.25,) * 5, (), ())
    features = [feature("n", VALUES), feature("c", ("a", "b") * 30, ("a",) * 10), feature("m", (None, *VALUES)), group]
    counts = dots(beeswarm(features, {"n"}, width))
    assert sum(counts.values()) == 200 + 70 + 202 + 12
    assert counts["#7d8899"] == 70 + 2 + 12
    assert len(counts) == 6


def test_both_sides_have_the_same_scale() -> None:
    """Equal attributions are drawn at the same distance from the zero line."""
    svg = beeswarm([feature("a", (1.0, 2.0), (1.0, 2.0))], set(), WIDE)
    starts = [int(x) / 2 for x in re.findall(r'd="m(-?\d+) ?-?\d+h0"', svg)]
    assert len(starts) == 4
    first, second = sorted(starts)[:2], sorted(starts)[2:]
    assert np.diff(first) == pytest.approx(np.diff(second), abs=1)


@pytest.mark.parametrize(
    "phi", [(0.0,) * 50, (1e-300, -1e-300), (1e99, -1e99, 0.0), (0.5,)], ids=["zero", "tiny", "huge", "one"]
)
def test_any_attributions_stay_inside(phi: tuple[float, ...]) -> None:
    """Also constant, tiny and huge ones."""
    each = SampledFeature("a", phi, phi, tuple(phi), tuple(phi))
    for draw in (beeswarm([each], set(), NARROW), dependence([each], NARROW)):
        for x in re.findall(r'd="m(-?\d+) ?-?\d+h0', draw):
            assert 0 <= int(x) / 2 <= NARROW


def test_equal_attributions_are_stacked_inside_the_row() -> None:
    """Two hundred dots at one place."""
    each = SampledFeature("a", (0.1,) * 200, (0.1,), (1.0,) * 200, (1.0,))
    (data, *_) = re.findall(r'<path d="((?:m-?\d+ ?-?\d+h0){200})"', beeswarm([each], set(), WIDE))
    moves = [int(y) / 2 for y in re.findall(r"m-?\d+ ?(-?\d+)h0", data)]
    assert abs(sum(moves[1:])) <= 30


def test_missing_values_and_the_end_of_the_reference_are_marked() -> None:
    """A value one hundred times larger is on a log axis."""
    live = (None, *(100 * value for value in VALUES[1:] if isinstance(value, float)))
    svg = dependence([feature("rate", VALUES[1:], live)], WIDE)
    assert "missing" in texts(svg)
    assert "value, log axis" in texts(svg)
    assert "reference ends at 99" in texts(svg)
    assert "reference ends at 99" not in texts(dependence([feature("rate", VALUES)], WIDE))


def test_rare_categories_share_a_place() -> None:
    """Names are data."""
    values: tuple[Value, ...] = tuple(name for i, name in enumerate(HOSTILE) for _ in range(i + 1))
    svg = dependence([feature("c", values)], WIDE)
    assert "others" in texts(svg)
    assert len(texts(svg)) < 12 + MOST_CATEGORIES
    assert set(re.findall(r"<(\w+)", svg)) <= {"svg", "path", "text", "circle"}
    assert sum(dots(svg).values()) == 2 * len(values)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_steps_add_up_to_the_score(width: int) -> None:
    """Each bar starts where the one above ends; attributions that rise and fall have different colors."""
    parts = (Contribution("a", 3.0, 0.5), Contribution("b", "<x>", -0.25), Contribution("c", None, 0.125))
    svg = waterfall(ChangedRecord(0, 0.65, 0.25, parts, 4, 0.025), width, log_odds=False)
    steps = bars(svg)
    assert [color for *_, color in steps] == ["#b5480a", "#2566ad", "#b5480a", "#b5480a"]
    scale = steps[0][1] / 0.5
    assert [size for _, size, _ in steps] == pytest.approx(
        [0.5 * scale, 0.25 * scale, 0.125 * scale, 0.025 * scale], abs=0.2
    )
    assert steps[0][0] + steps[0][1] == pytest.approx(steps[1][0] + steps[1][1], abs=0.2)
    assert steps[1][0] == pytest.approx(steps[2][0], abs=0.2)
    assert "4 others" in texts(svg)
    assert "c = missing" in texts(svg)
    assert texts(svg).count("0.65") == 1


def test_log_odds_have_ticks_in_probability() -> None:
    """The score is a probability too."""
    record = ChangedRecord(0, 2.0, -2.0, (Contribution("a", 1.0, 4.0),), 0, 0.0)
    svg = waterfall(record, WIDE, log_odds=True)
    assert {"0.1", "0.5", "0.9", f"{probability(2.0):.3f}"} <= set(texts(svg))
    assert "0 others" not in texts(svg)
    assert probability(-1e9) == 0.0
    assert waterfall(ChangedRecord(0, 0.0, 0.0, (), 0, 0.0), WIDE, log_odds=True)


def test_shown_features_have_values() -> None:
    """In the given order; groups have none."""
    features = [feature("a", VALUES), feature("b", VALUES), SampledFeature("g", (0.5,), (0.5,), (), ())]
    assert [each.name for each in shown_features(features, {"b": 0, "g": 1, "a": 2}, 3)] == ["b", "a"]
    assert shown_features(features, {}, 3) == []


def test_the_end_of_the_reference_is_named_above_all_dots() -> None:
    """Wherever the live records are; near the edge, the name stays inside."""
    for live in (tuple(1000.0 + i for i in range(100)), tuple(101.0 + 5 * i for i in range(100))):
        svg = dependence([feature("a", VALUES, live, moved=3)], NARROW)
        name = re.search(r'<text x="([^"]*)" y="([^"]*)"[^>]*>reference ends at', svg)
        heights = [float(y) / 2 for y in re.findall(r'd="m-?\d+ ?(-?\d+)h0', svg)]
        assert name
        assert float(name[2]) < min(heights)
        assert 0 < float(name[1]) < NARROW - 80


@pytest.mark.parametrize(("log_odds", "threshold", "text"), [(False, 0.25, "0.25"), (True, 0.0, "0.500")])
def test_threshold_of_the_positive_class_is_marked(log_odds: bool, threshold: float, text: str) -> None:
    """In the unit of the scores, if it is on the axis."""
    record = ChangedRecord(0, 0.5, -0.5, (Contribution("a", 1.0, 1.0),), 0, 0.0)
    assert f"threshold {text}" in texts(waterfall(record, NARROW, log_odds=log_odds, threshold=threshold))
    assert len(texts(waterfall(record, NARROW, log_odds=log_odds, threshold=9.0))) == len(
        texts(waterfall(record, NARROW, log_odds=log_odds))
    )
