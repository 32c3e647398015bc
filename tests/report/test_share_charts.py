"""Charts of shares, evidence, windows and histograms: numbers and places of marks."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from runner.domain.drift import Change, ChangeKind, Histogram, Level
from runner.domain.executions import HistoryPoint
from runner.report.sections import Feature, SegmentRow
from runner.report.share_charts import (
    Evidence,
    changed_names,
    distributions,
    evidence_chart,
    heat_map,
    score_histogram,
    segments,
    share_changes,
    shares_without_drift,
    timeline,
)
from runner.report.svg import NARROW, WIDE
from tests.report.samples import HOSTILE, history
from tests.report.test_record_charts import texts


def features(count: int, noise: float | None = 0.02) -> list[Feature]:
    """Return features with rising and falling shares."""
    return [Feature(f"f{i}", 0.1, 0.1 + 0.1 * i, 1, 0.1, 0.2, 1, p=1e-9, share_noise=noise) for i in range(count)]


def circles(svg: str) -> list[tuple[float, float, str]]:
    """Return the center and the color of each circle of a row."""
    found = re.findall(r'<circle cx="([^"]*)" cy="([^"]*)" r="[^"]*" fill="([^"]*)"', svg)
    return [(float(x), float(y), color) for x, y, color in found if float(y) > 20]


def rectangles(svg: str) -> list[list[float]]:
    """Return x, y, width and height of each rectangle."""
    pattern = r'<rect x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"'
    return [list(map(float, found)) for found in re.findall(pattern, svg)]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_shares_are_on_one_scale(width: int) -> None:
    """Reference and live share of each feature; orange if it rose, blue if it fell."""
    found = circles(share_changes(features(4), width))
    assert len(found) == 8
    references = {x for x, _, color in found[::2]}
    assert len(references) == 1
    live = [x for x, _, _ in found[1::2]]
    assert live[1] == references.pop()
    assert live[3] - live[2] == pytest.approx(live[1] - live[0], abs=0.2)
    assert [color for *_, color in found[1::2]] == ["#2566ad", "#2566ad", "#b5480a", "#b5480a"]


def test_live_shares_lie_on_their_range_of_chance() -> None:
    """The range is centered at the reference share, and starts at 0 at the least."""
    boxes = rectangles(shares_without_drift(features(2, 0.05), WIDE))[1:]
    assert boxes[0] == pytest.approx([boxes[1][0], *boxes[0][1:]])
    zero = rectangles(shares_without_drift(features(1, 0.5), WIDE))[1]
    assert zero[0] == 148
    assert shares_without_drift(features(2, None), NARROW)


@pytest.mark.parametrize("p", [0.0, 1e-300, 1e-9, 1.0])
@pytest.mark.parametrize("size", [0.0, 0.5])
def test_names_of_detected_features_do_not_overlap(p: float, size: float) -> None:
    """Of a thousand features at one place, one is named, inside the chart."""
    rows = [Evidence(f"feature {i}", p, size, Level.INFO) for i in range(1000)]
    svg = evidence_chart(rows, 1e-4, 0.1, WIDE)
    assert len([text for text in texts(svg) if text.startswith("feature")]) == (p < 1e-4)
    for x, y, *_ in circles(svg):
        assert 0 <= x <= WIDE
        assert 0 <= y <= 276


def test_marks_show_the_level() -> None:
    """A diamond, a triangle, a dot; features within chance are rings."""
    rows = [Evidence(level, 1e-9, 0.1 * i, level) for i, level in enumerate(Level)] + [
        Evidence("x", 0.5, 0.1, Level.NONE)
    ]
    svg = evidence_chart(rows, 1e-4, None, WIDE)
    assert (svg.count('fill="#a81b14"'), svg.count('fill="#c97d00"'), svg.count('fill="#1f5aa8"')) == (1, 1, 1)
    assert "x" not in texts(svg)
    assert not [text for text in texts(svg) if text.startswith("warning:")]


def test_cells_are_colored_beyond_chance_only() -> None:
    """Failed and missing windows have no cell; the last window is also a number."""
    points = history(12)
    names = changed_names(points, 5)
    assert names == ["<i>moved</i>", "other"]
    svg = heat_map(points, names, WIDE)
    cells = {color: data.count("M") for data, color in re.findall(r'<path d="([^"]*)" fill="(#[^"]*)"', svg)}
    assert sum(data.count("M") for data in re.findall(r'<path d="([^"]*)" fill="#', svg)) == 2 * 11
    assert cells["#9c3a04"] == 5
    assert {"+55.0", "\N{MINUS SIGN}40.0"} <= set(texts(svg))
    still = replace(points[-1], share_changes={})
    assert "–" in texts(heat_map([*points, still], names, NARROW))


def test_lines_are_interrupted_by_gaps_and_failures() -> None:
    """Twelve windows with a gap and a failure: three lines per panel, and a cross."""
    svg = timeline(history(12), WIDE)
    lines = re.findall(r'<path d="([^"]*)"[^>]*stroke="#15181e" stroke-width="1.4"', svg)
    assert [line.count("M") for line in lines] == [3, 3]
    assert svg.count("l8 8m0-8l-8 8") == 1


@pytest.mark.parametrize("count", [2, 12, 1000])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_labels_of_time_do_not_overlap(count: int, width: int) -> None:
    """From two hours to six weeks; and earlier documents lack scores and records."""
    points = [replace(point, mean_score=None, records=None, share_changes={}) for point in history(count)]
    svg = timeline(points, width)
    assert "Mean score" not in texts(svg)
    places = [float(x) for x in re.findall(r'<text x="([^"]*)" y="200"', svg)]
    assert places == sorted(places)
    assert 1 <= len(places) <= 14
    assert all(b - a >= 30 for a, b in itertools.pairwise(places))
    assert len(svg) < 120 * count + 10_000


def test_alerts_are_tinted() -> None:
    """With a strip in the color of the level."""
    points = history(6)
    alerts: list[HistoryPoint] = [
        replace(point, level=level) for point, level in zip(points, [*Level, Level.NONE], strict=True)
    ]
    svg = timeline(alerts, WIDE)
    assert (svg.count('fill="#fdf0ee"'), svg.count('fill="#fcf4e6"')) == (1, 1)
    assert (svg.count('fill="#a81b14"'), svg.count('fill="#c97d00"'), svg.count('fill="#1f5aa8"')) == (1, 1, 1)


def test_start_of_the_change_is_marked() -> None:
    """With its time and its name, which is data; a start before the first window is not shown."""
    points = history(12)
    change = Change(ChangeKind.INPUT, "<i>rate", points[-2].start, points[-2].start)
    for width in (WIDE, NARROW):
        svg = timeline(points, width, change)
        assert [text for text in texts(svg) if "rate" in text] == ["Mon 07:00 &lt;i&gt;rate"]
        assert timeline(points, width, replace(change, since="2020-01-01T00:00:00Z")) == timeline(points, width)


def test_histograms_of_numbers_and_categories() -> None:
    """Bars of the reference and an outline of the live records; names are data."""
    numbers = Histogram((0.0, 1.0, 2.0, 4.0), (), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0), (0.75, 3.0))
    names = Histogram((), ("<b>", "x" * 99), (1.0, 0.0), (0.5, 0.5))
    each = Feature("f", 0.1, 0.1, 1, attributions=numbers, values=names)
    svg = distributions([each], WIDE)
    assert svg.count('fill="#cbd2dc"') == 1 + 2 + 1
    assert "median 0.75 → 3" in texts(svg)
    assert "&lt;b&gt;" in texts(svg)
    bars = [box for box in rectangles(svg) if box[1] > 20]
    assert bars[1][2] == pytest.approx(bars[2][2], abs=0.2)


def test_positive_numbers_of_different_sizes_are_on_a_log_axis() -> None:
    """Bins with a constant ratio have the same width."""
    numbers = Histogram((1.0, 10.0, 100.0), (), (0.5, 0.5), (0.5, 0.5), (5.0, 50.0))
    each = Feature("f", 0.1, 0.1, 1, attributions=numbers, values=None)
    boxes = [box for box in rectangles(distributions([each], WIDE)) if box[1] > 20]
    assert boxes[0][2] == pytest.approx(boxes[1][2], abs=0.2)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_any_histogram_is_drawn(width: int) -> None:
    """One bin, twelve names, nothing on one side, and groups without values."""
    one = Histogram((1.5, 2.5), (), (1.0,), (1.0,), (2.0, 2.0))
    many = Histogram((), tuple(HOSTILE), (0.0,) * 11, (1 / 11,) * 11)
    rows = [Feature(name, 0.1, 0.1, 1, attributions=one, values=many) for name in HOSTILE]
    svg = distributions([*rows, Feature("g", 0.1, 0.1, 1, attributions=one)], width)
    assert "a group has no values" in texts(svg)
    assert set(re.findall(r"<(\w+)", svg)) == {"svg", "path", "rect", "text"}
    assert score_histogram(one, width)
    assert score_histogram(many, width)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_segments_have_the_mark_of_their_level(width: int) -> None:
    """On one scale with the ranges of chance."""
    rows = [SegmentRow("<b>", "violation", 1200, 1150, 0.5, 0.125), SegmentRow("b", "none", 90, 80, 0.0, 0.25)]
    svg = segments(rows, width)
    first, second = (size for _, _, size, height in rectangles(svg) if height == 10)
    assert second == pytest.approx(2 * first, abs=0.2)
    assert svg.count("l6 6-6 6-6-6z") == 1
    assert {"&lt;b&gt;", "1,150", "80"} <= set(texts(svg))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize(("threshold", "count"), [(None, 0), (0.0, 1), (0.9, 1), (1.5, 0)])
def test_threshold_of_scores_is_marked(threshold: float | None, count: int, width: int) -> None:
    """If it is on the axis."""
    histogram = Histogram((0.0, 0.5, 1.0), (), (0.5, 0.5), (0.0, 1.0))
    assert texts(score_histogram(histogram, width, threshold=threshold)).count("threshold") == count
