"""Tables of records, and the usual schema of the records in a window or dataset.

The schema is known only after the last record. Until then, a feature has one column per kind of its values, such as
`3:number` and `3:string`, so that no value is lost. Scores are the columns `score0`, `score1`, …
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import NoneType
from typing import NamedTuple, TypeVar

import orjson
import polars as pl

from runner.domain.numbers import plural
from runner.domain.records import Event, Rejection
from runner.errors import RecordError, snippet
from runner.records.fields import Fields
from runner.records.payloads import Scalar

Key = TypeVar("Key", int, str)

KINDS: dict[type, str] = {bool: "boolean", str: "string", int: "number", float: "number"}
"""Kinds of feature values; null has no kind."""
ORIGIN: dict[str, pl.DataType] = {
    "line": pl.UInt32(),
    "row": pl.UInt32(),
    "event_id": pl.String(),
    "inference_id": pl.String(),
    "at": pl.Datetime("us", "UTC"),
}
"""Columns of a record's origin, with their types: line in its file, row in its payload, ids and time of its event."""
EVENT_COLUMNS = ("event_id", "inference_id", "at")
MAX_COLUMNS = 2**14
"""Maximum number of features of a record, and maximum number of its scores."""
BLOCK_VALUES = 2**20
"""Number of values that are collected before they become tables."""


class Record(NamedTuple):
    """A record: its origin, feature values and scores."""

    line: int
    row: int
    event_id: str | None
    inference_id: str | None
    at: datetime | None
    values: Sequence[Scalar]
    scores: Sequence[float] = ()


class Part(NamedTuple):
    """A table of records that all have `width` features and the same number of scores (0 for none)."""

    width: int
    scores: int
    frame: pl.DataFrame


@dataclass(frozen=True)
class Schema:
    """The usual number and kinds of features, and the usual number of scores.

    Attributes:
        fields: names of the features.
        kinds: kind of each feature, None for a feature that is always null.
        scores: number of scores of a record, 0 if no record has any.
    """

    fields: Fields
    kinds: tuple[str | None, ...]
    scores: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.fields.names(len(self.kinds))

    def problem(self, values: Sequence[Scalar], scores: int) -> tuple[str, str]:
        """Return the rejection reason and the message for a record that does not fit."""
        if len(values) != len(self.kinds):
            source = "data.headers has" if self.fields.headers else "records usually have"
            values_json = snippet(orjson.dumps(values))
            return "feature_count", f"{plural(len(values), 'feature')}, but {source} {len(self.kinds)}: {values_json}"
        for d, (value, expected) in enumerate(zip(values, self.kinds, strict=True)):
            if not isinstance(value, NoneType) and (kind := KINDS[type(value)]) != expected:
                got = f"is the {kind} {snippet(repr(value))}"
                return "feature_type", f"feature {self.fields.name(d)!r} {got}, but records usually have a {expected}"
        return "score_count", f"{plural(scores, 'score')}, but records usually have {self.scores}"


@dataclass(frozen=True)
class SchemaCounter:
    """Votes for the number of features, the number of scores, and the kinds of values; their order has no effect.

    Each captured event has one vote, by its first record, so that one request with many records does not decide. In a
    data file, each record has one.
    """

    widths: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    kinds: Counter[tuple[int, str]] = field(default_factory=Counter)
    other_kinds: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Kinds of values in records without a vote: they decide for features that are null in the others."""

    def add(self, part: Part) -> None:
        """Count the records of a table."""
        has_vote = part.frame["event_id"].is_null() | (part.frame["row"] == 0)
        votes = int(has_vote.sum())
        self._add_shape(part.width, part.scores, votes)
        for frame, kinds in (
            (part.frame.filter(has_vote), self.kinds),
            (part.frame.filter(~has_vote), self.other_kinds),
        ):
            for column in frame if frame.height else ():
                if ":" in column.name:
                    kinds[part.width, column.name] += len(column) - column.null_count()

    def add_shapes(self, records: Sequence[Record]) -> None:
        """Count records with the same numbers of features and scores, but not their values."""
        self._add_shape(len(records[0].values), len(records[0].scores), sum(map(_has_vote, records)))

    def add_kinds(self, record: Record) -> None:
        """Count the values of a record by kind."""
        width = len(record.values)
        kinds = self.kinds if _has_vote(record) else self.other_kinds
        for d, value in enumerate(record.values):
            if value is not None:
                kinds[width, f"{d}:{KINDS[type(value)]}"] += 1

    def shape(self, fields: Fields) -> tuple[int, int]:
        """Return the usual numbers of features and scores; `data.headers` defines the number of features."""
        width = len(fields.headers) if fields.headers else _majority(self.widths) or 0
        return width, _majority(self.scores) or 0

    def schema(self, fields: Fields) -> Schema:
        """Return the usual schema."""
        width, scores = self.shape(fields)
        voted, others = self._kinds(self.kinds, width), self._kinds(self.other_kinds, width)
        kinds = tuple(_majority(votes) or _majority(other) for votes, other in zip(voted, others, strict=True))
        return Schema(fields, kinds, scores)

    def _add_shape(self, width: int, scores: int, votes: int) -> None:
        self.widths[width] += votes
        if scores:
            self.scores[scores] += votes

    @staticmethod
    def _kinds(counts: Counter[tuple[int, str]], width: int) -> list[Counter[str]]:
        """Return the counts of the kinds of each feature in records with `width` features."""
        kinds: list[Counter[str]] = [Counter() for _ in range(width)]
        for (counted_width, column), count in counts.items():
            d, _, kind = column.partition(":")
            if counted_width == width and count:
                kinds[int(d)][kind] += count
        return kinds


def event_records(line: int, event: Event, fields: Fields) -> list[Record]:
    """Return the records of a captured invocation.

    Raises:
        RecordError: if there is no request, a payload cannot be read, or the numbers of records and scores differ.
    """
    if event.input is None:
        raise RecordError("no_input", "the request was not captured; switch on the capture of requests")
    rows = fields.request_rows(event.input)
    if not rows:
        raise RecordError("payload", "the request's body is empty")
    scores = fields.response_scores(event.output, len(rows)) if event.output else [()] * len(rows)
    origin = (event.event_id, event.inference_id, event.at)
    pairs = enumerate(zip(rows, scores, strict=True))
    return [Record(line, i, *origin, values, row_scores) for i, (values, row_scores) in pairs]


def shape_problem(record: Record) -> tuple[str, str] | None:
    """Return the rejection reason and the message for a record with too many features or scores, else None."""
    for count, noun, reason in (
        (len(record.values), "feature", "feature_count"),
        (len(record.scores), "score", "score_count"),
    ):
        if count > MAX_COLUMNS:
            return reason, too_many(count, noun)
    return None


def blocks(rows: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield the rows in lists of about `BLOCK_VALUES` values."""
    block: list[Record] = []
    count = 0
    for row in rows:
        block.append(row)
        count += len(ORIGIN) + len(row.values) + len(row.scores)
        if count >= BLOCK_VALUES:
            yield block
            block, count = [], 0
    if block:
        yield block


def by_shape(rows: Iterable[Record]) -> Iterable[list[Record]]:
    """Return the rows in one list for each combination of number of features and number of scores."""
    groups: defaultdict[tuple[int, int], list[Record]] = defaultdict(list)
    for row in rows:
        groups[len(row.values), len(row.scores)].append(row)
    return groups.values()


def part(rows: Sequence[Record]) -> Part:
    """Return the table of rows with the same numbers of features and scores."""
    origin = dict(zip(ORIGIN, zip(*(row[:5] for row in rows), strict=True), strict=True))
    columns = [pl.Series(name, values, dtype=ORIGIN[name]) for name, values in origin.items()]
    for d, values in enumerate(zip(*(row.values for row in rows), strict=True)):
        columns += _feature_columns(d, values)
    for i, scores in enumerate(zip(*(row.scores for row in rows), strict=True)):
        columns.append(pl.Series(f"score{i}", scores, dtype=pl.Float64))
    return Part(len(rows[0].values), len(rows[0].scores), pl.DataFrame(columns))


def table_part(features: pl.DataFrame) -> Part:
    """Return a part from records that already are a table, such as the content of a Parquet file.

    Raises:
        RecordError: `feature_type`, if a column contains neither numbers, strings nor booleans; `feature_count`, if
            there are too many columns.
    """
    if features.width > MAX_COLUMNS:
        raise RecordError("feature_count", too_many(features.width, "feature"))
    height = features.height
    lines = pl.int_range(1, height + 1, dtype=pl.UInt32, eager=True).alias("line")
    columns = [lines, pl.zeros(height, dtype=pl.UInt32, eager=True).alias("row")]
    columns += [pl.Series(name, [None], dtype=ORIGIN[name]).new_from_index(0, height) for name in EVENT_COLUMNS]
    for d, column in enumerate(features):
        columns += _typed_columns(d, column)
    return Part(features.width, 0, pl.DataFrame(columns))


def fitting(frame: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    """Return the records whose values have the schema's kinds; the frame must have the schema's width.

    The columns are `file`, those of `ORIGIN`, `feature0`, `feature1`, … and `score0`, `score1`, …
    """
    types = frame.collect_schema()
    unexpected = [pl.col(name).is_null() for name in types if _is_unexpected(name, schema)]
    features = [
        (_as_int64(types[f"{d}:{kind}"], f"{d}:{kind}") if f"{d}:{kind}" in types else pl.lit(None)).alias(
            f"feature{d}"
        )
        for d, kind in enumerate(schema.kinds)
    ]
    scores = [
        (pl.col(f"score{i}") if f"score{i}" in types else pl.lit(None, pl.Float64)).alias(f"score{i}")
        for i in range(schema.scores)
    ]
    records = frame.filter(pl.all_horizontal(unexpected)) if unexpected else frame
    return records.select(pl.col("file").cast(pl.String), *ORIGIN, *features, *scores)


def misfits(frame: pl.LazyFrame, width: int, scores: int, schema: Schema) -> Iterator[Rejection]:
    """Yield the rejections of records that do not fit the schema."""
    names = frame.collect_schema().names()
    unexpected = [name for name in names if _is_unexpected(name, schema)]
    if width == len(schema.kinds) and scores in {0, schema.scores}:
        if not unexpected:
            return
        frame = frame.filter(pl.any_horizontal(pl.col(unexpected).is_not_null()))
    columns = [name for name in names if ":" in name]
    for row in frame.collect().iter_rows(named=True):
        values: list[Scalar] = [None] * width
        for name in columns:
            if row[name] is not None:
                values[int(name.partition(":")[0])] = row[name]
        record = Record(**{name: row[name] for name in ORIGIN}, values=values)
        yield record_rejection(row["file"], record, schema.problem(values, scores))


def record_rejection(file: str, record: Record, problem: tuple[str, str]) -> Rejection:
    """Return the rejection of a record for a reason and a message."""
    position = "" if record.event_id is None else f"row {record.row} of the payload: "
    text = snippet(orjson.dumps(record.values))
    return Rejection(file, record.line, problem[0], f"{position}{problem[1]}", text)


def _has_vote(record: Record) -> bool:
    return record.event_id is None or record.row == 0


def too_many(count: int, noun: str) -> str:
    """Return the problem of a record with more than `MAX_COLUMNS` features or scores."""
    return f"{plural(count, noun)}, but a record can have at most {MAX_COLUMNS:,}"


def _majority(counts: Counter[Key]) -> Key | None:
    """Return the most frequent value, the smallest of equally frequent ones, or None if there is none."""
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None


def _is_unexpected(name: str, schema: Schema) -> bool:
    """Return whether a column contains values of another kind than the schema's."""
    d, colon, kind = name.partition(":")
    return bool(colon) and (int(d) >= len(schema.kinds) or schema.kinds[int(d)] != kind)


def _as_int64(dtype: pl.DataType, name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64) if dtype == pl.Int32 else pl.col(name)


def _feature_columns(d: int, values: Sequence[Scalar]) -> Iterator[pl.Series]:
    """Yield the columns of a feature, one per kind of its values; none for nulls only."""
    kinds = {KINDS[type_] for type_ in {*map(type, values)} - {NoneType}}
    for kind in sorted(kinds):
        column = values if len(kinds) == 1 else [v if KINDS.get(type(v)) == kind else None for v in values]
        yield _numbers(f"{d}:{kind}", column) if kind == "number" else pl.Series(f"{d}:{kind}", column)


def _numbers(name: str, values: Sequence[Scalar]) -> pl.Series:
    """Return a column of numbers: integers, unless there is a float or an integer beyond 64 bits."""
    if float not in {*map(type, values)}:
        try:
            return pl.Series(name, values, dtype=pl.Int64)
        except (OverflowError, TypeError):
            pass
    return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)


def _typed_columns(d: int, column: pl.Series) -> Iterator[pl.Series]:
    dtype = column.dtype
    if dtype.is_integer() or dtype.is_float() or dtype.is_decimal():
        fits_int64 = dtype.is_integer() and not isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128)
        yield column.cast(pl.Int64() if fits_int64 else pl.Float64()).alias(f"{d}:number")
    elif dtype == pl.Boolean:
        yield column.alias(f"{d}:boolean")
    elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        yield column.cast(pl.String).alias(f"{d}:string")
    elif dtype != pl.Null:
        problem = f"column {column.name!r} has type {dtype}, expected numbers, strings or booleans"
        raise RecordError("feature_type", problem)
