"""Lines → a table of records, each feature column in its own type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl

from runner.domain import Captured, Event, Line, Records, Rejection, Window, plural
from runner.errors import DatasetError, RecordError, snippet
from runner.records import capture, payloads
from runner.records.fields import Fields, Scalar

Value = TypeVar("Value", int, str)

KEYS: dict[str, pl.DataType | type[pl.DataType]] = {
    "file": pl.String,
    "line": pl.Int64,
    "row": pl.Int64,
    "event_id": pl.String,
    "inference_id": pl.String,
    "at": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True)
class Row:
    """One record on its way into the table."""

    line: Line
    index: int
    values: list[Scalar]
    scores: list[float] | None = None
    event: Event | None = None

    def rejection(self, kind: str, problem: str) -> Rejection:
        """Return why this record was not used, with its place in a payload that may hold several."""
        place = f"row {self.index} of the payload: " if self.event else ""
        return Rejection(self.line.file, self.line.number, kind, f"{place}{problem}")


def read_window(files: Sequence[str], lines: Iterable[Line], fields: Fields, window: Window) -> Captured:
    """Return what the capture lines of a window hold; the event time decides what belongs to it."""
    rows: list[Row] = []
    rejections: list[Rejection] = []
    events = 0
    for line in lines:
        if not line.data.strip():
            continue
        events += 1
        try:
            event = capture.decode(line.data)
            if event.at not in window:
                raise RecordError("outside_window", f"event time {event.at:%FT%TZ} is outside {window}")
            rows += _event_rows(line, event, fields)
        except RecordError as error:
            rejections.append(Rejection(line.file, line.number, error.kind, str(error)))
    records, misfits = _tabulate(rows, fields)
    return Captured(window, tuple(files), events, records, (*rejections, *misfits))


def read_dataset(lines: Iterable[Line], fields: Fields) -> Records:
    """Return the records of a JSON Lines dataset.

    Raises:
        DatasetError: at the first line that cannot be used, or when there is none.
    """
    rows: list[Row] = []
    rejections: list[Rejection] = []
    file = "the dataset"
    for line in lines:
        file = line.file
        if not line.data.strip():
            continue
        try:
            rows += [
                Row(line, 0, fields.feature_values(found)) for found in payloads.documents(line.data.decode("utf-8"))
            ]
        except UnicodeDecodeError:
            rejections.append(Rejection(line.file, line.number, "payload", f"not UTF-8: {snippet(line.data)}"))
        except RecordError as error:
            rejections.append(Rejection(line.file, line.number, error.kind, str(error)))
    records, misfits = _tabulate(rows, fields)
    if problems := sorted((*rejections, *misfits), key=lambda rejection: rejection.line):
        raise DatasetError(problems[0], len(problems) - 1)
    if not len(records):
        raise DatasetError(f"{file}: holds no record; expected JSON Lines, one record a line")
    return records


def _event_rows(line: Line, event: Event, fields: Fields) -> list[Row]:
    if event.input is None:
        raise RecordError("no_input", "the request was not captured; switch on the capture of requests")
    inputs = payloads.documents(payloads.text(event.input))
    if not inputs:
        raise RecordError("payload", "the request's body is empty")
    outputs = None if event.output is None else payloads.documents(payloads.text(event.output))
    if outputs is not None and len(outputs) != len(inputs):
        raise RecordError("row_count", f"{len(inputs)} records in the request, {len(outputs)} in the response")
    return [
        Row(line, i, fields.feature_values(document), fields.score_values(outputs[i]) if outputs else None, event)
        for i, document in enumerate(inputs)
    ]


def _tabulate(rows: list[Row], fields: Fields) -> tuple[Records, list[Rejection]]:
    """Return the table of the rows that agree on number and kind of features, and a rejection for each other row.

    What the rows agree on is what most of them have, so the result does not depend on their order.
    """
    rejections: list[Rejection] = []
    width = len(fields.headers) if fields.headers else _majority(len(row.values) for row in rows) or 0
    fitting = []
    for row in rows:
        try:
            fields.check_width(row.values, width)
            fitting.append(row)
        except RecordError as error:
            rejections.append(row.rejection(error.kind, str(error)))
    kinds = [_majority(k for row in fitting if (k := kind(row.values[d])) != "null") for d in range(width)]
    scores = _majority(len(row.scores) for row in fitting if row.scores is not None)
    usable = []
    for row in fitting:
        misfit = next((d for d in range(width) if kind(row.values[d]) not in {kinds[d], "null"}), None)
        if misfit is not None:
            problem = (
                f"feature {fields.name(misfit)!r} holds the {kind(row.values[misfit])} "
                f"{snippet(repr(row.values[misfit]))} where the other records have a {kinds[misfit]}"
            )
            rejections.append(row.rejection("feature_type", problem))
        elif row.scores is not None and len(row.scores) != scores:
            problem = f"{plural(len(row.scores), 'score')} where the other records have {scores}"
            rejections.append(row.rejection("score_count", problem))
        else:
            usable.append(row)
    features = pl.DataFrame(
        [_column(name, [row.values[d] for row in usable]) for d, name in enumerate(fields.names(width))]
    )
    return Records(features, _keys(usable), _scores(usable, scores)), rejections


def kind(value: Scalar) -> str:
    """Return the kind of a feature value; integers and floats are one kind.

    >>> [kind(value) for value in (1, 1.5, "a", True, None)]
    ['number', 'number', 'text', 'boolean', 'null']
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "text"
        case _:
            return "number"


def _column(name: str, values: list[Scalar]) -> pl.Series:
    """Return the values of one kind as a column; integers stay integers unless a float is among them."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if any(isinstance(value, float) or not -(2**63) <= value < 2**63 for value in numbers):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, values, dtype=pl.Int64 if numbers else None)


def _keys(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (
                row.line.file,
                row.line.number,
                row.index,
                row.event and row.event.event_id,
                row.event and row.event.inference_id,
                row.event and row.event.at,
            )
            for row in rows
        ],
        schema=KEYS,
        orient="row",
    )


def _scores(rows: list[Row], width: int | None) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    if width is None:
        return None
    return np.array([row.scores or [np.nan] * width for row in rows], dtype=np.float64).reshape(-1, width)


def _majority(values: Iterable[Value]) -> Value | None:
    """Return the most frequent value, the smallest of equally frequent ones, or None where there is none."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None
