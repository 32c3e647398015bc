"""Charts: what each is about, the rows that its Vega-Lite specification draws, and its SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.errors import ReportError
from runner.report.sections import largest, top_changes
from runner.report.tables import MEDIANS, WINDOW_COLUMNS, Row, table
from runner.results import history

Document = Mapping[str, Any]

MOST_WINDOWS = 12
MOST_POINTS = 200
MOST_DISTRIBUTIONS = 5
MOST_CHARTED = 6
"""Labels of a reference that have a chart."""


def compared_figures(section: Document, finding: Document, material: float | None, most: int) -> list[dict[str, Any]]:
    """Return the charts of what became of the features of a label.

    Args:
        section: of the label.
        finding: of the drift.json, empty where only the ranking was judged.
        material: the share that has to change hands for a warning, None where it is not known.
        most: features in the slope chart.
    """
    rows, label = section["rows"], section["label"]
    order = f"The order of the features of {label}, in the reference and live, with their shares of all attribution"
    shown = _only(largest(rows, most), "name", "share_before", "share_now")
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
    told = [feature for feature in top_changes(rows) if feature.get("attributions")][:MOST_DISTRIBUTIONS]
    if not told:
        return []
    sentence = f"Local attributions φ of {label} and input values of those that moved most: shares of the records"
    figure = _figure(
        "histograms", "Distributions", f"{sentence}, reference and live.", _only(told, "name", "attributions", "values")
    )
    return [{**figure, "table": table("Where the middle of φ was, and is", MEDIANS, told)}]


def timeline_figures(points: Sequence[Document]) -> list[dict[str, Any]]:
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
    return [{**figure, "table": _window_table(points), "folded": True}]


def reference_figures(sections: Sequence[Document], most: int) -> list[dict[str, Any]]:
    """Return the charts of a reference, which is compared with nothing: one for each of the first labels."""
    figures = []
    for i, section in enumerate(sections[:MOST_CHARTED]):
        shown = _only(largest(section["rows"], most), "name", "now")
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


def timeline_points(manifest: Mapping[str, Any], drift: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the windows before an execution and its own, oldest first; none of a baselining."""
    if manifest["stage"] != "monitor":
        return []
    return [*drift.get("history", []), asdict(history.history_point(manifest))]


def _window_table(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of the last windows, the newest first."""
    rows = [
        {**point, "end": format_time(point["end"]), "level": point["level"].replace("_", " ")} for point in points[::-1]
    ]
    return table("The last windows, the newest first", WINDOW_COLUMNS, rows[:MOST_WINDOWS])


def format_time(at: str) -> str:
    """Return a time as it is read.

    >>> format_time("2026-01-05T10:00:00Z")
    '2026-01-05 10:00'
    """
    return at[:16].replace("T", " ")


CLIP = re.compile(r'((?:id|clip-path)="(?:url\(#)?)clip(\d+)')
FACE = re.compile(r'font-family="[^"]*"')
PRINTED = "Libertinus Serif"
"""The face that is embedded in the PDF; it is narrower than the one that charts are laid out in."""


def filled(specification: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a specification with its data."""
    return {**specification, "data": {"values": list(values)}}


def printed(svg: str) -> str:
    """Return a chart in the face of the PDF."""
    return FACE.sub(f'font-family="{PRINTED}"', svg)


def svg(specification: Mapping[str, Any], name: str, file: Path) -> str:
    """Return a specification as SVG; the renderer counts clips over the life of the process, here they start at 0.

    Args:
        specification: with its data.
        name: makes the identifiers inside the SVG unique on the page.
        file: where it comes from, for the error.

    Raises:
        ReportError: when it is no Vega-Lite.
    """
    import vl_convert

    try:
        drawn: str = vl_convert.vegalite_to_svg(dict(specification), allowed_base_urls=[])
    except ValueError as error:
        told = [line for line in str(error).splitlines() if line.strip()]
        raise ReportError(file, f"cannot be drawn: {' '.join(told[:2])}") from error
    numbers = {number: i for i, number in enumerate(dict.fromkeys(clip for _, clip in CLIP.findall(drawn)))}
    return CLIP.sub(lambda found: f"{found[1]}{name}-clip{numbers[found[2]]}", drawn)
