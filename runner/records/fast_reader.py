"""Shapes: capture lines that differ only in their values, read as the comma-separated rows they also are.

One writer writes one shape: the same keys and texts around the same number of values. A shape is learned from a line
by finding out where each value stands; then a CSV parser splits all lines at once, and a line is of the shape when
everything between its values is, to the byte, what the learned line has there. What a shape cannot tell (texts and
nulls as features, another structure, anything broken) is left to the patient reader, which knows the truth; of what
both can read they say the same.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl

from runner.domain.executions import Window
from runner.domain.records import Payload
from runner.errors import RecordError
from runner.records import capture, payloads
from runner.records.expressions import structural
from runner.records.fields import Fields
from runner.records.outlines import Span, cells, leaves, outline
from runner.records.payloads import Format
from runner.records.tables import ORIGIN, Part, event_rows

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
INTEGER = r"[-+]?\d+"
PLAIN = '[^",\\\\\\x00-\\x1f\ufffd]{0,256}'
DELETE = 127
NARROW = 2**27
"""An integer below it leads to a column of 32 bits, which leaves room for larger ones."""
MOST_VALUES = 512
"""A line with more values is left to the patient reader; as many columns would cost more than they bring."""
LONGEST_ID = 256
REST = ("rest", "more")
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\dZ"

TEXTS = {"eventId": ("event_id", PLAIN), "inferenceId": ("inference_id", PLAIN), "inferenceTime": ("at", INSTANT)}


class Value(NamedTuple):
    """A value of a shape: the name of its column, the kind of its text, and where it stands in the learned line.

    The name is empty where nobody asks for the value, as for a label beside the score.
    """

    name: str
    pattern: str
    span: Span


class Piece(NamedTuple):
    """What stands between two commas: values, and the texts around them (one more than there are values)."""

    texts: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Shape:
    """The structure of capture lines of `records` records with `width` features and `scores` scores each.

    Attributes:
        pieces: what stands between the commas of a line.
        floats, wide: the values that are read as floats, or as integers of 64 bits; the others are read with 32, and
            a line with a larger one does not fit.
    """

    pieces: tuple[Piece, ...]
    records: int
    width: int
    scores: int
    floats: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The types with which a CSV parser reads the pieces; texts that never change are categories of one.

        Two pieces more than a line has show what stands after its end.
        """
        return {str(i): self._type(piece) for i, piece in enumerate(self.pieces)} | dict.fromkeys(REST, pl.String())

    def columns(self) -> list[pl.Expr]:
        """Return the values as columns, and in `fits` whether a line is of this shape, but for what `legal` asks."""
        fits = [pl.col(name).is_null() for name in REST]
        values: list[pl.Expr] = []
        for i, piece in enumerate(self.pieces):
            column = pl.col(str(i))
            if not piece.values:
                fits.append(column == piece.texts[0])
            elif self._is_number(piece):
                self._take(piece.values[0], column, fits, values)
            else:
                self._cut(piece, column, fits, values)
        return [pl.all_horizontal(fits).fill_null(value=False).alias("fits"), *values]

    def legal(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return lines that no longer fit where an id holds what would have to be escaped in JSON.

        Nearly always all ids are plain, which is asked of many at once at a fraction of the price.
        """
        for name in ("event_id", "inference_id"):
            if name in lines.columns and not _are_plain(lines[name]):
                plain = pl.col(name).str.contains(f"^{PLAIN}$").fill_null(value=False)
                lines = lines.with_columns(pl.col("fits") & plain)
        return lines

    def part(self, lines: pl.DataFrame, r: int) -> Part:
        """Return the table of the r-th records of lines of this shape."""
        origin = [
            name if name in lines.columns else pl.lit(None, ORIGIN[name]).alias(name)
            for name in ORIGIN
            if name != "row"
        ]
        frame = lines.select(
            *origin,
            pl.lit(r, ORIGIN["row"]).alias("row"),
            *(pl.col(f"{r}.{d}").alias(f"{d}:number") for d in range(self.width)),
            *(pl.col(f"{r}.score{i}").alias(f"score{i}") for i in range(self.scores)),
        )
        return Part(self.width, self.scores, frame)

    def seen(self, line: str) -> Shape | None:
        """Return the shape that also fits this line, by other types of numbers if need be, None if none does."""
        found = self._line.fullmatch(line)
        if found is None:
            return None
        numbers = {name: found[i] for i, name in enumerate(self._names, 1) if name[:1].isdigit()}
        if not all(math.isfinite(float(literal)) for literal in numbers.values()):
            return None
        floats = {name for name, literal in numbers.items() if not re.fullmatch(INTEGER, literal)}
        wide = {name for name, literal in numbers.items() if abs(float(literal)) >= NARROW}
        if floats <= self.floats and wide <= self.wide:
            return self
        return replace(self, floats=self.floats | floats, wide=self.wide | wide)

    @property
    def _names(self) -> list[str]:
        return [value.name for piece in self.pieces for value in piece.values]

    @cached_property
    def _line(self) -> re.Pattern[str]:
        return re.compile(",".join(map(_pattern, self.pieces)))

    def _is_number(self, piece: Piece) -> bool:
        return piece.texts in {("", ""), (" ", "")} and piece.values[0].pattern == NUMBER

    def _type(self, piece: Piece) -> pl.DataType:
        if not piece.values:
            return pl.Categorical(pl.Categories(f"={piece.texts[0]}", "runner.records.fast_reader"))
        return self._number_type(piece.values[0]) if self._is_number(piece) else pl.String()

    def _number_type(self, value: Value) -> pl.DataType:
        if value.name in self.floats or not value.name:
            return pl.Float64()
        return pl.Int64() if value.name in self.wide else pl.Int32()

    def _cut(self, piece: Piece, column: pl.Expr, fits: list[pl.Expr], values: list[pl.Expr]) -> None:
        """Cut a piece into its values, checking the texts around them."""
        first, *middle, last = piece.texts
        around = len(first.encode()) + len(last.encode())
        fits += [column.str.starts_with(first)] * bool(first) + [column.str.ends_with(last)] * bool(last)
        fits.append(column.str.len_bytes() >= around)
        rest = column.str.slice(len(first), column.str.len_bytes() - around)
        for value, text in zip(piece.values, middle, strict=False):
            parts = rest.str.splitn(text, 2).struct
            self._take(value, parts.field("field_0"), fits, values)
            rest = parts.field("field_1")
        self._take(piece.values[-1], rest, fits, values)

    def _take(self, value: Value, column: pl.Expr, fits: list[pl.Expr], values: list[pl.Expr]) -> None:
        if value.pattern == NUMBER:
            column = column.cast(self._number_type(value), strict=False)
            fits.append(column.is_finite() if self._number_type(value) == pl.Float64 else column.is_not_null())
        if value.pattern == INSTANT:
            fits.append(column.str.contains(f"^{INSTANT}$"))
            column = column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", strict=False)
            fits.append(column.is_not_null())
        values += [column.alias(value.name)] if value.name else []


def learned(lines: Iterable[bytes], fields: Fields, window: Window) -> Shape | None:
    """Return the shape of the first line that has one, with floats where any line of that shape has some.

    Lines that cannot be used, or are of another window, teach nothing.
    """
    if not _by_structure(fields):
        return None
    sample = [line.decode().rstrip("\r\n") for line in lines if _is_usable(line, fields, window)]
    shape = next(filter(None, (learn(line, fields) for line in sample)), None)
    for line in sample if shape else []:
        shape = (shape and shape.seen(line)) or shape
    return shape


def learn(line: str, fields: Fields) -> Shape | None:
    """Return the shape of a usable capture line, None where its values cannot be told apart by structure alone."""
    try:
        return _learned(line, fields)
    except (RecordError, ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return None


def _is_usable(line: bytes, fields: Fields, window: Window) -> bool:
    try:
        event = capture.decode(line)
        return event.at in window and bool(event_rows(0, event, fields))
    except RecordError:
        return False


def _by_structure(fields: Fields) -> bool:
    asked = (fields.features, fields.score)
    return all(structural(expression) for expression in asked if expression is not None and not expression.isdecimal())


def _learned(text: str, fields: Fields) -> Shape | None:
    line = outline(text, range(len(text) + 1))
    sides, metadata = line["captureData"], line["eventMetadata"]
    documents, numbers, layout = _body(sides["endpointInput"], fields.content_type)
    rows = fields.located_rows(documents, layout)
    scores: list[Any] = []
    if "endpointOutput" in sides:
        documents, more, layout = _body(sides["endpointOutput"], fields.accept_type)
        numbers += more
        found = fields.located_scores(documents, layout, len(rows))
        scores = [score if isinstance(score, list) else [score] for score in found]
    names = {span: f"{r}.{d}" for r, row in enumerate(rows) for d, span in enumerate(row)}
    names |= {span: f"{r}.score{i}" for r, row in enumerate(scores) for i, span in enumerate(row)}
    values = [Value(names.pop(span, ""), NUMBER, span) for span in numbers]
    values += [Value(*TEXTS[key], span.inside) for key, span in metadata.items() if key in TEXTS]
    widths, counts = {len(row) for row in rows}, {len(row) for row in scores} or {0}
    if names or len(widths) != 1 or len(counts) != 1 or len(values) > MOST_VALUES:
        return None
    pieces = tuple(_pieces(text, sorted(values, key=lambda value: value.span)))
    return Shape(pieces, len(rows), widths.pop(), counts.pop()).seen(text)


def _body(side: dict[str, Span], configured: Format) -> tuple[list[Any], list[Span], Format]:
    """Return the outlines of a body's documents, all the numbers in them, and the body's layout.

    Places are those in the line, where the body stands as the text of a JSON string.
    """
    body, encoding = orjson.loads(side["data"].literal), orjson.loads(side["encoding"].literal)
    layout = payloads.layout(Payload("", body, encoding), configured)
    places = side["data"].characters
    if encoding == "BASE64" or len(places) != len(body) + 1:
        raise ValueError("the body's characters do not stand in the line one by one")
    if layout == "application/json":
        documents = [outline(body, places)]
    else:
        read = cells if layout == "text/csv" else outline
        starts = itertools.accumulate((len(line) + 1 for line in body.split("\n")), initial=0)
        lines = [(line, places[at:]) for line, at in zip(body.split("\n"), starts, strict=False)]
        documents = [read(line, at) for line, at in lines if line.strip(payloads.BLANK)]
    return documents, [span for span in leaves(documents) if re.fullmatch(NUMBER, span.literal)], layout


def _pieces(text: str, values: Sequence[Value]) -> Iterator[Piece]:
    """Yield what stands between the commas of a line."""
    start = place = 0
    for part in text.split(","):
        end, first = start + len(part), place
        while place < len(values) and values[place].span.end <= end:
            place += 1
        inside = values[first:place]
        if inside and inside[0].span.start < start:
            raise ValueError("a value holds a comma")
        bounds = [start, *(bound for value in inside for bound in value.span[:2]), end]
        yield Piece(tuple(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True)), tuple(inside))
        start = end + 1


def _are_plain(texts: pl.Series) -> bool:
    """Return whether texts are short and hold printable ASCII only, neither blanks nor quotes nor backslashes."""
    if (texts.str.len_bytes().max() or 0) > LONGEST_ID:  # type: ignore[operator]
        return False
    codes = np.frombuffer(texts.str.join("").cast(pl.Binary).item(), dtype=np.uint8)
    return not codes.size or bool(codes.min() > ord('"') and codes.max() < DELETE and not (codes == ord("\\")).any())


def _pattern(piece: Piece) -> str:
    first, *texts = map(re.escape, piece.texts)
    return first + "".join(f"({value.pattern}){text}" for value, text in zip(piece.values, texts, strict=True))
