"""Lines → a table of records, each feature column in its own type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.domain import Captured, Event, Line, Records, Rejection, Window
from runner.errors import DatasetError, RecordError, snippet
from runner.records import capture, payloads
from runner.records.fields import Fields, Scalar
from runner.records.schema import Schema

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
        DatasetError: naming the first line that cannot be used, or when there is none at all.
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
    """Return the table of the rows that fit what most of them agree on, and a rejection for each other row."""
    schema = Schema.agreed(((row.values, row.scores) for row in rows), fields)
    usable, rejections = [], []
    for row in rows:
        try:
            schema.check(row.values, row.scores)
            usable.append(row)
        except RecordError as error:
            rejections.append(row.rejection(error.kind, str(error)))
    columns = [_column(name, [row.values[d] for row in usable]) for d, name in enumerate(schema.names)]
    return Records(pl.DataFrame(columns), _keys(usable), _scores(usable, schema.scores)), rejections


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
    if width is None or not any(row.scores for row in rows):
        return None
    return np.array([row.scores or [np.nan] * width for row in rows], dtype=np.float64).reshape(-1, width)
