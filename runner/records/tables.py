"""Rows of values → tables, before it is known which kinds of values the records of a window agree on.

A feature has one column for each kind of value that occurs, `3:number` or `3:text`, so that a number where the others
have texts loses nothing by waiting for the majority. Scores are the columns `score0`, `score1`, …
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import NoneType
from typing import NamedTuple

import orjson
import polars as pl

from runner.domain.records import Event, Rejection
from runner.errors import RecordError, snippet
from runner.records.fields import Fields
from runner.records.payloads import Scalar
from runner.records.schema import KINDS, Schema

ORIGIN: dict[str, pl.DataType] = {
    "line": pl.UInt32(),
    "row": pl.UInt32(),
    "event_id": pl.String(),
    "inference_id": pl.String(),
    "at": pl.Datetime("us", "UTC"),
}
"""Where a record comes from: line of its file, row in its payload, and the event's own marks."""


class Row(NamedTuple):
    """One record on its way into a table."""

    line: int
    row: int
    event_id: str | None
    inference_id: str | None
    at: datetime | None
    values: Sequence[Scalar]
    scores: Sequence[float] = ()


class Part(NamedTuple):
    """A table of records that have equally many features and equally many scores (none: 0)."""

    width: int
    scores: int
    frame: pl.DataFrame


def event_rows(line: int, event: Event, fields: Fields) -> list[Row]:
    """Return the records of a captured invocation.

    Raises:
        RecordError: when it has no request, or one of its sides cannot be read, or both have different numbers of
            records.
    """
    if event.input is None:
        raise RecordError("no_input", "the request was not captured; switch on the capture of requests")
    rows = fields.request_rows(event.input)
    if not rows:
        raise RecordError("payload", "the request's body is empty")
    scores = fields.response_scores(event.output, len(rows)) if event.output else [()] * len(rows)
    marks = (event.event_id, event.inference_id, event.at)
    return [Row(line, i, *marks, values, found) for i, (values, found) in enumerate(zip(rows, scores, strict=True))]


def parts(rows: Iterable[Row]) -> Iterator[Part]:
    """Yield the tables of rows, one for each number of features and scores."""
    groups: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[len(row.values), len(row.scores)].append(row)
    for (width, count), group in groups.items():
        origin = dict(zip(ORIGIN, zip(*(row[:5] for row in group), strict=True), strict=True))
        columns = [pl.Series(name, values, dtype=ORIGIN[name]) for name, values in origin.items()]
        for d, values in enumerate(zip(*(row.values for row in group), strict=True)):
            columns += _feature(d, values)
        for i, scores in enumerate(zip(*(row.scores for row in group), strict=True)):
            columns.append(pl.Series(f"score{i}", scores, dtype=pl.Float64))
        yield Part(width, count, pl.DataFrame(columns))


def table_part(features: pl.DataFrame) -> Part:
    """Return the part of records that are a table already, as in Parquet.

    Raises:
        RecordError: `feature_type`, when a column holds neither numbers, texts nor booleans.
    """
    lines = pl.int_range(1, features.height + 1, dtype=pl.UInt32, eager=True).alias("line")
    columns = [lines, pl.zeros(features.height, dtype=pl.UInt32, eager=True).alias("row")]
    columns += [pl.Series(name, [None], dtype=ORIGIN[name]).new_from_index(0, features.height) for name in _MARKS]
    for d, column in enumerate(features):
        columns += _typed(d, column)
    return Part(features.width, 0, pl.DataFrame(columns))


def usable(frame: pl.LazyFrame, schema: Schema) -> pl.LazyFrame:
    """Return the records of a frame of agreed width that have the agreed kinds of values, one column a feature.

    The columns are those of `ORIGIN`, `file`, then `feature0`, `feature1`, … and `score0`, `score1`, …
    """
    types = frame.collect_schema()
    strange = [pl.col(name).is_null() for name in types if _is_strange(name, schema)]
    features = [
        (_wide(types[f"{d}:{kind}"], f"{d}:{kind}") if f"{d}:{kind}" in types else pl.lit(None)).alias(f"feature{d}")
        for d, kind in enumerate(schema.kinds)
    ]
    scores = [
        (pl.col(f"score{i}") if f"score{i}" in types else pl.lit(None, pl.Float64)).alias(f"score{i}")
        for i in range(schema.scores)
    ]
    kept = frame.filter(pl.all_horizontal(strange)) if strange else frame
    return kept.select(pl.col("file").cast(pl.String), *ORIGIN, *features, *scores)


def _wide(dtype: pl.DataType, name: str) -> pl.Expr:
    """Return a column of values, integers with 64 bits."""
    return pl.col(name).cast(pl.Int64) if dtype == pl.Int32 else pl.col(name)


def misfits(frame: pl.LazyFrame, width: int, scores: int, schema: Schema) -> Iterator[Rejection]:
    """Yield why records are not what the others are: the number of features, a value's kind, the number of scores."""
    names = frame.collect_schema().names()
    strange = [name for name in names if _is_strange(name, schema)]
    if width == len(schema.kinds) and scores in {0, schema.scores}:
        if not strange:
            return
        frame = frame.filter(pl.any_horizontal(pl.col(strange).is_not_null()))
    kinds = [name for name in names if ":" in name]
    for record in frame.collect().iter_rows(named=True):
        values: list[Scalar] = [None] * width
        for name in kinds:
            if record[name] is not None:
                values[int(name.partition(":")[0])] = record[name]
        kind, problem = schema.problem(values, scores)
        place = "" if record["event_id"] is None else f"row {record['row']} of the payload: "
        yield Rejection(record["file"], record["line"], kind, f"{place}{problem}", snippet(orjson.dumps(values)))


def _is_strange(name: str, schema: Schema) -> bool:
    d, colon, kind = name.partition(":")
    return bool(colon) and (int(d) >= len(schema.kinds) or schema.kinds[int(d)] != kind)


_MARKS = ("event_id", "inference_id", "at")


def _feature(d: int, values: Sequence[Scalar]) -> Iterator[pl.Series]:
    """Yield the columns of a feature, one for each kind of its values; one of nulls only has none."""
    kinds = {KINDS[type_] for type_ in {*map(type, values)} - {NoneType}}
    for kind in sorted(kinds):
        of_kind = values if len(kinds) == 1 else [v if KINDS.get(type(v)) == kind else None for v in values]
        yield _numbers(f"{d}:{kind}", of_kind) if kind == "number" else pl.Series(f"{d}:{kind}", of_kind)


def _numbers(name: str, values: Sequence[Scalar]) -> pl.Series:
    """Return numbers as a column: integers, unless a float or an integer beyond 64 bits is among them."""
    if float not in {*map(type, values)}:
        try:
            return pl.Series(name, values, dtype=pl.Int64)
        except (OverflowError, TypeError):
            pass
    return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)


def _typed(d: int, column: pl.Series) -> Iterator[pl.Series]:
    dtype = column.dtype
    if dtype.is_integer() or dtype.is_float() or dtype.is_decimal():
        fits = dtype.is_integer() and not isinstance(dtype, pl.UInt64 | pl.Int128 | pl.UInt128)
        wide = pl.Int64() if fits else pl.Float64()
        yield column.cast(wide).alias(f"{d}:number")
    elif dtype == pl.Boolean:
        yield column.alias(f"{d}:boolean")
    elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        yield column.cast(pl.String).alias(f"{d}:text")
    elif dtype != pl.Null:
        problem = f"column {column.name!r} holds {dtype}, expected numbers, texts or booleans"
        raise RecordError("feature_type", problem)
