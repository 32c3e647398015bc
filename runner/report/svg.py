"""Drawing of charts as SVG: scales, ticks, and a canvas in the light colors of `colors`."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from unicodedata import east_asian_width

from runner.report.colors import TOKENS

FONT = "Inter, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
TEXT_SIZE = 11
"""Size of the text in pixels; charts are never scaled."""
WIDE, NARROW, PAPER = 904, 358, 658
"""Widths of a chart in pixels: in the column of the page, on a telephone, and on A4 paper."""
SLIM = "fijlrt.,:;|!'`()[]{}I/- "
BROAD = "mwMW@%—…"
SMALLEST = 1e-290
"""Smallest distance of ticks; smaller ones are not exact."""
MINUS = "\u2212"
INVALID = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML forbids, or that are invisible."""


def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Return the approximate width of a string in pixels, as in Liberation Sans."""
    return size * sum(_em(character) for character in text)


def _em(character: str) -> float:
    if character in SLIM:
        return 0.31
    if character in BROAD or east_asian_width(character) in "WF":
        return 1.0
    return 0.68 if character.isupper() else 0.56


def shorten(text: str, width: float) -> str:
    """Return a string on one line that fits into a width in pixels, with an ellipsis if it is cut.

    >>> shorten("credit_history_months", 60)
    'credit_hi…'
    """
    text = " ".join(text[:200].split())
    if text_width(text) <= width:
        return text
    while text and text_width(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def signed(value: float, form: str = ".2f") -> str:
    """Return a number with its sign, a real minus sign.

    >>> signed(-0.5), signed(1.25, ".3g"), signed(0.001)
    ('−0.50', '+1.25', '0')
    """
    text = f"{value:+{form}}"
    return "0" if not text.strip("+-0.") else text.replace("-", MINUS)


def number(value: float, digits: int = 4) -> str:
    """Return a number for a label, with at most four or other significant digits, and whole below a million.

    >>> number(1234567.0), number(-0.25), number(12000.0), number(1e-9)
    ('1.235e+06', '−0.25', '12,000', '1e-09')
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return f"{MINUS}{text[1:]}" if text.startswith("-") else text


def _identity(value: float) -> float:
    return value


@dataclass(frozen=True)
class Scale:
    """Map from numbers to pixels; numbers beyond the domain are drawn at its ends.

    Attributes:
        low, high: domain.
        start, end: pixels of its ends.
        transform: increasing function; the map is linear in its values.
    """

    low: float
    high: float
    start: float
    end: float
    transform: Callable[[float], float] = _identity

    def __call__(self, value: float) -> float:
        """Return the pixel of a number."""
        low, high = self.transform(self.low) / 2, self.transform(self.high) / 2
        if not high > low:
            return (self.start + self.end) / 2
        place = (self.transform(min(max(value, self.low), self.high)) / 2 - low) / (high - low)
        return self.start + place * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return round numbers in the domain, about `count` of them."""
        if self.transform is math.log10:
            return _log_ticks(self.low, self.high, count)
        rough = self.high / max(1, count) - self.low / max(1, count)
        if not rough > SMALLEST:
            return [self.low]
        step = _step(rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return list(dict.fromkeys(float(f"{i * step:.12g}") + 0.0 for i in range(first, last + 1)))


def _step(rough: float) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that is at least three quarters of `rough`."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.75 * rough)


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.floor(math.log10(low)), min(sys.float_info.max_10_exp, math.ceil(math.log10(high)))
    stride = max(1, math.ceil((last - first) / count))
    factors = (1, 2, 5) if last - first <= count / 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1, stride) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def needs_log(values: Iterable[float]) -> bool:
    """Return whether numbers are drawn on a log axis: all are positive, and the largest is 50 times the smallest."""
    found = list(values)
    return bool(found) and min(found) > 0 and max(found) > 50 * min(found)


@dataclass
class Canvas:
    """SVG image under construction; strings are escaped, and coordinates must be finite."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def path(self, data: str, **style: object) -> None:
        """Add a path with attributes such as `stroke`, `fill` and `stroke_width`; colors are names of tokens."""
        self.parts.append(f'<path d="{data}"{_attributes({"fill": "none", **style})}/>')

    def line(self, start: tuple[float, float], end: tuple[float, float], color: str, **style: object) -> None:
        """Add a straight line."""
        self.path(f"M{point(*start)}L{point(*end)}", stroke=color, **style)

    def rect(self, x: float, y: float, width: float, height: float, color: str, **style: object) -> None:
        """Add a filled rectangle; negative sizes are drawn as 0."""
        size = f'width="{pixels(max(0.0, width))}" height="{pixels(max(0.0, height))}"'
        self.parts.append(f'<rect x="{pixels(x)}" y="{pixels(y)}" {size}{_attributes({"fill": color, **style})}/>')

    def circle(self, x: float, y: float, radius: float, **style: object) -> None:
        """Add a circle."""
        self.parts.append(f'<circle cx="{pixels(x)}" cy="{pixels(y)}" r="{pixels(radius)}"{_attributes(style)}/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        color: str = "ink3",
        anchor: str = "start",
        *,
        bold: bool = False,
        tail: str = "",
    ) -> None:
        """Add a string, and a tail in quiet color; the baseline is 4 pixels below y."""
        style: dict[str, object] = {"fill": color}
        style |= {"text_anchor": anchor} if anchor != "start" else {}
        style |= {"font_weight": "bold"} if bold else {}
        content = _escaped(text) + (f'<tspan fill="{_value("ink3")}">{_escaped(tail)}</tspan>' if tail else "")
        self.parts.append(f'<text x="{pixels(x)}" y="{pixels(y + 4)}"{_attributes(style)}>{content}</text>')

    def dots(self, centers: Sequence[tuple[float, float]], color: str, size: float, **style: object) -> None:
        """Add dots of one color as one path; their coordinates are rounded to half pixels."""
        if not centers:
            return
        x, y, parts = 0, 0, []
        for center in centers:
            next_x, next_y = round(2 * center[0]), round(2 * center[1])
            parts.append(f"m{next_x - x} {next_y - y}h0")
            x, y = next_x, next_y
        data = "".join(parts).replace(" -", "-")
        self.path(data, stroke=color, stroke_width=4 * size, stroke_linecap="round", transform="scale(.5)", **style)

    def legend(self, x: float, y: float, *items: tuple[str, str, str]) -> None:
        """Add the meaning of marks: for each its shape (`dot`, `ring`, `box` or `outline`), its color and its name."""
        for shape, color, name in items:
            if shape == "box":
                self.rect(x, y - 4, 9, 8, color, stroke="refline", stroke_width=0.8)
            elif shape == "outline":
                self.rect(x, y - 4, 9, 8, color, fill_opacity=0.14, stroke=color, stroke_width=1.4)
            else:
                fill = {"fill": "bg", "stroke": color, "stroke_width": 1.5} if shape == "ring" else {"fill": color}
                self.circle(x + 4, y, 4, **fill)
            self.text(x + 14, y, name, "ink2")
            x += 14 + text_width(name) + 18

    def svg(self) -> str:
        """Return the image."""
        size = f'width="{pixels(self.width)}" height="{pixels(self.height)}"'
        box = f'viewBox="0 0 {pixels(self.width)} {pixels(self.height)}"'
        root = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} font-family="{FONT}" font-size="{TEXT_SIZE}">'
        return f"{root}{''.join(self.parts)}</svg>"


def _escaped(text: str) -> str:
    """Return a string as XML, in which nothing looks like a color."""
    return escape(INVALID.sub("\N{REPLACEMENT CHARACTER}", text), quote=False).replace("#", "&#35;")


def pixels(value: float) -> str:
    """Return a finite coordinate with one decimal.

    >>> pixels(3.04), pixels(-0.01)
    ('3', '0')
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a coordinate")
    return f"{round(value, 1) + 0.0:g}" if abs(value) < 1e5 else f"{value:.0f}"


def point(x: float, y: float) -> str:
    """Return the coordinates of a point in a path."""
    return f"{pixels(x)} {pixels(y)}"


def _attributes(style: dict[str, object]) -> str:
    """Return attributes; names of tokens are replaced by their light color."""
    return "".join(f' {name.replace("_", "-")}="{_value(value)}"' for name, value in style.items())


def _value(value: object) -> str:
    if isinstance(value, str):
        return TOKENS[value][0] if value in TOKENS else value
    return f"{value:g}" if isinstance(value, float) else str(value)


def polyline(points: Sequence[tuple[float, float] | None]) -> str:
    """Return the path of a line that is interrupted at each None."""
    parts, pen = [], "M"
    for each in points:
        if each is not None:
            parts.append(f"{pen}{point(*each)}" + ("h0" if pen == "M" else ""))
        pen = "M" if each is None else "L"
    return "".join(parts)
