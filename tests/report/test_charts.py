"""Charts as they are drawn: interrupted lines, references, and labels that do not overlap."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runner.report import charts
from runner.report.charts import Drawing, Figure
from runner.report.sections import Feature, Label
from runner.report.templates import Templates
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.report.samples import HOSTILE, attributions, drift_result, history

TEMPLATES = Templates((CHECKOUT / "reports_templates",))
LIVE = attributions(["a"])
RESULT = drift_result(LIVE, LIVE).labels[0]


def draw(figure: Figure) -> Drawing:
    """Draw a figure with the shipped specification."""
    return charts.draw(figure, TEMPLATES)


def quadrant(names: list[str], change: float = 0.0, p: float = 1e-9, material: float | None = 0.1) -> Figure:
    """Return the chart of features with the same change and the same p-value."""
    features = tuple(
        Feature(name, 0.1, 0.1 + change, 1, before=0.1, share_before=0.1, rank_before=1, p=p) for name in names
    )
    return next(charts.comparison_figures(Label("u", features, 0.0, None, RESULT), 1e-4, material, 20))


def strings(svg: str) -> list[str]:
    """Return the strings in a chart."""
    return re.findall("<text[^>]*>([^<]*)</text>", svg)


def test_lines_are_interrupted_by_gaps_and_failures() -> None:
    """Twelve windows with a gap and a failure: three lines per panel, and a mark for the failure."""
    (figure,) = charts.timeline_figures(history(12))
    svg = draw(figure).svg
    lines = re.findall('<path[^>]* d="([^"]*)"[^>]* stroke="#767d88"', svg)
    assert sum(line.count("M") for line in lines) == 3 * 3
    assert svg.count('fill="#222222"') > 1
    assert figure.table is not None
    assert figure.table.rows[0][0] == "2026-01-05 09:00"
    assert list(charts.timeline_figures(history(1))) == []


def test_another_reference_is_marked(golden: Golden) -> None:
    """A dotted line in each panel, explained by another sentence."""
    same = history(6)
    changed = [replace(point, reference="cd" * 32) if i > 3 else point for i, point in enumerate(same)]
    one, two = (next(charts.timeline_figures(points)) for points in (same, changed))
    assert two.sentence.count(".") == one.sentence.count(".") + 1
    golden(one.sentence)
    golden(two.sentence)
    assert draw(two).svg.count('stroke-dasharray="1,3"') == 3
    assert draw(one).svg.count('stroke-dasharray="1,3"') == 0


@pytest.mark.parametrize(("change", "p"), [(0.2, 1e-9), (0.0, 1.0), (-0.2, 0.0), (0.01, 1e-300)])
def test_names_do_not_overlap(change: float, p: float) -> None:
    """Of many features at one position, one is named."""
    figure = quadrant([f"feature {i}" for i in range(1000)], change, p)
    assert len(figure.data) == charts.MOST_POINTS
    named = [string for string in strings(draw(figure).svg) if string.startswith("feature")]
    assert len(named) == 1


def test_significant_and_material_changes_are_counted(golden: Golden) -> None:
    """Without a known material change, only significant changes are counted, and its line is missing."""
    known, unknown = (quadrant(["a", "b"], -0.2, material=material) for material in (0.1, None))
    assert re.findall(r"\d[\d.]*\d|\d", known.sentence) == ["2", "2", "0.0001", "10", "2"]
    assert re.findall(r"\d[\d.]*\d|\d", unknown.sentence) == ["2", "2", "0.0001"]
    golden(known.sentence)
    golden(unknown.sentence)
    assert [draw(figure).svg.count('stroke-dasharray="4,3"') for figure in (quadrant(["a"]), unknown)] == [2, 1]


def test_long_names_are_shortened() -> None:
    """To thirty characters; for the PDF, the font is replaced."""
    svg = draw(quadrant([HOSTILE[-2]])).svg
    assert "l" * 30 + "…" in strings(svg)
    assert set(re.findall('font-family="([^"]*)"', charts.with_pdf_font(svg))) == {"Libertinus Serif"}
