"""The charts of a report: what each is about, in a sentence, and the rows that its specification draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.report import features, timeline
from runner.report.tables import Row, table

Document = Mapping[str, Any]

MOST_POINTS = 200
MOST_DISTRIBUTIONS = 5
MOST_CHARTED = 6
"""Labels of a reference that have a chart."""


def compared(section: Document, finding: Document, material: float | None, most: int) -> list[dict[str, Any]]:
    """Return the charts of what became of the features of a label.

    Args:
        section: of the label.
        finding: of the drift.json, empty where only the ranking was judged.
        material: the share that has to change hands for a warning, None where it is not known.
        most: features in the slope chart.
    """
    rows, label = section["rows"], section["label"]
    order = f"The order of the features of {label}, in the reference and live, with their shares of all attribution"
    shown = _only(features.largest(rows, most), "name", "share_before", "share_now")
    slope = _figure("slope", "Reference and live", _ended(order, len(rows) - len(shown)), shown)
    if not section["tested"]:
        return [slope]
    return [_quadrant(section, finding["significance"], material), slope, *_distributions(rows, label)]


def _quadrant(section: Document, significance: float, material: float | None) -> dict[str, Any]:
    surest = sorted(section["rows"], key=lambda feature: (feature["p"], -abs(feature["moved"])))[:MOST_POINTS]
    beyond = [feature for feature in section["rows"] if feature["p"] <= significance]
    sentence = (
        f"The attributions of {len(beyond)} of {len(section['rows'])} features of {section['label']} have changed "
        f"beyond chance (p below {significance:.1g})"
    )
    if material is not None:
        both = [feature for feature in beyond if abs(feature["moved"]) >= material]
        sentence += f"; {len(both)} of these gained or lost {material:.0%} of all attribution or more"
    lines = {"significance": significance, "material": material}
    values = [{**row, **lines} for row in _only(surest, "name", "moved", "p")]
    return _figure("quadrant", "Material and detectable", f"{sentence}.", values)


def _distributions(rows: Sequence[Row], label: str) -> list[dict[str, Any]]:
    told = [feature for feature in features.top_changes(rows) if feature.get("attributions")][:MOST_DISTRIBUTIONS]
    if not told:
        return []
    sentence = f"Local attributions φ of {label} and input values of those that moved most: shares of the records"
    figure = _figure(
        "histograms", "Distributions", f"{sentence}, reference and live.", _only(told, "name", "attributions", "values")
    )
    return [{**figure, "table": table("Where the middle of φ was, and is", features.MEDIANS, told)}]


def windows(points: Sequence[Document]) -> list[dict[str, Any]]:
    """Return the chart of what the last windows said; none where there is only one."""
    if len(points) < 2:
        return []
    sentence = (
        f"The last {len(points)} windows. Within the bands chance alone moves as much; the dashed line is the alarm. "
        "Where nothing was looked at, or an execution failed, the lines break."
    )
    if len({point["reference"] for point in points if point["reference"]}) > 1:
        sentence += " From a dotted line on it is another reference."
    figure = _figure("timeline", "Timeline", sentence, points)
    return [{**figure, "table": timeline.windows(points), "folded": True}]


def alone(sections: Sequence[Document], most: int) -> list[dict[str, Any]]:
    """Return the charts of a reference, which is compared with nothing: one for each of the first labels."""
    figures = []
    for i, section in enumerate(sections[:MOST_CHARTED]):
        shown = _only(features.largest(section["rows"], most), "name", "now")
        sentence = _ended(f"Global attributions of {section['label']}", len(section["rows"]) - len(shown))
        figure = _figure("attributions", f"Attributions: {section['label']}", sentence, shown)
        figures.append({**figure, "id": f"attributions-{i}"})
    return figures


def _figure(chart: str, heading: str, sentence: str, values: Sequence[Row]) -> dict[str, Any]:
    return {
        "id": chart,
        "chart": chart,
        "heading": heading,
        "sentence": sentence,
        "values": list(values),
        "table": None,
        "folded": False,
    }


def _ended(sentence: str, hidden: int) -> str:
    return f"{sentence}; the {hidden:,} smallest are left out." if hidden else f"{sentence}."


def _only(rows: Sequence[Row], *keys: str) -> list[dict[str, Any]]:
    return [{key: row.get(key) for key in keys} for row in rows]
