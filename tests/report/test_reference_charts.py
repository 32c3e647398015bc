"""Charts of a reference and of a sweep: numbers and places of marks."""

from __future__ import annotations

import re

import pytest

from runner.domain.drift import DetectableChange
from runner.explain.background import BaselineScore
from runner.report.reference_charts import (
    SweepPoint,
    attribution_bars,
    baseline_percentiles,
    detectable_changes,
    error_and_cost,
)
from runner.report.sections import Feature
from runner.report.svg import NARROW, PAPER, WIDE
from tests.report.samples import HOSTILE
from tests.report.test_record_charts import texts

WIDTHS = pytest.mark.parametrize("width", [NARROW, PAPER, WIDE])


def circles(svg: str) -> list[tuple[float, float]]:
    """Return the centers of the circles."""
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"', svg)]


@WIDTHS
def test_bars_are_proportional_to_the_attributions(width: int) -> None:
    """Negative ones (shap.agg_method=median) point to the left."""
    features = [Feature("a", 2.0, 0.5, 1), Feature("b", 1.0, 0.25, 2), Feature("c", -1.0, 0.25, 3)]
    svg = attribution_bars(features, width)
    first, second, third = (float(size) for size in re.findall(r'<rect [^>]*width="([^"]*)" height="12"', svg))
    assert first == pytest.approx(2 * second, abs=0.2)
    assert second == pytest.approx(third, abs=0.2)
    assert {"a", "50.0\N{NO-BREAK SPACE}%"} <= set(texts(svg))
    assert attribution_bars([Feature(name, 0.0, 0.0, 1) for name in HOSTILE], width)


@WIDTHS
def test_unusual_scores_have_a_triangle(width: int) -> None:
    """With more labels, a score must be farther out to be unusual."""
    scores = [BaselineScore("a", 0.25, 0.03), BaselineScore("b <i>", 0.5, 0.5)]
    one, many = (baseline_percentiles(scores, labels, width) for labels in (1, 9))
    assert [svg.count("l6 11h-12z") for svg in (one, many)] == [1, 0]
    assert [len(circles(svg)) for svg in (one, many)] == [1, 2]
    assert {"a", "b &lt;i&gt;", "0.25"} <= set(texts(one))


@WIDTHS
def test_undetectable_changes_are_left_out(width: int) -> None:
    """The curve falls from the left to the right."""
    changes = [DetectableChange(10**i, min(1.0, 5 / 2**i)) for i in range(1, 6)]
    places = circles(detectable_changes(changes, width))
    assert len(places) == 3
    assert places == sorted(places)
    assert [y for _, y in places] == sorted(y for _, y in places)
    assert len(circles(detectable_changes([DetectableChange(10, 0.5)], width))) == 1


@WIDTHS
def test_error_falls_with_the_cost(width: int) -> None:
    """Each kind has a line in its color; names that would cover others are left out."""
    members = [SweepPoint(f"n={i}", "a" if i % 2 else "b <b>", 10 * i, 1e-3 / i) for i in range(1, 9)]
    svg = error_and_cost(members, width)
    assert len(circles(svg)) == len(members) + 2
    assert svg.count('stroke-opacity="0.5"') == 2
    assert {"a", "b &lt;b&gt;", "n=1"} <= set(texts(svg))
    assert len(circles(error_and_cost([SweepPoint(HOSTILE[-2], HOSTILE[0], 7, 0.5)] * 2, width))) == 3
    kinds = [SweepPoint("", str(i), 1 + i, 10.0**-i) for i in range(40)]
    assert len(circles(error_and_cost(kinds, width))) == 80
