"""Fast reader of capture lines that differ only in their values.

One writer writes lines of one pattern: the same keys and strings around the same number of values. A pattern is
inferred from a line by locating each value. A CSV parser then splits all lines at commas; a line fits the pattern if
everything between its values equals the pattern, byte by byte. The reference reader, `tables.event_records`, reads all
other lines: lines that have strings or nulls as features, have another structure, or are invalid. Both readers return
the same records.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from runner.records.fields import Fields, is_structural
from runner.records.payloads import Body, Format
from runner.records.tables import ORIGIN, Part, event_records

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
INTEGER = r"[-+]?\d+"
PLAIN = '[^",\\\\\\x00-\\x1f\ufffd]{0,256}'
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\dZ"
STRINGS = {"eventId": ("event_id", PLAIN), "inferenceId": ("inference_id", PLAIN), "inferenceTime": ("at", INSTANT)}
"""Column and pattern of each string in the event's metadata."""
TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)')
"""A token of a JSON document: a string, a punctuation mark, a number or a word."""
CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)
"""A character of a JSON string, possibly escaped."""
DELETE = 127
NARROW = 2**27
"""Smallest absolute value in sampled lines that is read as a 64-bit integer instead of a 32-bit integer.

It is less than 2**31, so that other lines may contain larger values than the sample.
"""
MAX_VALUES = 512
"""Maximum number of values in a pattern; with more values, this reader is slower than the reference reader."""
MAX_PATTERN_BYTES = 2**16
"""Maximum size in bytes of a line from which a pattern is inferred; longer lines have too many values."""
LONGEST_ID = 256
"""Maximum length of an id in bytes."""
REST = ("rest", "more")
"""Columns for characters after the last piece of a pattern; null in lines that fit."""


class Span(NamedTuple):
    """The position of a value in a line, and its literal."""

    start: int
    end: int
    literal: str

    @property
    def inside(self) -> Span:
        """The span between the quotes of a JSON string."""
        return Span(self.start + 1, self.end - 1, self.literal[1:-1])

    @property
    def characters(self) -> list[int]:
        """The positions of the characters in a JSON string and of its end; an escape sequence is one character."""
        start, end, raw = self.inside
        return [*(start + match.start() for match in CHARACTER.finditer(raw)), end]


class Value(NamedTuple):
    """A value of a pattern: name of its column, regular expression, and position in the line.

    The name is empty for values that are not read, such as a label next to the score.
    """

    name: str
    pattern: str
    span: Span


class Piece(NamedTuple):
    """The part of a line between two commas: its values, and the strings before, between and after them."""

    texts: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class LinePattern:
    """The pattern of capture lines.

    Attributes:
        pieces: parts of a line between commas.
        records: number of records.
        width, scores: number of features and of scores per record.
        floats: names of the values that are read as floats.
        wide: names of the values that are read as 64-bit integers. All other named values are read as 32-bit integers;
            lines with larger values do not fit.
    """

    pieces: tuple[Piece, ...]
    records: int
    width: int
    scores: int
    floats: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The polars type of each piece, for the CSV parser; a piece without values is a category with one value.

        Two more columns contain the characters after the last piece.
        """
        return {str(i): self._type(piece) for i, piece in enumerate(self.pieces)} | dict.fromkeys(REST, pl.String())

    def columns(self) -> list[pl.Expr]:
        """Return the expression `fits`, which does not check ids, and one expression per named value."""
        fits = [pl.col(name).is_null() for name in REST]
        values: list[pl.Expr] = []
        for i, piece in enumerate(self.pieces):
            column = pl.col(str(i))
            if not piece.values:
                fits.append(column == piece.texts[0])
            elif self._is_number(piece):
                self._add_value(piece.values[0], column, fits, values)
            else:
                self._split(piece, column, fits, values)
        return [pl.all_horizontal(fits).fill_null(value=False).alias("fits"), *values]

    def with_legal_ids(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return the lines; `fits` becomes false for lines with an id that does not match `PLAIN`.

        Such ids are rare. One check of all ids together is much faster than a check of each id.
        """
        for name in ("event_id", "inference_id"):
            if name in lines.columns and not _are_plain(lines[name]):
                plain = pl.col(name).str.contains(f"^{PLAIN}$").fill_null(value=False)
                lines = lines.with_columns(pl.col("fits") & plain)
        return lines

    def part(self, lines: pl.DataFrame, r: int) -> Part:
        """Return a table with record r, counted from 0, of each fitting line."""
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

    def extended(self, line: str) -> LinePattern | None:
        """Return a pattern that also fits this line, with wider number types if necessary; None if there is none."""
        match = self._line.fullmatch(line)
        if match is None:
            return None
        numbers = {name: match[i] for i, name in enumerate(self._names, 1) if name[:1].isdigit()}
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

    def _split(self, piece: Piece, column: pl.Expr, fits: list[pl.Expr], values: list[pl.Expr]) -> None:
        """Split a piece into its values, and check the strings around them."""
        prefix, *separators, suffix = piece.texts
        around = len(prefix.encode()) + len(suffix.encode())
        if prefix:
            fits.append(column.str.starts_with(prefix))
        if suffix:
            fits.append(column.str.ends_with(suffix))
        fits.append(column.str.len_bytes() >= around)
        rest = column.str.slice(len(prefix), column.str.len_bytes() - around)
        for value, separator in zip(piece.values, separators, strict=False):
            parts = rest.str.splitn(separator, 2).struct
            self._add_value(value, parts.field("field_0"), fits, values)
            rest = parts.field("field_1")
        self._add_value(piece.values[-1], rest, fits, values)

    def _add_value(self, value: Value, column: pl.Expr, fits: list[pl.Expr], values: list[pl.Expr]) -> None:
        if value.pattern == NUMBER:
            column = column.cast(self._number_type(value), strict=False)
            fits.append(column.is_finite() if self._number_type(value) == pl.Float64 else column.is_not_null())
        if value.pattern == INSTANT:
            fits.append(column.str.contains(f"^{INSTANT}$"))
            column = column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", strict=False)
            fits.append(column.is_not_null())
        values += [column.alias(value.name)] if value.name else []


def infer_pattern(lines: Iterable[bytes], fields: Fields, window: Window) -> LinePattern | None:
    """Return the pattern of the first usable line that has one, None if there is none.

    A usable line is short, valid and in the window. The pattern is extended to all usable lines of the same structure.
    """
    if not _by_structure(fields):
        return None
    sample = [line.decode().rstrip("\r\n") for line in lines if _is_usable(line, fields, window)]
    pattern = next(filter(None, (_pattern_of(line, fields) for line in sample)), None)
    for line in sample if pattern else []:
        pattern = (pattern and pattern.extended(line)) or pattern
    return pattern


def json_spans(text: str, positions: Sequence[int]) -> Any:
    """Return a JSON document with a `Span` in place of each value that is a string, number or word.

    Args:
        text: the document.
        positions: position in the line of each character of the document.
    """
    tokens = TOKEN.finditer(text)

    def value(token: re.Match[str]) -> Any:
        if token[1] == "[":
            return list(items(value))
        if token[1] == "{":
            return dict(items(member))
        start = positions[token.start(1)]
        return Span(start, start + len(token[1]), token[1])

    def items(read: Callable[[re.Match[str]], Any]) -> Iterator[Any]:
        for token in tokens:
            if token[1] in "]}":
                return
            if token[1] != ",":
                yield read(token)

    def member(key: re.Match[str]) -> tuple[str, Any]:
        next(tokens)
        return orjson.loads(key[1]), value(next(tokens))

    return value(next(tokens))


def csv_spans(line: str, positions: Sequence[int]) -> list[Span]:
    """Return the spans of the cells of a CSV row without quotes."""
    cells = re.finditer(r"[ \t\r]*([^,]*?)[ \t\r]*(?:,|$)", line)
    starts = [(positions[cell.start(1)], cell[1]) for cell in cells if cell[0]]
    return [Span(start, start + len(literal), literal) for start, literal in starts]


def _leaves(tree: Any) -> Iterator[Span]:
    """Yield all spans of a document in the order of the text."""
    if isinstance(tree, Span):
        yield tree
    else:
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(inner)


def _is_usable(line: bytes, fields: Fields, window: Window) -> bool:
    if len(line) > MAX_PATTERN_BYTES:
        return False
    try:
        event = capture.decode(line)
        return event.at in window and bool(event_records(0, event, fields))
    except RecordError:
        return False


def _by_structure(fields: Fields) -> bool:
    """Return whether the locations of features and scores depend on the structure of documents only."""
    expressions = (fields.features, fields.score)
    return all(is_structural(each) for each in expressions if each is not None and not each.isdecimal())


def _pattern_of(line: str, fields: Fields) -> LinePattern | None:
    """Return the pattern of a usable capture line, None if its values cannot be located by structure only."""
    try:
        return _located_pattern(line, fields)
    except (RecordError, ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return None


def _located_pattern(text: str, fields: Fields) -> LinePattern | None:
    line = json_spans(text, range(len(text) + 1))
    sides, metadata = line["captureData"], line["eventMetadata"]
    body, numbers = _body_spans(sides["endpointInput"], fields.content_type)
    rows = fields.located_rows(body)
    scores: list[Any] = []
    if "endpointOutput" in sides:
        body, response_numbers = _body_spans(sides["endpointOutput"], fields.accept_type)
        numbers += response_numbers
        scores = [score if isinstance(score, list) else [score] for score in fields.located_scores(body, len(rows))]
    names = {span: f"{r}.{d}" for r, row in enumerate(rows) for d, span in enumerate(row)}
    names |= {span: f"{r}.score{i}" for r, row in enumerate(scores) for i, span in enumerate(row)}
    values = [Value(names.pop(span, ""), NUMBER, span) for span in numbers]
    values += [Value(*STRINGS[key], span.inside) for key, span in metadata.items() if key in STRINGS]
    widths, counts = {len(row) for row in rows}, {len(row) for row in scores} or {0}
    if names or len(widths) != 1 or len(counts) != 1 or len(values) > MAX_VALUES:
        return None
    pieces = tuple(_pieces(text, sorted(values, key=lambda value: value.span)))
    return LinePattern(pieces, len(rows), widths.pop(), counts.pop()).extended(text)


def _body_spans(side: dict[str, Span], configured: Format) -> tuple[Body, list[Span]]:
    """Return a body with spans in place of its values, and the spans of all numbers in it.

    Positions are counted from the start of the line, which contains the body as a JSON string.
    """
    text, encoding = orjson.loads(side["data"].literal), orjson.loads(side["encoding"].literal)
    format_ = payloads.body_format(Payload("", text, encoding), configured)
    positions = side["data"].characters
    if encoding == "BASE64" or len(positions) != len(text) + 1:
        raise ValueError("the characters of the body do not match those of the line one to one")
    if format_ == "application/json":
        documents = [json_spans(text, positions)]
    else:
        spans = csv_spans if format_ == "text/csv" else json_spans
        starts = itertools.accumulate((len(line) + 1 for line in text.split("\n")), initial=0)
        lines = [(line, positions[start:]) for line, start in zip(text.split("\n"), starts, strict=False)]
        documents = [spans(line, start) for line, start in lines if line.strip(payloads.BLANK)]
    numbers = [span for span in _leaves(documents) if re.fullmatch(NUMBER, span.literal)]
    return Body(documents, format_), numbers


def _pieces(text: str, values: Sequence[Value]) -> Iterator[Piece]:
    """Yield the pieces of a line between its commas."""
    start = index = 0
    for part in text.split(","):
        end, first_index = start + len(part), index
        while index < len(values) and values[index].span.end <= end:
            index += 1
        inside = values[first_index:index]
        if inside and inside[0].span.start < start:
            raise ValueError("a value contains a comma")
        bounds = [start, *(bound for value in inside for bound in value.span[:2]), end]
        yield Piece(tuple(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True)), tuple(inside))
        start = end + 1


def _are_plain(texts: pl.Series) -> bool:
    """Return whether all strings are short printable ASCII without blanks, quotes and backslashes."""
    if (texts.str.len_bytes().max() or 0) > LONGEST_ID:  # type: ignore[operator]
        return False
    codes = np.frombuffer(texts.str.join("").cast(pl.Binary).item(), dtype=np.uint8)
    return not codes.size or bool(codes.min() > ord('"') and codes.max() < DELETE and not (codes == ord("\\")).any())


def _pattern(piece: Piece) -> str:
    prefix, *texts = map(re.escape, piece.texts)
    return prefix + "".join(f"({value.pattern}){text}" for value, text in zip(piece.values, texts, strict=True))
