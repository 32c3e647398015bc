"""Charts of single records: attributions of random records, attribution against value, and a record in steps."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence

from runner.domain.drift import ChangedRecord, Parity, SampledFeature, ScorePairs, Value
from runner.report.svg import WIDE, Canvas, Scale, needs_log, number, shorten, signed, text_width

LABELS = 138
"""Width of the column of names in pixels."""
ROW = 30
"""Height of a feature in the chart of random records."""
STEPS = 5
"""Number of colors for the rank of a value."""
TAIL = 0.002
"""Share of the attributions at each end that are drawn at the ends of the axis."""
MOST_DEPENDENCES, MOST_CATEGORIES = 3, 6
"""Maximum numbers of charts of attribution against value, and of categories on an axis."""
OTHERS = "others"
DOT = 1.7
"""Radius of a dot."""
LARGEST_SQUARE = 320
"""Maximum side of the chart of score pairs in pixels."""
STEP_HEIGHT = 24
"""Height of a feature in the chart of one record."""


def value_steps(feature: SampledFeature, values: Sequence[Value]) -> list[int | None]:
    """Return the fifth of the reference values, from 0, in which each value lies; None for categories and gaps."""
    reference = sorted(value for value in feature.reference_values if isinstance(value, float))
    if not feature.is_numeric or not reference:
        return [None] * len(values)
    found: list[int | None] = []
    for value in values:
        if isinstance(value, float):
            rank = (bisect_left(reference, value) + bisect_right(reference, value)) / 2 / len(reference)
            found.append(min(STEPS - 1, int(STEPS * rank)))
        else:
            found.append(None)
    return found


def beeswarm(features: Sequence[SampledFeature], changed: Collection[str], width: int) -> str:
    """Return the attributions of random records, reference and live on the same scale.

    Args:
        features: the features, one per row.
        changed: names of features with a significant change.
        width: width in pixels; both sides are below each other if the chart is narrow.
    """
    low, high = _domain([phi for each in features for phi in (*each.reference_phi, *each.live_phi)])
    abreast = width >= WIDE * 0.7
    panel = (width - LABELS - 10 - 36) / 2 if abreast else width - LABELS - 10
    height = ROW * len(features) + 56
    canvas = Canvas(width, 26 + (height if abreast else 2 * height))
    _ramp(canvas)
    for i, side in enumerate(("Reference", "Live")):
        left, top = LABELS + 10 + (i * (panel + 36) if abreast else 0), 26 + (0 if abreast else i * height)
        scale = Scale(low, high, left + 8, left + panel - 8)
        canvas.text(left, top + 8, side, "ink", bold=True)
        _axis(canvas, scale, top + 24, top + 24 + ROW * len(features), 7 if abreast else 5)
        for row, feature in enumerate(features):
            center = top + 24 + ROW * (row + 0.5)
            bold = feature.name in changed
            canvas.line((left, center), (left + panel, center), "grid")
            if i == 0 or not abreast:
                name = shorten(feature.name, LABELS)
                canvas.text(LABELS, center, name, "ink" if bold else "ink2", "end", bold=bold)
            phi, values = (
                (feature.live_phi, feature.live_values) if i else (feature.reference_phi, feature.reference_values)
            )
            _swarm(canvas, scale, center, phi, value_steps(feature, values) or [None] * len(phi))
    return canvas.svg()


def _ramp(canvas: Canvas) -> None:
    """Add the meaning of the colors."""
    canvas.text(0, 8, "value: low", "ink2")
    for step in range(STEPS):
        canvas.rect(58 + 16 * step, 4, 16, 8, f"ramp{step + 1}")
    canvas.text(58 + 16 * STEPS + 6, 8, "high", "ink2")
    canvas.legend(58 + 16 * STEPS + 50, 8, ("box", "refline", "category or missing"))


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of an axis: all values but the outermost, and 0."""
    ordered = sorted(values) or [0.0]
    tail = int(TAIL * len(ordered))
    low, high = min(0.0, ordered[tail]), max(0.0, ordered[-1 - tail])
    return (low, high) if high > low else (-1.0, 1.0)


def _axis(canvas: Canvas, scale: Scale, top: float, bottom: float, count: int) -> None:
    """Add vertical grid lines with signed labels below."""
    for tick in scale.ticks(count):
        x = scale(tick)
        canvas.line((x, top), (x, bottom), "grid" if tick else "line2")
        canvas.text(x, bottom + 12, signed(tick, ".3g"), anchor="middle")


def _swarm(canvas: Canvas, scale: Scale, center: float, phi: Sequence[float], steps: Sequence[int | None]) -> None:
    """Add a dot for each record; dots at the same place are stacked in the order of their color."""
    places: dict[int, list[tuple[int, int, float]]] = {}
    for i, (value, step) in enumerate(zip(phi, steps, strict=True)):
        x = scale(value)
        places.setdefault(round(x / (2 * DOT)), []).append((-1 if step is None else step, i, x))
    by_step: dict[int, list[tuple[float, float]]] = {}
    for stack in places.values():
        gap = min(2 * DOT, (ROW - 4) / max(1, len(stack) - 1))
        for i, (step, _, x) in enumerate(sorted(stack)):
            by_step.setdefault(step, []).append((x, center + gap * (i - (len(stack) - 1) / 2)))
    for step, dots in sorted(by_step.items()):
        canvas.dots(sorted(dots), "refline" if step < 0 else f"ramp{step + 1}", DOT)


def dependence(features: Sequence[SampledFeature], width: int) -> str:
    """Return the attribution against the value of each feature; reference grey, live dark."""
    columns = MOST_DEPENDENCES if width >= WIDE * 0.7 else 1
    gap, height = 20, 176
    size = (width - gap * (columns - 1)) / columns
    canvas = Canvas(width, 24 + height * math.ceil(len(features) / columns))
    canvas.legend(0, 8, ("dot", "refline", "reference"), ("dot", "live", "live"))
    for i, feature in enumerate(features):
        _panel(canvas, feature, (i % columns) * (size + gap), 24 + (i // columns) * height, size)
    return canvas.svg()


def _panel(canvas: Canvas, feature: SampledFeature, left: float, top: float, width: float) -> None:
    canvas.text(left + 40, top + 8, shorten(feature.name, width - 40), "ink", bold=True)
    low, high = _domain([*feature.reference_phi, *feature.live_phi])
    scale = Scale(low, high, top + 134, top + 32)
    for tick in scale.ticks(4):
        canvas.line((left + 40, scale(tick)), (left + width, scale(tick)), "grid" if tick else "line2")
        canvas.text(left + 34, scale(tick), signed(tick, ".3g"), anchor="end")
    place, title = _value_axis(canvas, feature, left + 48, left + width - 8, top)
    canvas.text(left + 40 + (width - 40) / 2, top + 164, title, "ink2", "middle")
    sides = ((feature.reference_phi, feature.reference_values, -1), (feature.live_phi, feature.live_values, 1))
    for phi, values, side in sides:
        dots = [(place(value, side, i), scale(each)) for i, (each, value) in enumerate(zip(phi, values, strict=True))]
        canvas.dots(dots, "refline" if side < 0 else "live", 1.6, stroke_opacity=0.75)


Place = Callable[[Value, int, int], float]
"""Pixel of a value; the side is -1 for the reference, and the index of the record moves dots of the same category."""


def _value_axis(canvas: Canvas, feature: SampledFeature, start: float, end: float, top: float) -> tuple[Place, str]:
    """Add the labels of the values, and return the place of each value and the title of the axis."""
    values = [*feature.reference_values, *feature.live_values]
    if not feature.is_numeric:
        return _categories(canvas, values, start, end, top), "category"
    numbers = [value for value in values if isinstance(value, float)]
    is_log = needs_log(numbers)
    gaps = len(numbers) < len(values)
    if gaps:
        canvas.text(start - 8, top + 148, "missing")
        start += 56
    scale = Scale(min(numbers), max(numbers), start, end, math.log10 if is_log else lambda value: value)
    taken = start - 12
    for tick in scale.ticks(4):
        x, label = scale(tick), number(tick)
        if x - text_width(label) / 2 > taken:
            canvas.text(x, top + 148, label, anchor="middle")
            taken = x + text_width(label) / 2 + 6
    _mark_end(canvas, feature, scale, top)

    def place(value: Value, side: int, index: int) -> float:
        return scale(value) if isinstance(value, float) else start - 42 + index * 37 % 19 + side

    return place, "value, log axis" if is_log else "value"


def _mark_end(canvas: Canvas, feature: SampledFeature, scale: Scale, top: float) -> None:
    """Mark where the reference ends if live values lie far beyond; the name is above all dots."""
    reference = [value for value in feature.reference_values if isinstance(value, float)]
    live = sorted(value for value in feature.live_values if isinstance(value, float))
    if not reference or not live:
        return
    last = max(reference)
    if live[-1 - len(live) // 50] > last and scale(live[-1]) - scale(last) > 24:
        x, text = scale(last), f"reference ends at {number(last, 3)}"
        canvas.line((x, top + 26), (x, top + 134), "ink3", stroke_dasharray="3 3")
        start = min(max(scale.start - 8, x - text_width(text) / 2), scale.end + 8 - text_width(text))
        canvas.text(start, top + 21, text)


def _categories(canvas: Canvas, values: Sequence[Value], start: float, end: float, top: float) -> Place:
    """Add the names of the most frequent categories; all others share a place."""
    counts: dict[str, int] = {}
    for value in values:
        name = _category(value)
        counts[name] = counts.get(name, 0) + 1
    names = sorted(counts, key=lambda name: (-counts[name], name))
    if len(names) > MOST_CATEGORIES:
        names = [*names[: MOST_CATEGORIES - 1], OTHERS]
    room = (end - start) / max(1, len(names))
    for i, name in enumerate(names):
        canvas.text(start + room * (i + 0.5), top + 148, shorten(name, room - 4), anchor="middle")
    index = {name: i for i, name in enumerate(names)}

    def place(value: Value, side: int, record: int) -> float:
        center = start + room * (index.get(_category(value), len(names) - 1) + 0.5)
        return center + side * min(10.0, room / 4) + (record * 37 % 19 - 9) * min(0.7, room / 80)

    return place


def _category(value: Value) -> str:
    return "missing" if value is None else value if isinstance(value, str) else number(value)


def format_value(value: Value) -> str:
    """Return a value for a label."""
    return _category(value)


def waterfall(record: ChangedRecord, width: int, *, log_odds: bool, threshold: float | None = None) -> str:
    """Return the steps from the expected score to the score of a record.

    Args:
        record: the record.
        width: width in pixels.
        log_odds: whether scores and attributions are log-odds; the axis then has ticks in probability.
        threshold: lowest score of the positive class, in the unit of the scores; None if it does not apply.
    """
    steps = [(each.name, format_value(each.value), each.phi) for each in record.contributions]
    if record.others:
        steps.append((f"{record.others:,} {'other' if record.others == 1 else 'others'}", "", record.others_phi))
    ends = [record.expected]
    for _, _, phi in steps:
        ends.append(ends[-1] + phi)
    labels = 222 if width >= WIDE * 0.7 else 150
    margin = (max(ends) - min(ends) or 1.0) * 0.12
    scale = Scale(min(ends) - margin, max(ends) + margin, labels + 20, width - 40)
    bottom = 24 + STEP_HEIGHT * (len(steps) + 2)
    canvas = Canvas(width, bottom + 22)
    for tick, label in score_ticks(scale, log_odds):
        canvas.line((scale(tick), 18), (scale(tick), bottom), "grid")
        canvas.text(scale(tick), 8, label, anchor="middle")
    if threshold is not None and scale.low <= threshold <= scale.high:
        x, text = scale(threshold), f"threshold {score_text(threshold, log_odds)}"
        canvas.line((x, 18), (x, bottom + 4), "ink3", stroke_dasharray="3 3")
        canvas.text(x, bottom + 12, text, anchor="middle" if x + text_width(text) / 2 < width else "end")
    decimals = _decimals([phi for _, _, phi in steps])
    for i, (name, value, phi) in enumerate(steps):
        y = 24 + STEP_HEIGHT * (i + 1.5)
        _named(canvas, labels, y, name, value)
        _bar(canvas, scale, y, (ends[i], phi), signed(phi, f".{decimals}f"))
    first = scale(record.expected), 24 + STEP_HEIGHT / 2
    _end(canvas, labels, first, "expected score", score_text(record.expected, log_odds), is_score=False)
    last = scale(ends[-1]), bottom - STEP_HEIGHT / 2
    canvas.line((last[0], last[1] - STEP_HEIGHT), last, "line2")
    _end(canvas, labels, last, "score of this record", score_text(record.score, log_odds), is_score=True)
    return canvas.svg()


def score_pairs(scores: ScorePairs, parity: Parity, width: int) -> str:
    """Return the recomputed against the captured scores of random records, with the diagonal of equal scores."""
    left, top, size = 46, 44, min(width - 62, LARGEST_SQUARE)
    values = [*scores.captured, *scores.recomputed]
    low, high = min(0.0, *values), max(values)
    high = 1.0 if low == 0.0 and 0.5 < high <= 1.0 else high if high > low else low + 1.0
    canvas = Canvas(width, top + size + 44)
    x, y = Scale(low, high, left, left + size), Scale(low, high, top + size, top)
    equal, differing = parity.records - parity.differing, parity.differing
    canvas.legend(0, 8, ("dot", "refline", f"{equal:,} equal"), ("dot", "doubt", f"{differing:,} differ"))
    canvas.text(left, top - 14, "recomputed score", "ink2")
    for tick in x.ticks(4):
        canvas.line((x(tick), top), (x(tick), top + size), "grid")
        canvas.line((left, y(tick)), (left + size, y(tick)), "grid")
        canvas.text(left - 6, y(tick), number(tick), anchor="end")
        canvas.text(x(tick), top + size + 14, number(tick), anchor="middle")
    canvas.text(left + size / 2, top + size + 32, "captured score", "ink2", "middle")
    canvas.line((x(low), y(low)), (x(high), y(high)), "line2")
    pairs = list(zip(scores.captured, scores.recomputed, strict=True))
    for differs, color in ((False, "refline"), (True, "doubt")):
        chosen = [pair for pair in pairs if (abs(pair[0] - pair[1]) > parity.tolerance) is differs]
        canvas.dots([(x(captured), y(recomputed)) for captured, recomputed in chosen], color, 2.2)
    return canvas.svg()


def _decimals(steps: Sequence[float]) -> int:
    """Return the number of decimals that show three digits of the largest step."""
    largest = max(map(abs, steps), default=0.0)
    return min(9, max(0, 2 - math.floor(math.log10(largest)))) if largest else 0


def _bar(canvas: Canvas, scale: Scale, y: float, step: tuple[float, float], text: str) -> None:
    """Add a step, given by its start and size, and its connection to the step above."""
    start, phi = step
    first, last = sorted((scale(start), scale(start + phi)))
    canvas.line((scale(start), y - STEP_HEIGHT), (scale(start), y), "line2")
    canvas.rect(first, y - 7, max(1.0, last - first), 14, "rise" if phi > 0 else "fall", rx=1)
    inside = last + 5 if phi > 0 else first - 5
    canvas.text(inside, y, text, "ink2", "start" if phi > 0 else "end")


def _end(canvas: Canvas, labels: float, place: tuple[float, float], name: str, text: str, *, is_score: bool) -> None:
    """Add the expected score, or the score of the record with a larger dot."""
    x, y = place
    canvas.text(labels, y, name, "ink" if is_score else "ink3", "end", bold=is_score)
    canvas.circle(x, y, 5 if is_score else 4, fill="ink" if is_score else "refline")
    canvas.text(x + 10, y, text, "ink", bold=is_score)


def _named(canvas: Canvas, labels: float, y: float, name: str, value: str) -> None:
    """Add a name with its value; if both are too long, the name is shortened."""
    tail = f" {shorten(f'= {value}', labels / 2)}" if value else ""
    canvas.text(labels, y, shorten(name, labels - text_width(tail)), "ink", "end", tail=tail)


def score_ticks(scale: Scale, log_odds: bool) -> list[tuple[float, str]]:
    """Return the ticks of an axis of scores with their labels."""
    if not log_odds:
        return [(tick, number(tick)) for tick in scale.ticks(5)]
    low, high = probability(scale.low), probability(scale.high)
    round_ones = [0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
    shown, taken = [], -math.inf
    for each in round_ones:
        tick = math.log(each / (1 - each))
        if low <= each <= high and scale(tick) - taken > 44:
            shown.append((tick, f"{each:g}"))
            taken = scale(tick)
    return shown


def score_text(score: float, log_odds: bool) -> str:
    """Return a score for a label, as a probability if it is in log-odds."""
    return f"{probability(score):.3f}" if log_odds else number(score)


def probability(log_odds: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def shown_features(features: Sequence[SampledFeature], first: Mapping[str, int], most: int) -> list[SampledFeature]:
    """Return the features of a chart: those with values and a rank, best rank first."""
    ranked = [each for each in features if each.name in first and each.reference_values and each.live_values]
    return sorted(ranked, key=lambda each: first[each.name])[:most]
