"""Charts of a reference and of a sweep: global attributions, SHAP baseline, detectable changes, error and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.domain.drift import DetectableChange, Level
from runner.explain.background import BaselineScore, usual_range
from runner.report.sections import Feature
from runner.report.share_charts import LABELS, ROW, level_mark
from runner.report.svg import WIDE, Canvas, Scale, number, polyline, shorten, text_width

KINDS = ("live", "rise", "ok", "doubt", "warningmark", "ink3")
"""Colors of the kinds of members of a sweep; further kinds have the last one."""
PERCENT = "\N{NO-BREAK SPACE}%"


def attribution_bars(features: Sequence[Feature], width: int) -> str:
    """Return the global attribution of each feature as a bar, with its share at the right."""
    bottom = 26 + ROW * len(features)
    canvas, largest = Canvas(width, bottom + 4), max((abs(each.now) for each in features), default=0.0) or 1.0
    scale = Scale(min(0.0, *(each.now for each in features)), largest, LABELS + 10, width - 56)
    for tick in scale.ticks(5 if width >= WIDE * 0.7 else 3):
        canvas.line((scale(tick), 20), (scale(tick), bottom), "grid" if tick else "line2")
        canvas.text(scale(tick), 8, number(tick), anchor="middle")
    for i, each in enumerate(features):
        y, (start, end) = 26 + ROW * (i + 0.5), sorted((scale(0.0), scale(each.now)))
        canvas.rect(start, y - 6, max(1.0, end - start), 12, "refline")
        canvas.text(LABELS, y, shorten(each.name, LABELS), "ink2", "end")
        canvas.text(width - 2, y, f"{100 * each.share_now:.1f}{PERCENT}", "ink2", "end")
    return canvas.svg()


def baseline_percentiles(scores: Sequence[BaselineScore], labels: int, width: int) -> str:
    """Return the share of the records below the score of the SHAP baseline, on the range of usual shares.

    Args:
        scores: scores of some labels.
        labels: number of all labels, on which the usual range depends.
        width: width in pixels.
    """
    bottom = 26 + ROW * len(scores)
    canvas, scale = Canvas(width, bottom + 4), Scale(0.0, 1.0, LABELS + 18, width - 76)
    low, high = usual_range(labels)
    for tick in (0.0, 0.5, 1.0):
        canvas.line((scale(tick), 20), (scale(tick), bottom), "grid")
        canvas.text(scale(tick), 8, f"{100 * tick:g}{PERCENT if tick == 1 else ''}", anchor="middle")
    for i, each in enumerate(scores):
        y = 26 + ROW * (i + 0.5)
        canvas.rect(scale(low), y - 5, scale(high) - scale(low), 10, "band")
        canvas.line((scale(0.5), y - 5), (scale(0.5), y + 5), "refline")
        if low <= each.quantile <= high:
            canvas.circle(scale(each.quantile), y, 4, fill="ink")
        else:
            level_mark(canvas, scale(each.quantile), y, Level.WARNING)
        canvas.text(LABELS, y, shorten(each.label, LABELS), "ink2", "end")
        canvas.text(width - 2, y, number(each.score), "ink2", "end")
    return canvas.svg()


def detectable_changes(changes: Sequence[DetectableChange], width: int) -> str:
    """Return the smallest detectable change against the number of records of a window."""
    left, top, bottom = 46, 26, 186
    canvas = Canvas(width, bottom + 44)
    shown = [each for each in changes if each.change < 1]
    x = Scale(changes[0].records, changes[-1].records, left + 8, width - 34, math.log10)
    y = Scale(0.0, max(each.change for each in shown), bottom, top + 14)
    canvas.text(0, 8, "share of the records that must change", "ink2")
    for tick in (ticks := y.ticks(4)):
        canvas.line((left, y(tick)), (width, y(tick)), "grid" if tick else "line2")
        canvas.text(left - 6, y(tick), f"{number(round(100 * tick, 6))}{PERCENT * (tick == ticks[-1])}", anchor="end")
    if len(shown) < len(changes):
        canvas.rect(left, top, x(shown[0].records) - left, bottom - top, "sunken")
    places = [(x(each.records), y(each.change)) for each in shown]
    canvas.path(polyline(places), stroke="ink", stroke_width=1.4, stroke_linejoin="round")
    taken = -math.inf
    for each, place in zip(shown, places, strict=True):
        canvas.circle(*place, 3, fill="ink")
        if place[0] > taken:
            text = f"{100 * each.change:.0f}{PERCENT}"
            canvas.text(place[0] + 4, place[1] - 9, text, "ink")
            taken = place[0] + text_width(text)
    for tick in x.ticks(9):
        canvas.text(x(tick), bottom + 14, number(tick), anchor="middle")
    canvas.text((left + width) / 2, bottom + 34, "records in the window", "ink2", "middle")
    return canvas.svg()


@dataclass(frozen=True)
class SweepPoint:
    """Member of a sweep with its cost and its error; members of the same kind are connected by a line."""

    name: str
    kind: str
    rows: int
    error: float


def error_and_cost(members: Sequence[SweepPoint], width: int) -> str:
    """Return the error of each member against the rows sent to the model, both on log axes."""
    kinds = list(dict.fromkeys(each.kind for each in members))
    left, top = 58, 24 + 18 * len(kinds)
    bottom = top + 250
    canvas = Canvas(width, bottom + 44)
    for i, kind in enumerate(kinds):
        canvas.legend(0, 8 + 18 * i, ("dot", _color(i), shorten(kind, width - 20)))
    x, y = (
        _log_scale([value for each in members if (value := getattr(each, name))], *ends)
        for name, ends in (("rows", (left + 12, width - 24)), ("error", (bottom - 8, top + 8)))
    )
    for tick in y.ticks(5):
        canvas.line((left, y(tick)), (width, y(tick)), "grid")
        canvas.text(left - 6, y(tick), f"{tick:.0e}", anchor="end")
    for tick in x.ticks(6 if width >= WIDE * 0.7 else 4):
        canvas.line((x(tick), top), (x(tick), bottom), "grid")
        canvas.text(x(tick), bottom + 14, f"{tick:,.0f}" if tick < 1e6 else f"{tick:.0e}", anchor="middle")
    canvas.text((left + width) / 2, bottom + 34, "rows sent to the model", "ink2", "middle")
    boxes: list[tuple[float, float, float]] = []
    for i, kind in enumerate(kinds):
        found = sorted((each for each in members if each.kind == kind), key=lambda each: each.rows)
        places = [(x(each.rows), y(each.error)) for each in found]
        canvas.path(polyline(places), stroke=_color(i), stroke_width=1, stroke_opacity=0.5)
        for each, place in zip(found, places, strict=True):
            canvas.circle(*place, 4, fill=_color(i))
            _name(canvas, each.name, place, boxes)
    return canvas.svg()


def _color(kind: int) -> str:
    return KINDS[min(kind, len(KINDS) - 1)]


def _log_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a logarithmic scale that contains the values and at least one power of ten."""
    low, high = (math.log10(each) for each in (min(values), max(values)))
    return Scale(10.0 ** min(low, math.floor(high)), 10.0 ** max(high, math.ceil(low)), start, end, math.log10)


def _name(canvas: Canvas, name: str, place: tuple[float, float], boxes: list[tuple[float, float, float]]) -> None:
    """Add the name of a point above or below its line, where it covers no other name."""
    text = shorten(name, 200)
    size = text_width(text) + 8
    fits = place[0] + 6 + size <= canvas.width
    start, y = (place[0] + 6, place[1] - 9) if fits else (place[0] - size, place[1] + 13)
    if all(start + size < low or start > high or abs(y - other) > 13 for low, high, other in boxes):
        boxes.append((start, start + size, y))
        canvas.text(start, y, text, "ink2")
