"""The charts, as they are drawn: gaps are gaps, and texts do not pile up."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from runner.report import charts
from runner.report.templates import Templates
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.report.samples import HOSTILE, points

TEMPLATES = Templates((CHECKOUT / "reports_templates",))


def drawn(figure: dict[str, Any]) -> str:
    """Return a figure as SVG."""
    filled = charts.filled(TEMPLATES.specification(figure["chart"]), figure["values"])
    return charts.svg(filled, figure["id"], Path(f"{figure['chart']}.vl.json"))


def compared(names: list[str], moved: float = 0.0, p: float = 1e-9, material: float | None = 0.1) -> dict[str, Any]:
    """Return the quadrant of features that all moved alike and are alike sure."""
    rows = [{"name": name, "moved": moved, "p": p, "share_before": 0.1, "share_now": 0.1} for name in names]
    section = {"label": "u", "rows": rows, "tested": True}
    return charts.compared_figures(section, {"significance": 1e-4}, material, 20)[0]


def texts(svg: str) -> list[str]:
    """Return the texts of a chart."""
    return re.findall("<text[^>]*>([^<]*)</text>", svg)


def test_lines_break_where_nothing_was_looked_at() -> None:
    """Twelve windows, one missing in the middle, one failed: three pieces in each panel, and the failure is marked."""
    (figure,) = charts.timeline_figures([asdict(point) for point in points(12)])
    svg = drawn(figure)
    lines = re.findall('<path[^>]* d="([^"]*)"[^>]* stroke="#767d88"', svg)
    assert sum(line.count("M") for line in lines) == 3 * 3
    assert svg.count('fill="#222222"') > 1
    assert figure["table"]["rows"][0][0] == "2026-01-05 09:00"
    assert charts.timeline_figures([asdict(points(2)[0])]) == []


def test_another_reference_is_marked(golden: Golden) -> None:
    """By one sentence more, and by a dotted line in each of the three panels."""
    same = [asdict(point) for point in points(6)]
    changed = [{**point, "reference": "new" if i > 3 else "old"} for i, point in enumerate(same)]
    one, two = (charts.timeline_figures(each)[0] for each in (same, changed))
    assert two["sentence"].count(". ") == one["sentence"].count(". ") + 1
    golden(one["sentence"])
    golden(two["sentence"])
    assert drawn(two).count('stroke-dasharray="1,3"') == 3
    assert drawn(one).count('stroke-dasharray="1,3"') == 0


@pytest.mark.parametrize(("moved", "p"), [(0.2, 1e-9), (0.0, 1.0), (-0.2, 0.0), (0.01, 1e-300)])
def test_texts_do_not_pile_up(moved: float, p: float) -> None:
    """Of two hundred features in one place one is named."""
    figure = compared([f"feature {i}" for i in range(1000)], moved, p)
    assert len(figure["values"]) == charts.MOST_POINTS
    named = [text for text in texts(drawn(figure)) if text.startswith("feature")]
    assert len(named) == 1


def test_the_quadrant_counts_what_it_shows(golden: Golden) -> None:
    """Features beyond chance and the material ones of these; where `material` is not known, only the first number."""
    known, unknown = (compared(["a", "b"], -0.2, material=material) for material in (0.1, None))
    assert re.findall(r"\d[\d.]*", known["sentence"]) == ["2", "2", "0.0001", "2", "10"]
    assert re.findall(r"\d+(?:\.\d+)?", unknown["sentence"]) == ["2", "2", "0.0001"]
    golden(known["sentence"])
    golden(unknown["sentence"])
    assert [drawn(figure).count('stroke-dasharray="4,3"') for figure in (compared(["a"]), unknown)] == [2, 1]


def test_names_are_cut_and_not_lost() -> None:
    """A chart has room for thirty characters; on paper it is in the face of the PDF."""
    svg = drawn(compared([HOSTILE[-2]]))
    assert "l" * 30 + "…" in texts(svg)
    assert set(re.findall('font-family="([^"]*)"', charts.printed(svg))) == {"Libertinus Serif"}
