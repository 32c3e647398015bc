"""Charts: the data of Vega-Lite specifications, and their SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.domain.executions import HistoryPoint, utc
from runner.domain.numbers import plural
from runner.errors import ReportError
from runner.report import tables
from runner.report.renderer import Renderer
from runner.report.sections import Feature, Label, largest
from runner.report.tables import ReportTable, make_table
from runner.report.templates import Templates

CLIP = re.compile(r'((?:id|clip-path)="(?:url\(#)?)clip(\d+)')
FONT = re.compile(r'font-family="[^"]*"')
PDF_FONT = "Libertinus Serif"
"""Font of the charts in the PDF; narrower than the font for which the renderer places the text."""
MOST_WINDOWS = 12
"""Maximum number of windows in the table of the timeline."""
MOST_POINTS = 200
"""Maximum number of features in the chart of size and significance of changes."""
MOST_DISTRIBUTIONS = 5
"""Maximum number of features with histograms."""
MOST_REFERENCE_CHARTS = 6
"""Maximum number of labels of a reference with a chart."""

RENDERER = Renderer()
"""Process that draws all charts of this process."""


@dataclass(frozen=True)
class Figure:
    """Chart of a report.

    Attributes:
        id: unique name on the page.
        chart: name of the specification.
        sentence: description.
        data: rows of the specification's data.
        table: numbers of the chart; None if other tables contain them.
        folded: whether the page shows the table collapsed.
        section: section of the page: `changes`, `inputs`, `attributions`, `record`, `timeline`, `segments`, `parity`,
            `baseline`.
    """

    id: str
    chart: str
    heading: str
    sentence: str
    data: tuple[Mapping[str, Any], ...]
    table: ReportTable | None = None
    folded: bool = False
    section: str = "attributions"


@dataclass(frozen=True)
class Drawing(Figure):
    """Rendered chart.

    Attributes:
        specification: Vega-Lite specification as JSON, without data.
        filled: specification with data.
        svg: image for the column of the page, 904 pixels.
        narrow: image for a telephone, 358 pixels; empty if the other one fits.
    """

    specification: str = ""
    filled: Mapping[str, Any] | None = None
    svg: str = ""
    narrow: str = ""


@dataclass(frozen=True)
class WindowRow:
    """Results of a window in the table of the timeline; unknown numbers are None."""

    end: str
    status: str
    level: str
    ndcg: float | None
    attribution_shift: float | None
    attribution_shift_noise: float | None
    total_log2_change: float | None
    total_log2_change_noise: float | None


def comparison_figures(label: Label, significance: float, material: float | None, most: int) -> Iterator[Figure]:
    """Yield the charts of a label that is compared with the reference.

    Args:
        label: the label.
        significance: the significance level of the tests; unused for a label without tests.
        material: the attribution shift from which a change is material; None if unknown.
        most: the maximum number of features in the chart of ranks.
    """
    if label.result:
        yield _quadrant(label, significance, material)
    yield _slope(label, most)
    if label.result:
        yield from _histograms(label)


def _quadrant(label: Label, significance: float, material: float | None) -> Figure:
    features = sorted(label.features, key=lambda feature: (_p(feature), -feature.size))
    significant = [feature for feature in features if _p(feature) <= significance]
    sentence = (
        f"The attributions of {len(significant)} of {plural(len(features), 'feature')} changed significantly for "
        f"{label.name} (p below {significance:.1g})."
    )
    if material is not None:
        both = [feature for feature in significant if feature.size >= material]
        points = f"{100 * material:g} percentage points"
        sentence += (
            f" Large and significant (attribution share changed by {points} or more): {plural(len(both), 'feature')}."
        )
    lines = {"significance": significance, "material": material}
    data = tuple({**row, **lines} for row in _pick(features[:MOST_POINTS], "name", "share_change", "p"))
    return Figure("quadrant", "quadrant", "Size and significance of changes", sentence, data)


def _p(feature: Feature) -> float:
    return 1.0 if feature.p is None else feature.p


def _slope(label: Label, most: int) -> Figure:
    shown = largest(label.features, most)
    sentence = f"Ranks and attribution shares of the features for {label.name}, in the reference and live"
    sentence = _hidden(sentence, len(label.features) - len(shown))
    return Figure("slope", "slope", "Ranks", sentence, _pick(shown, "name", "share_before", "share_now"))


def _histograms(label: Label) -> Iterator[Figure]:
    shown = [feature for feature in label.top_changes if feature.attributions][:MOST_DISTRIBUTIONS]
    if shown:
        sentence = (
            f"Local attributions φ for {label.name}, and feature values. Shown: the features with the largest changes."
        )
        data = tuple(
            {
                "name": feature.name,
                "attributions": feature.attributions and asdict(feature.attributions),
                "values": feature.values and asdict(feature.values),
            }
            for feature in shown
        )
        table = make_table("Medians of the local attributions φ.", tables.MEDIANS, shown)
        yield Figure("histograms", "histograms", "Distributions", sentence, data, table, section="changes")


def timeline_figures(points: Sequence[HistoryPoint]) -> Iterator[Figure]:
    """Yield the timeline of windows, given oldest first; yield nothing for fewer than two windows."""
    if len(points) < 2:
        return
    sentence = (
        f"The last {plural(len(points), 'window')}. Bands: range expected by chance. Dashed line: nDCG threshold. "
        "Lines are interrupted by failed executions and missing windows."
    )
    if len({point.reference for point in points if point.reference}) > 1:
        sentence += " Dotted line: start of another reference."
    rows = [_window_row(point) for point in points[::-1][:MOST_WINDOWS]]
    table = make_table("The last windows, newest first.", tables.WINDOWS, rows)
    yield Figure("timeline", "timeline", "Timeline", sentence, tuple(map(asdict, points)), table, True, "timeline")


def _window_row(point: HistoryPoint) -> WindowRow:
    return WindowRow(
        end=format_time(utc(point.end)),
        status=point.status,
        level=point.level.words,
        ndcg=point.ndcg,
        attribution_shift=point.attribution_shift,
        attribution_shift_noise=point.attribution_shift_noise,
        total_log2_change=point.total_log2_change,
        total_log2_change_noise=point.total_log2_change_noise,
    )


def reference_figures(labels: Sequence[Label], most: int) -> Iterator[Figure]:
    """Yield a chart for each of the first labels of a reference, with the `most` largest features."""
    for i, label in enumerate(labels[:MOST_REFERENCE_CHARTS]):
        shown = largest(label.features, most)
        sentence = _hidden(f"Global attributions for {label.name}", len(label.features) - len(shown))
        data = _pick(shown, "name", "now")
        yield Figure(f"attributions-{i}", "attributions", f"Attributions: {label.name}", sentence, data)


def _hidden(sentence: str, hidden: int) -> str:
    return f"{sentence}. The {hidden:,} smallest are not shown." if hidden else f"{sentence}."


def _pick(features: Sequence[Feature], *keys: str) -> tuple[dict[str, Any], ...]:
    return tuple({key: getattr(feature, key) for key in keys} for feature in features)


def format_time(at: datetime) -> str:
    """Return a UTC time as a readable string, without seconds and time zone.

    >>> format_time(utc("2026-01-05T10:00:00Z"))
    '2026-01-05 10:00'
    """
    return f"{at:%Y-%m-%d %H:%M}"


def draw(figure: Figure, templates: Templates) -> Drawing:
    """Render a chart.

    Raises:
        ReportError: if the specification is invalid.
    """
    specification = templates.specification(figure.chart)
    filled = fill(specification, figure.data)
    image = svg(filled, figure.id, templates.chart(figure.chart))
    return Drawing(**vars(figure), specification=json.dumps(specification), filled=filled, svg=image)


def fill(specification: Mapping[str, Any], data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a specification with its data."""
    return {**specification, "data": {"values": list(data)}}


def with_pdf_font(svg: str) -> str:
    """Return a chart in the font of the PDF."""
    return FONT.sub(f'font-family="{PDF_FONT}"', svg)


def svg(specification: Mapping[str, Any], prefix: str, file: Path) -> str:
    """Render a specification with data as SVG.

    The renderer numbers clip paths consecutively over all charts of the process. Here they are renumbered from 0.

    Args:
        specification: the specification with data.
        prefix: the prefix of identifiers in the SVG, which makes them unique on a page.
        file: the file of the specification, for errors.

    Raises:
        ReportError: if the specification is invalid.
    """
    try:
        image = RENDERER.svg(specification)
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ReportError(file, f"cannot be drawn: {' '.join(lines[:2])}") from error
    numbers = {number: i for i, number in enumerate(dict.fromkeys(clip for _, clip in CLIP.findall(image)))}
    return CLIP.sub(lambda match: f"{match[1]}{prefix}-clip{numbers[match[2]]}", image)
