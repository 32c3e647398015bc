"""Charts of attribution shares: their change, by size and evidence, and over time; and small histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runner.domain.drift import Change, Histogram, Level
from runner.domain.executions import MONTHS, WEEKDAYS, HistoryPoint, Status, utc
from runner.report.sections import Feature, SegmentRow
from runner.report.svg import (
    MINUS,
    WIDE,
    Canvas,
    Scale,
    needs_log,
    number,
    pixels,
    polyline,
    shorten,
    signed,
    text_width,
)

LABELS = 138
"""Width of the column of names in pixels."""
ROW, CELL = 24, 20
"""Height of a feature in pixels, in the charts of shares and in the heat map."""
TOP = 50
"""Height of the legend and the axis above the rows of shares."""
HISTOGRAM = 30
"""Height of a histogram in a row."""
HEAT = (1, 3, 10, 30)
"""Percentage points at which the color of a cell changes."""
MARKS = {Level.INFO: "info", Level.WARNING: "warningmark", Level.VIOLATION: "violation"}


def share_changes(features: Sequence[Feature], width: int) -> str:
    """Return the reference share (hollow) and the live share (filled) of each feature."""
    wide = width >= WIDE * 0.7
    right = 96 if wide else 48
    largest = max((max(each.share_now, each.share_before or 0.0) for each in features), default=0.0) or 1.0
    canvas, scale = _share_axis(features, width, right, largest)
    unit = " points" if wide else ""
    rose, fell = ("live, share rose", "live, share fell") if wide else ("live, rose", "fell")
    canvas.legend(0, 8, ("ring", "refline", "reference"), ("dot", "rise", rose), ("dot", "fall", fell))
    for i, each in enumerate(features):
        y, change = TOP + ROW * (i + 0.5), each.share_change or 0.0
        bold = each.p is not None and i == 0 and change > 0
        before, now, color = scale(each.share_before or 0.0), scale(each.share_now), "rise" if change > 0 else "fall"
        canvas.line((before, y), (now, y), color, stroke_width=3)
        canvas.circle(before, y, 4, fill="bg", stroke="refline", stroke_width=1.5)
        canvas.circle(now, y, 4.5, fill=color)
        _row_text(canvas, each, y, width, f"{signed(100 * change, '.1f')}{unit}", bold=bold)
    return canvas.svg()


def shares_without_drift(features: Sequence[Feature], width: int) -> str:
    """Return the live share of each feature as a dot on its range of chance around the reference share."""
    ends = [(each.share_before or 0.0) + (each.share_noise or 0.0) for each in features]
    largest = max([*ends, *(each.share_now for each in features)], default=0.0) or 1.0
    canvas, scale = _share_axis(features, width, 48, largest)
    canvas.legend(0, 8, ("box", "band", "reference, range of chance"), ("dot", "ink", "live"))
    for i, each in enumerate(features):
        y, before, noise = TOP + ROW * (i + 0.5), each.share_before or 0.0, each.share_noise or 0.0
        low, high = scale(max(0.0, before - noise)), scale(before + noise)
        canvas.rect(low, y - 5, high - low, 10, "band")
        canvas.line((scale(before), y - 5), (scale(before), y + 5), "refline", stroke_width=2)
        canvas.circle(scale(each.share_now), y, 4, fill="ink")
        _row_text(canvas, each, y, width, signed(100 * (each.share_change or 0.0), ".1f"), bold=False)
    return canvas.svg()


def _share_axis(features: Sequence[Feature], width: int, right: float, largest: float) -> tuple[Canvas, Scale]:
    bottom = TOP + ROW * len(features)
    canvas, scale = Canvas(width, bottom + 4), Scale(0.0, largest, LABELS + 10, width - right - 8)
    ticks = scale.ticks(5 if width >= WIDE * 0.7 else 3)
    for tick in ticks:
        x, unit = scale(tick), "\N{NO-BREAK SPACE}%" if tick == ticks[-1] else ""
        canvas.line((x, TOP - 6), (x, bottom), "grid" if tick else "line2")
        canvas.text(x, TOP - 16, f"{number(round(100 * tick, 6))}{unit}", anchor="middle")
    return canvas, scale


def _row_text(canvas: Canvas, feature: Feature, y: float, width: int, change: str, *, bold: bool) -> None:
    canvas.text(LABELS, y, shorten(feature.name, LABELS), "ink" if bold else "ink2", "end", bold=bold)
    canvas.text(width - 2, y, change, "ink" if bold else "ink2", "end", bold=bold)


@dataclass(frozen=True)
class Evidence:
    """Change of a feature with its evidence.

    Attributes:
        p: corrected p-value of the test of the feature's values, or of its attributions.
        size: absolute change of the attribution share.
    """

    name: str
    p: float
    size: float
    level: Level


def evidence_chart(rows: Sequence[Evidence], significance: float, material: float | None, width: int) -> str:
    """Return the change of each feature's share against the evidence of its test.

    Args:
        rows: the features.
        significance: the significance level; a larger p-value is within chance.
        material: the change from which it is a warning; None if unknown.
        width: width in pixels.
    """
    height, left, bottom = 276, 46, 236
    canvas = Canvas(width, height)
    strongest = max(3.0, *(_evidence(each.p) for each in rows), _evidence(significance) * 1.5)
    x = Scale(0.0, strongest, left, width - 10, math.log1p)
    y = Scale(0.0, max(0.05, *(each.size for each in rows), (material or 0.0) * 1.2), bottom, 20)
    limit = x(_evidence(significance))
    canvas.rect(left, 20, limit - left, bottom - 20, "sunken")
    for tick in y.ticks(4):
        canvas.line((left, y(tick)), (width - 10, y(tick)), "grid" if tick else "line2")
        canvas.text(left - 6, y(tick), f"{number(round(100 * tick, 6))}", anchor="end")
    canvas.text(left - 6, 6, "points", anchor="start" if left < 40 else "end")
    taken = -math.inf
    for value in (0, 1, 3, 10, 30, 100, 300):
        if value <= strongest and x(value) - taken > 26:
            taken = x(value)
            canvas.text(taken, bottom + 14, f"{value}", anchor="middle")
    canvas.text((left + width - 10) / 2, bottom + 32, f"evidence: {MINUS}log10 p", "ink2", "middle")
    canvas.line((limit, 20), (limit, bottom), "ink3", stroke_dasharray="3 3")
    canvas.text(limit - 6, 10, "within chance", anchor="end")
    canvas.text(limit + 6, 10, "detected")
    if material is not None:
        canvas.line((left, y(material)), (width - 10, y(material)), "ink3", stroke_dasharray="3 3")
        canvas.text(width - 10, y(material) - 9, f"warning: {100 * material:g} points", anchor="end")
    _marks(canvas, rows, significance, x, y)
    return canvas.svg()


def _evidence(p: float) -> float:
    return min(300.0, -math.log10(max(p, 1e-300)))


def _marks(canvas: Canvas, rows: Sequence[Evidence], significance: float, x: Scale, y: Scale) -> None:
    """Add the mark of each feature, and the names of detected ones where they do not cover each other."""
    boxes: list[tuple[float, float, float]] = []
    for each in sorted(rows, key=lambda each: (each.p > significance, -each.level.order, -each.size)):
        at = x(_evidence(each.p)), y(each.size)
        if each.p > significance:
            canvas.circle(*at, 3, fill="bg", stroke="refline")
            continue
        level_mark(canvas, *at, each.level)
        name = shorten(each.name, 170)
        size = text_width(name) + 8
        start = at[0] + 8 if at[0] + 8 + size <= canvas.width else at[0] - 8 - size
        box = (start, start + size, at[1])
        if all(box[1] < low or box[0] > high or abs(at[1] - other) > 13 for low, high, other in boxes):
            boxes.append(box)
            before = start < at[0]
            canvas.text(at[0] + (-8 if before else 8), at[1], name, "ink", "end" if before else "start")


def level_mark(canvas: Canvas, x: float, y: float, level: Level) -> None:
    """Add the mark of a level: a diamond, a triangle, a dot or a ring."""
    if level is Level.VIOLATION:
        canvas.path(f"M{pixels(x)} {pixels(y - 6)}l6 6-6 6-6-6z", fill="violation")
    elif level is Level.WARNING:
        canvas.path(f"M{pixels(x)} {pixels(y - 5.5)}l6 11h-12z", fill="warningmark")
    elif level is Level.INFO:
        canvas.circle(x, y, 4.5, fill="info")
    else:
        canvas.circle(x, y, 4, fill="bg", stroke="refline", stroke_width=1.5)


def heat_map(points: Sequence[HistoryPoint], names: Sequence[str], width: int) -> str:
    """Return the changes of the shares beyond chance by feature and window; other cells are grey.

    Args:
        points: windows, oldest first.
        names: features, one per row.
        width: width in pixels.
    """
    bottom = 8 + CELL * len(names)
    canvas = Canvas(width, bottom + 24)
    start, end = utc(points[0].start), max(utc(point.end) for point in points)
    scale = _times(start, end, LABELS + 10, width - 56)
    for i, name in enumerate(names):
        y = 8 + CELL * i
        canvas.text(LABELS, y + CELL / 2, shorten(name, LABELS), "ink2", "end")
        runs: dict[str, list[str]] = {}
        for point in points:
            if point.attribution_shift is not None:
                first, last = scale(utc(point.start).timestamp()), scale(utc(point.end).timestamp())
                box = (
                    f"M{pixels(first)} {pixels(y + 1)}H{pixels(max(first + 1, last - 0.6))}v{CELL - 2}H{pixels(first)}z"
                )
                runs.setdefault(heat_color(point.share_changes.get(name)), []).append(box)
        for color, boxes in sorted(runs.items()):
            canvas.path("".join(boxes), fill=color)
        change = points[-1].share_changes.get(name)
        canvas.text(width - 2, y + CELL / 2, "–" if change is None else signed(100 * change, ".1f"), "ink2", "end")
    _time_labels(canvas, scale, bottom + 12)
    return canvas.svg()


def heat_color(change: float | None) -> str:
    """Return the color of a change of a share; None is within chance.

    >>> heat_color(None), heat_color(0.02), heat_color(-0.35)
    ('heat0', 'rose1', 'fell4')
    """
    points = 100 * abs(change or 0.0)
    step = sum(points >= limit for limit in HEAT)
    return "heat0" if not step else f"{'rose' if (change or 0.0) > 0 else 'fell'}{step}"


def _times(start: datetime, end: datetime, first: float, last: float) -> Scale:
    return Scale(start.timestamp(), end.timestamp(), first, last)


def _time_labels(canvas: Canvas, scale: Scale, y: float) -> list[float]:
    """Add labels of days, or of hours if the axis is shorter than two days; return their places."""
    first = datetime.fromtimestamp(scale.low, tz=utc("2000-01-01T00:00").tzinfo)
    hours = (scale.high - scale.low) / 3600
    count = max(2, int((scale.end - scale.start) // 70))
    step = next((each for each in (1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760) if hours / each <= count), 26280)
    at = first.replace(minute=0, second=0, microsecond=0)
    at = at.replace(hour=at.hour // step * step) if step < 24 else at.replace(hour=0)
    places = []
    while at.timestamp() <= scale.high:
        if at.timestamp() >= scale.low:
            places.append(scale(at.timestamp()))
            text = f"{at:%H:%M}" if step < 24 and at.hour else f"{WEEKDAYS[at.weekday()]} {at.day}"
            text = f"{at.day} {MONTHS[at.month - 1]} {at.year}" if step >= 168 else text
            fits = places[-1] + text_width(text) / 2 <= canvas.width
            canvas.text(places[-1], y, text, anchor="middle" if fits else "end")
        at += timedelta(hours=step)
    return places


def timeline(points: Sequence[HistoryPoint], width: int, change: Change | None = None) -> str:
    """Return attribution shift, mean score and number of records of each window, with the same time axis.

    Args:
        points: windows, oldest first.
        width: width in pixels.
        change: change whose start is marked; None without one.
    """
    start, end = utc(points[0].start), max(utc(point.end) for point in points)
    scale = _times(start, end, 52, width - 12)
    has_scores = any(point.mean_score is not None for point in points)
    has_records = any(point.records for point in points)
    height = 176 + 100 * has_scores + 64 * has_records
    canvas = Canvas(width, height + 30)
    _alerts(canvas, points, scale, height)
    for x in _time_labels(canvas, scale, height + 20):
        canvas.line((x, 20), (x, height), "grid")
    _shift_panel(canvas, points, scale)
    if has_scores:
        _score_panel(canvas, points, scale, 184)
    if has_records:
        _record_panel(canvas, points, scale, 184 + 100 * has_scores)
    if change:
        _start(canvas, scale, change, height)
    return canvas.svg()


def _start(canvas: Canvas, scale: Scale, change: Change, height: float) -> None:
    """Mark the start of a change with a line and its name; nothing if it lies before the axis."""
    at = utc(change.since)
    if not scale.low <= at.timestamp() <= scale.high:
        return
    x, text = scale(at.timestamp()), f"{WEEKDAYS[at.weekday()]} {at:%H:%M} {change.name}"
    left, right = x - 6 - scale.start, canvas.width - x - 6
    canvas.line((x, 20), (x, height), "ink3")
    if text_width(text, 12) <= left or left > right:
        canvas.text(x - 6, 32, shorten(text, left), "ink", "end", bold=True)
    else:
        canvas.text(x + 6, 32, shorten(text, right), "ink", bold=True)


def _span(point: HistoryPoint, scale: Scale) -> tuple[float, float]:
    return scale(utc(point.start).timestamp()), scale(utc(point.end).timestamp())


def _box(left: float, right: float, top: float, bottom: float) -> str:
    """Return the path of a rectangle."""
    return f"M{pixels(left)} {pixels(bottom)}V{pixels(top)}H{pixels(right)}V{pixels(bottom)}z"


def _alerts(canvas: Canvas, points: Sequence[HistoryPoint], scale: Scale, height: float) -> None:
    """Add tints and a strip in the color of each alert, a cross for each failure, and lines at new references."""
    previous = None
    for point in points:
        first, last = _span(point, scale)
        if point.level in {Level.WARNING, Level.VIOLATION}:
            canvas.rect(first, 20, last - first, height - 20, f"{point.level}-tint")
        if color := MARKS.get(point.level):
            canvas.rect(first, height, last - first, 4, color)
        if point.status is Status.FAILED:
            canvas.path(f"M{pixels((first + last) / 2 - 4)} {height - 4}l8 8m0-8l-8 8", stroke="ink", stroke_width=1.5)
        if previous and point.reference and point.reference != previous:
            canvas.line((first, 20), (first, height), "ink3", stroke_dasharray="1 3")
        previous = point.reference or previous


def _panel_axis(canvas: Canvas, scale: Scale, y: Scale, title: str, labels: Sequence[tuple[float, str]]) -> None:
    for value, label in labels:
        canvas.line((scale.start, y(value)), (scale.end, y(value)), "grid" if value else "line2")
        canvas.text(scale.start - 6, y(value), label, anchor="end")
    canvas.text(scale.start, y.end - 14, title, "ink", bold=True)


def _shift_panel(canvas: Canvas, points: Sequence[HistoryPoint], scale: Scale) -> None:
    values = [(point.attribution_shift or 0.0, point.attribution_shift_noise or 0.0) for point in points]
    y = Scale(0.0, max(0.05, *(max(each) for each in values)), 160, 26)
    ticks = y.ticks(4)
    noise = [(point, y(point.attribution_shift_noise)) for point in points if point.attribution_shift_noise is not None]
    canvas.path("".join(_box(*_span(point, scale), top, 160) for point, top in noise), fill="band")
    labels = [(tick, f"{number(round(100 * tick, 6))}" + (" %" if tick == ticks[-1] else "")) for tick in ticks]
    _panel_axis(canvas, scale, y, "Attribution shift", labels)
    _series(canvas, points, scale, y, "attribution_shift")


def _score_panel(canvas: Canvas, points: Sequence[HistoryPoint], scale: Scale, top: float) -> None:
    known = [point for point in points if point.mean_score is not None]
    means = [mean for point in known for mean in (point.mean_score, point.mean_score_reference) if mean is not None]
    y = Scale(min(0.0, *means), max(0.0, *means) or 1.0, top + 76, top + 14)
    _panel_axis(canvas, scale, y, "Mean score", [(tick, number(tick)) for tick in y.ticks(2)])
    for point in known:
        if point.mean_score_reference is not None:
            first, last = _span(point, scale)
            at = y(point.mean_score_reference)
            canvas.line((first, at), (last, at), "refline", stroke_dasharray="3 3")
    _series(canvas, points, scale, y, "mean_score")


def _record_panel(canvas: Canvas, points: Sequence[HistoryPoint], scale: Scale, top: float) -> None:
    most = max(point.records or 0 for point in points)
    y = Scale(0.0, float(most), top + 44, top + 12)
    _panel_axis(canvas, scale, y, "Records", [(float(most), f"{most:,}")])
    boxes = []
    for point in points:
        first, last = _span(point, scale)
        if point.records:
            boxes.append(_box(first, max(first + 0.5, last - 0.6), y(point.records), y.start))
    canvas.path("".join(boxes), fill="refline")


def _series(canvas: Canvas, points: Sequence[HistoryPoint], scale: Scale, y: Scale, key: str) -> None:
    """Add a line through the middle of the windows, which is interrupted where a window or its value is missing."""
    places: list[tuple[float, float] | None] = []
    previous = None
    for point in points:
        value = getattr(point, key)
        if previous and point.start > previous:
            places.append(None)
        first, last = _span(point, scale)
        places.append(None if value is None else ((first + last) / 2, y(value)))
        previous = point.end
    canvas.path(polyline(places), stroke="ink", stroke_width=1.4, stroke_linecap="round", stroke_linejoin="round")


def distributions(features: Sequence[Feature], width: int) -> str:
    """Return the histograms of the values and of the attributions of each feature, in one row."""
    wide = width >= WIDE * 0.7
    left, row, top = (LABELS + 16, 64, 44) if wide else (0, 84, 44)
    size = (width - left - 24) / 2
    canvas = Canvas(width, top + row * len(features))
    canvas.legend(0, 8, ("box", "ref", "reference"), ("outline", "live", "live"))
    canvas.text(left, 30, "value", "ink2")
    canvas.text(left + size + 24, 30, "local attribution φ", "ink2")
    for i, each in enumerate(features):
        y = top + row * i
        canvas.text(0, y + (16 if wide else 6), shorten(each.name, LABELS if wide else width), "ink", bold=True)
        for histogram, x in ((each.values, left), (each.attributions, left + size + 24)):
            if histogram:
                _histogram(canvas, histogram, (x, y if wide else y + 18), size)
            else:
                canvas.text(x, y + 16 + 18 * (not wide), "a group has no values" if histogram is each.values else "")
    return canvas.svg()


def _histogram(canvas: Canvas, histogram: Histogram, place: tuple[float, float], width: float) -> None:
    """Add a histogram at its left upper corner: reference as bars, live as an outline, with labels below."""
    left, top = place
    bottom = top + HISTOGRAM
    y = Scale(0.0, max([*histogram.reference, *histogram.live, 1e-9]), bottom, top + 1)
    canvas.line((left, bottom), (left + width, bottom), "line2")
    if histogram.names:
        _paired_bars(canvas, histogram, y, left, width)
        return
    edges = histogram.edges
    scale = Scale(edges[0], edges[-1], left + 1, left + width - 1, math.log10 if needs_log(edges) else _linear)
    _steps(canvas, histogram, scale, y)
    low, high = number(edges[0], 3), number(edges[-1], 3)
    canvas.text(left, bottom + 11, low)
    canvas.text(left + width, bottom + 11, high, anchor="end")
    if histogram.medians:
        before, now = (number(median, 3) for median in histogram.medians)
        text = f"median {before} → {now}" if before != now else f"median {before}"
        if text_width(text) + 2 * max(text_width(low), text_width(high)) + 24 < width:
            canvas.text(left + width / 2, bottom + 11, text, "ink2", "middle")


def _linear(value: float) -> float:
    return value


def _steps(canvas: Canvas, histogram: Histogram, scale: Scale, y: Scale) -> None:
    """Add the bars of the reference and the outline of the live records."""
    x = [scale(edge) for edge in histogram.edges]
    for i, share in enumerate(histogram.reference):
        if share:
            canvas.rect(x[i], y(share), x[i + 1] - x[i], y.start - y(share), "ref", stroke="refline", stroke_width=0.8)
    outline = "".join(f"V{pixels(y(share))}H{pixels(x[i + 1])}" for i, share in enumerate(histogram.live))
    data = f"M{pixels(x[0])} {pixels(y.start)}{outline}V{pixels(y.start)}"
    canvas.path(data, stroke="live", stroke_width=1.4, fill="live", fill_opacity=0.14)


def _paired_bars(canvas: Canvas, histogram: Histogram, y: Scale, start: float, width: float) -> None:
    """Add a bar of each side for each category; names are left out if there is no room."""
    room = width / len(histogram.names)
    for i, name in enumerate(histogram.names):
        left, size = start + room * i + 1.5, room - 3
        before, now = y(histogram.reference[i]), y(histogram.live[i])
        if histogram.reference[i]:
            canvas.rect(left, before, size, y.start - before, "ref", stroke="refline", stroke_width=0.8)
        if histogram.live[i]:
            left, size, outline = left + min(3.0, size / 5), size - 2 * min(3.0, size / 5), {"stroke": "live"}
            canvas.rect(left, now, size, y.start - now, "live", fill_opacity=0.14, stroke_width=1.4, **outline)
        if room >= 26:
            canvas.text(start + room * (i + 0.5), y.start + 11, shorten(name, room - 3), anchor="middle")
    if room < 26:
        canvas.text(start, y.start + 11, f"{len(histogram.names)} values")


def score_histogram(histogram: Histogram, width: int, *, threshold: float | None = None) -> str:
    """Return the distribution of the scores on both sides, with the lowest score of the positive class, if any."""
    canvas, bottom = Canvas(width, 196), 170
    canvas.legend(0, 8, ("box", "ref", "reference"), ("outline", "live", "live"))
    most = max([*histogram.reference, *histogram.live, 1e-9])
    y = Scale(0.0, most, bottom, 32)
    for tick in (ticks := y.ticks(4)):
        unit = "\N{NO-BREAK SPACE}%" if tick == ticks[-1] else ""
        canvas.line((40, y(tick)), (width, y(tick)), "grid" if tick else "line2")
        canvas.text(34, y(tick), f"{number(round(100 * tick, 6))}{unit}", anchor="end")
    if histogram.names:
        _paired_bars(canvas, histogram, y, 40, width - 40)
        return canvas.svg()
    scale = Scale(histogram.edges[0], histogram.edges[-1], 41, width - 8, _linear)
    _steps(canvas, histogram, scale, y)
    if threshold is not None and scale.low <= threshold <= scale.high:
        canvas.line((scale(threshold), 30), (scale(threshold), bottom), "ink3", stroke_dasharray="3 3")
        before = scale(threshold) > width / 2
        canvas.text(scale(threshold) + (-6 if before else 6), 22, "threshold", anchor="end" if before else "start")
    for tick in scale.ticks(6 if width >= WIDE * 0.7 else 4):
        canvas.text(scale(tick), bottom + 14, number(tick), anchor="middle")
    return canvas.svg()


def segments(rows: Sequence[SegmentRow], width: int) -> str:
    """Return the attribution shift of each segment, as the mark of its level, on its range of chance."""
    bottom = 26 + ROW * len(rows)
    values = [value for each in rows for value in (each.attribution_shift, each.noise) if value is not None]
    canvas, scale = Canvas(width, bottom + 4), Scale(0.0, max([0.05, *values]), LABELS + 10, width - 56)
    for tick in (ticks := scale.ticks(5 if width >= WIDE * 0.7 else 3)):
        unit = "\N{NO-BREAK SPACE}%" if tick == ticks[-1] else ""
        canvas.line((scale(tick), 20), (scale(tick), bottom), "grid" if tick else "line2")
        canvas.text(scale(tick), 8, f"{number(round(100 * tick, 6))}{unit}", anchor="middle")
    levels = {level.words: level for level in Level}
    for i, each in enumerate(rows):
        y = 26 + ROW * (i + 0.5)
        canvas.rect(scale(0.0), y - 5, scale(each.noise or 0.0) - scale(0.0), 10, "band")
        level_mark(canvas, scale(each.attribution_shift or 0.0), y, levels[each.level])
        canvas.text(LABELS, y, shorten(each.name, LABELS), "ink2", "end")
        canvas.text(width - 2, y, f"{each.rows_live:,}", "ink2", "end")
    return canvas.svg()


def changed_names(points: Sequence[HistoryPoint], most: int) -> list[str]:
    """Return the features with a change of their share beyond chance in some window, the largest change first."""
    largest: dict[str, float] = {}
    for point in points:
        for name, change in point.share_changes.items():
            largest[name] = max(largest.get(name, 0.0), abs(change))
    return sorted(largest, key=lambda name: (-largest[name], name))[:most]
