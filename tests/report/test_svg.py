"""Drawing of charts: scales, ticks, and strings that stay data."""

from __future__ import annotations

import math
import re

import pytest

from runner.report.svg import Canvas, Scale, needs_log, pixels, polyline, shorten, text_width


def test_scale_is_linear_and_clips() -> None:
    """A reversed scale grows to the top; a domain of one number is the middle."""
    scale = Scale(0.0, 10.0, 100, 0)
    assert [scale(value) for value in (0, 2.5, 10, 99, -1, math.inf, -math.inf)] == [100, 75, 0, 0, 100, 0, 100]
    assert Scale(3.0, 3.0, 0, 10)(3.0) == 5


def test_logarithmic_scale_has_equal_steps_per_factor() -> None:
    """And powers of ten as ticks."""
    scale = Scale(1.0, 1000.0, 0, 30, math.log10)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 10, 20, 30])
    assert scale.ticks(4) == [1, 10, 100, 1000]
    assert Scale(2.0, 80.0, 0, 30, math.log10).ticks(8) == [2, 5, 10, 20, 50]


@pytest.mark.parametrize("high", [1e-9, 0.03, 1.0, 7.3, 49.8, 1e12])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    """The number of ticks is close to the requested one."""
    ticks = Scale(low, high, 0, 100).ticks(5)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert 0.0 in ticks


def test_log_axis_needs_positive_numbers_of_different_sizes() -> None:
    """A ratio above 50."""
    assert [needs_log(values) for values in ([1, 51], [1, 50], [0, 100], [-1, 100], [])] == [True, *[False] * 4]


@pytest.mark.parametrize("text", ["", "l" * 500, "漢" * 100, "a\nb\t c", "W" * 30])
def test_shortened_strings_fit(text: str) -> None:
    """On one line."""
    short = shorten(text, 60)
    assert text_width(short) <= 60
    assert "\n" not in short


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_coordinates_are_finite(value: float) -> None:
    """Other ones are an error of the chart."""
    with pytest.raises(ValueError, match="coordinate"):
        pixels(value)


def test_strings_are_escaped() -> None:
    """Markup, references, and characters that XML forbids."""
    canvas = Canvas(10, 10)
    canvas.text(0, 0, "<script>&#x41;\x00\x1b\ud800")
    (text,) = re.findall("<text[^>]*>(.*)</text>", canvas.svg())
    assert text == "&lt;script&gt;&amp;&#35;x41;\N{REPLACEMENT CHARACTER}" + 2 * "\N{REPLACEMENT CHARACTER}"
    canvas.svg().encode()


def test_dots_are_one_path() -> None:
    """Relative moves in half pixels, which add up to the centers."""
    canvas, centers = Canvas(100, 100), [(10.0, 20.0), (10.5, 4.0), (99.5, 99.0)]
    canvas.dots(centers, "live", 2)
    canvas.dots([], "live", 2)
    (data,) = re.findall(' d="([^"]*)"', canvas.svg())
    x, y, found = 0, 0, []
    for move in re.findall(r"m(-?\d+) ?(-?\d+)h0", data):
        x, y = x + int(move[0]), y + int(move[1])
        found.append((x / 2, y / 2))
    assert found == centers


def test_lines_are_interrupted() -> None:
    """A single point is a dot."""
    assert polyline([(0, 0), (1, 1), None, (2, 2), None]) == "M0 0h0L1 1M2 2h0"


@pytest.mark.parametrize(("low", "high"), [(-1e308, 1e308), (0.0, 5e-324), (0.0, 1e-15), (1e16, 1e16 + 8)])
def test_any_domain_has_ticks(low: float, high: float) -> None:
    """Also the widest and the narrowest one."""
    scale = Scale(low, high, 0, 100)
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 9
    assert all(0 <= scale(tick) <= 100 for tick in ticks)
    assert len(set(ticks)) == len(ticks)
    logarithmic = Scale(max(low, 1e-300), max(high, 1e-200), 0, 100, math.log10)
    assert len(logarithmic.ticks(4)) < 9
