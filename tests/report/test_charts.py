"""Figures of a comparison: which ones there are, their sentences and tables, and their images in three widths."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runner.domain.drift import DriftResult, InputResult, Level
from runner.report import charts
from runner.report.charts import Charted, Figure
from runner.report.colors import TOKENS, themed
from runner.report.sections import Feature, Label, features_with_tests
from runner.report.svg import NARROW, PAPER, WIDE
from tests.golden import Golden
from tests.report.samples import HOSTILE, attributions, full_drift_result, history, record_sample

NAMES = [f"feature {i}" for i in range(30)]


def charted(names: list[str], material: float | None = 0.1, *, log_odds: bool = False) -> Charted:
    """Return the data of the charts of a comparison with all optional parts."""
    result = full_drift_result(attributions(names), attributions(names, 1))
    label = Label("yes", features_with_tests(result.labels[0].features), 0.25, None, result.labels[0])
    return Charted(label, result, record_sample(result), material, 20, log_odds)


def calm(data: Charted) -> Charted:
    """Return the data without a level and with the noise of the shares."""
    assert data.result is not None
    result = replace(data.result, level=Level.NONE, level_alone=Level.NONE)
    features = tuple(replace(each, share_noise=0.01) for each in data.label.features)
    return replace(data, result=result, label=replace(data.label, features=features))


def ids(data: Charted) -> list[str]:
    """Return the names of the figures."""
    return [figure.id for figure in data.figures()]


def by_id(data: Charted, name: str) -> Figure:
    """Return a figure."""
    return next(figure for figure in data.figures() if figure.id == name)


def test_a_calm_comparison_shows_shares_only() -> None:
    """Also without tests; a drift shows records, scores and evidence."""
    data = charted(NAMES)
    assert ids(data) == ["histograms", "scores", "shares", "beeswarm", "dependence", "record", "quadrant"]
    assert ids(calm(data)) == ["shares"]
    untested = replace(data, result=None, sample=None, label=replace(data.label, result=None))
    assert ids(untested) == ["shares"]


def test_documents_without_records_have_the_other_charts() -> None:
    """Documents of earlier versions lack records and the histogram of scores."""
    data = charted(NAMES)
    assert isinstance(data.result, DriftResult)
    outputs = tuple(replace(each, scores=None) for each in data.result.outputs)
    earlier = replace(data, sample=None, result=replace(data.result, outputs=outputs))
    assert ids(earlier) == ["histograms", "shares", "quadrant"]


def test_each_chart_is_drawn_in_three_widths() -> None:
    """All colors are tokens, which serve light and dark; text is at least 11 pixels, and never scaled."""
    for figure in [*charted(NAMES).figures(), *charts.timeline_figures(history(12))]:
        drawing = charts.draw(figure)
        for svg, width in ((drawing.svg, WIDE), (drawing.narrow, NARROW), (drawing.paper, PAPER)):
            assert re.search(r'<svg [^>]*width="(\d+)"', svg)[1] == str(width)  # type: ignore[index]
            assert f'viewBox="0 0 {width} ' in svg
            assert set(re.findall(r'font-size="([^"]*)"', svg)) == {"11"}
            assert "nan" not in svg
            assert "inf" not in svg
        assert set(re.findall(r"#[0-9a-f]{6}", themed(drawing.svg))) == set()
        assert set(re.findall(r"var\(--([a-z0-9-]+)\)", themed(drawing.svg))) <= set(TOKENS)
        assert drawing.svg.startswith(f'<svg id="{figure.id}" ')


@pytest.mark.parametrize("names", [HOSTILE, ["one"], [f"x{i}" for i in range(1000)]], ids=["hostile", "one", "1000"])
def test_names_are_data_and_size_is_bounded(names: list[str]) -> None:
    """Whatever the names and however many, the charts together stay small."""
    total = 0
    for figure in charted(names).figures():
        drawing = charts.draw(figure)
        total += len(drawing.svg) + len(drawing.narrow)
        assert set(re.findall(r"<(\w+)", drawing.svg)) <= {"svg", "path", "rect", "circle", "text", "tspan"}
        for text in re.findall(r"<text[^>]*>(.*?)</text>", drawing.svg):
            assert len(text) < 200
            assert not re.search("&(?!amp;|lt;|gt;|#35;)", text)
    assert total < 300_000


def test_a_name_that_is_a_color_keeps_its_characters() -> None:
    """Colors are replaced in attributes only."""
    data = charted(["#15181e", "b"])
    svg = themed(charts.draw(by_id(data, "shares")).svg)
    assert "&#35;15181e" in svg


def test_records_are_counted_in_the_sentence(golden: Golden) -> None:
    """And the unit of the attributions is named."""
    figure = by_id(charted(NAMES), "beeswarm")
    assert re.findall(r"\d+", figure.sentence) == ["40", "600", "40", "300"]
    golden(figure.sentence)
    golden(by_id(charted(NAMES, log_odds=True), "record").sentence)
    golden(by_id(charted(NAMES), "dependence").sentence)
    golden(by_id(calm(charted(NAMES)), "shares").sentence)


def test_distributions_are_those_of_changes() -> None:
    """Inputs that changed are first; without a change, the features with the largest shares are shown."""
    data = charted(NAMES)
    assert data.result is not None
    shown = by_id(data, "histograms").table
    assert shown is not None
    last = shown.rows[-1][0]
    changed = InputResult(last, Level.WARNING, 1e-9, 0.5, 0.0, 0.0, 0.0, 0.0, constant=False)
    first = by_id(replace(data, result=replace(data.result, inputs=(changed,))), "histograms").table
    assert first is not None
    assert [row[0] for row in first.rows] == [last, *(row[0] for row in shown.rows[:-1])]
    features = tuple(replace(each, p=1.0) for each in data.label.features)
    still = by_id(replace(data, label=replace(data.label, features=features)), "histograms").table
    assert still is not None
    assert len(still.rows) == len(shown.rows)


def test_changed_records_have_a_table() -> None:
    """With the event, if it is known, and the largest attribution."""
    table = by_id(charted(NAMES), "record").table
    assert table is not None
    assert [row[0] for row in table.rows] == ["event <i>", "record 1"]
    assert table.rows[0][2:4] == ("0.9", "+0.5")


def test_significant_and_material_changes_are_counted(golden: Golden) -> None:
    """Without a known material change, only significant changes are counted."""
    known, unknown = (by_id(charted(NAMES, material), "quadrant") for material in (0.1, None))
    assert known.sentence.startswith(unknown.sentence)
    golden(known.sentence)
    golden(unknown.sentence)


def test_evidence_is_that_of_the_values() -> None:
    """A feature whose values are unchanged is not detected, although its attributions changed."""
    data = charted(["Age", "b"])
    assert data.result is not None
    features = tuple(replace(each, p=1e-9) for each in data.label.features)
    figure = by_id(replace(data, label=replace(data.label, features=features)), "quadrant")
    assert re.findall(r"\d+", figure.sentence)[:2] == ["1", "2"]


def test_timeline_has_a_table_and_a_heat_map(golden: Golden) -> None:
    """The heat map lists the features with a change beyond chance, the largest first."""
    timeline, heat = charts.timeline_figures(history(12))
    assert timeline.table is not None
    assert timeline.table.rows[0][0] == "2026-01-05 09:00"
    assert heat.table is not None
    assert heat.table.rows == (
        ("<i>moved</i>", "5", "+55.0%", "+55.0%"),
        ("other", "5", "\u221240.0%", "\u221240.0%"),
    )
    golden(heat.sentence)
    assert list(charts.timeline_figures(history(1))) == []
    still = [replace(point, share_changes={}) for point in history(6)]
    assert [figure.id for figure in charts.timeline_figures(still)] == ["timeline"]


def test_another_reference_is_marked(golden: Golden) -> None:
    """A dotted line, explained by another sentence."""
    same = history(6)
    changed = [replace(point, reference="cd" * 32) if i > 3 else point for i, point in enumerate(same)]
    one, two = (next(charts.timeline_figures(points)) for points in (same, changed))
    assert two.sentence.count(".") == one.sentence.count(".") + 1
    golden(one.sentence)
    golden(two.sentence)
    dotted = 'stroke-dasharray="1 3"'
    assert [charts.draw(figure).svg.count(dotted) for figure in (one, two)] == [0, 1]


def test_hidden_features_are_counted() -> None:
    """The smallest ones are left out."""
    assert re.findall(r"\d+", by_id(charted(NAMES), "shares").sentence) == ["10"]


def test_the_font_is_replaced_for_the_pdf() -> None:
    """The only font is that of typst."""
    svg = charts.draw(by_id(charted(NAMES), "beeswarm")).paper
    assert set(re.findall('font-family="([^"]*)"', charts.with_pdf_font(svg))) == {"Libertinus Serif"}


def test_a_feature_without_tests_is_drawn() -> None:
    """Its evidence is 0."""
    data = charted(["a", "b"])
    features = tuple(Feature(name, 0.1, 0.5, 1, before=0.1, share_before=0.5, rank_before=1) for name in ("a", "b"))
    assert charts.draw(by_id(replace(data, label=replace(data.label, features=features)), "quadrant")).svg
