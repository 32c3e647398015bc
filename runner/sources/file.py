"""Data files (JSON, JSON Lines, CSV, Parquet): the reader, and one file as a source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from runner import storage
from runner.domain.executions import Window
from runner.domain.numbers import plural
from runner.domain.records import Line, Rejection
from runner.errors import RecordError, listed, snippet
from runner.records.payloads import Format, Scalar, check_count, parse_body
from runner.records.tables import MAX_COLUMNS, Record, table_part, too_many
from runner.sources.data import Data
from runner.sources.source import RecordCollector
from runner.storage import File
from runner.subprocesses import environment
from runner.types import NO_OTHER_KEYS, Location

MAX_VALUES = 2**26
"""Number of values that a table may have in any case."""
MAX_VALUES_PER_BYTE = 64
"""Maximum number of values of larger tables per byte of their file."""
TRIAL = """
import sys, polars
path, saved, max_values = sys.argv[1], sys.argv[2], int(sys.argv[3])
try:
    lazy = polars.scan_parquet(path, glob=False, hive_partitioning=False)
    schema = lazy.collect_schema()
    width = len(getattr(schema.get(saved), "fields", schema))
    rows = lazy.select(polars.len()).collect().item()
    if width * rows <= max_values:
        polars.read_parquet(path, glob=False)
except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
    print(str(error).splitlines()[0])
    sys.exit(1)
print(width, rows)
"""
"""Program that reads a Parquet file, because polars ends its process at some corrupt files; prints its size, or why it
cannot be read."""
SAVED = "features"
"""Column of the features in tables that `stage=capture` saves."""

UNITS: Mapping[Format, str] = {
    "application/json": "the file",
    "application/jsonlines": "the line",
    "text/csv": "the row",
}
"""Names, in messages, of the parts of a file that are parsed alone."""


@dataclass(frozen=True)
class DataFile:
    """A file of records.

    Attributes:
        path: local path of the content.
        name: name of the file in rejections.
        data: format of the file.
        labelled: whether the records contain the label column; if not, a column number in `data.label` is ignored.
    """

    path: Path
    name: str
    data: Data
    labelled: bool = False

    def read(self, collector: RecordCollector) -> None:
        """Collect all records; an invalid record is rejected with its line."""
        if self.data.dataset_type == "application/x-parquet":
            self._read_parquet(collector)
            return
        collector.add_records(self.name, self._rows(collector, self.data.dataset_type))

    @property
    def _label(self) -> str | None:
        """The label column, None if there is none."""
        label = self.data.label
        return None if label is None or (label.isdecimal() and not self.labelled) else label

    def _rows(self, collector: RecordCollector, format_: Format) -> Iterator[Record]:
        names: Sequence[Scalar] | None = None
        fields = self.data.fields
        for lines in self._documents(format_):
            number = lines[0].number
            try:
                body = parse_body(_text(b"".join(line.data for line in lines), format_), format_, UNITS[format_])
                if format_ == "text/csv" and self.data.header and names is None:
                    names = _header(body.documents)
                    collector.names = [str(name) for name in names if name != self._label]
                    continue
                records = fields.located_rows(body)
            except RecordError as error:
                collector.events += len(lines)
                for line in lines:
                    collector.reject_line(line, error)
                continue
            collector.events += len(records)
            for i, values in enumerate(records):
                try:
                    cells = self._cells(values, names) if format_ == "text/csv" else fields.scalars(values)
                    yield Record(number, i, None, None, None, cells)
                except RecordError as error:
                    position = f"record {i}: " if len(records) > 1 else ""
                    collector.reject(Rejection(self.name, number, error.kind, f"{position}{error}", snippet(values)))

    def _documents(self, format_: Format) -> Iterator[list[Line]]:
        """Yield the lines to parse together: one line, one CSV row (quoted cells may span lines), or the whole file."""
        if format_ == "application/json":
            yield [Line(self.name, 1, self.path.read_bytes().removeprefix(BOM_UTF8))]
            return
        row: list[Line] = []
        quotes = size = 0
        for line in storage.read_lines(self.path, self.name):
            row.append(line)
            quotes += line.data.count(b'"') if format_ == "text/csv" else 0
            size += len(line.data)
            if quotes % 2 and size <= storage.MAX_LINE_BYTES:
                continue
            if len(row) > 1 or line.data.strip():
                yield row
            row, quotes, size = [], 0, 0
        if row:
            yield row

    def _cells(self, row: list[Scalar], names: Sequence[Scalar] | None) -> list[Scalar]:
        """Return the features in a CSV row: the columns in `data.headers`, or all columns except the label."""
        headers, label = self.data.headers, self._label
        if names is not None and headers:
            if missing := [name for name in headers if name not in names]:
                present = listed(names)
                problem = f"no column {missing[0]!r} (data.headers); the columns are {present}"
                raise RecordError("features_not_found", problem)
            if len(row) != len(names):
                raise RecordError("feature_count", f"{plural(len(row), 'cell')}, but the header has {len(names)}")
            return [row[names.index(name)] for name in headers]
        if label is None or (names is not None and label not in names and not label.isdecimal()):
            return row
        index = names.index(label) if names is not None and label in names else int(label)
        if index >= len(row) or len(row) == 1:
            problem = f"expected the label in column {label} (data.label) and at least one feature"
            raise RecordError("feature_count", f"{problem}, got {plural(len(row), 'column')}")
        return row[:index] + row[index + 1 :]

    def _read_parquet(self, collector: RecordCollector) -> None:
        try:
            self._check_parquet()
            table = pl.read_parquet(self.path, glob=False)
            if isinstance(table.schema.get(SAVED), pl.Struct):
                table = table.select(pl.col(SAVED).struct.unnest())
            features = self._features(table)
            part = table_part(features)
        except RecordError as error:
            collector.events += 1
            collector.reject(Rejection(self.name, 1, error.kind, str(error)))
            return
        collector.names = features.columns
        collector.events += table.height
        finite = part.frame.select(pl.all_horizontal(pl.lit(value=True), pl.col(pl.Float64).is_finite()))
        valid = finite.to_series().fill_null(value=True)
        for line in part.frame["line"].filter(~valid):
            text = snippet(features.row(line - 1))
            collector.reject(Rejection(self.name, line, "not_finite", "contains NaN or an infinite number", text))
        collector.add(self.name, part._replace(frame=part.frame.filter(valid)))

    def _check_parquet(self) -> None:
        """Read the file in another process, and check the size of its table.

        Raises:
            RecordError: `payload` if it cannot be read, `feature_count` or `too_long`.
        """
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
        max_values = max(MAX_VALUES, MAX_VALUES_PER_BYTE * size)
        ended = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-X", "utf8", "-P", "-c", TRIAL, str(self.path), SAVED, str(max_values)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            check=False,
            encoding="utf-8",
        )
        if ended.returncode < 0:
            problem = f"the process that reads it was ended by {signal.Signals(-ended.returncode).name}"
            raise RecordError("payload", f"not a readable Parquet file: {problem}; write the file again")
        if ended.returncode:
            problem = ended.stdout.strip() or f"the process that reads it ended with exit code {ended.returncode}"
            raise RecordError("payload", f"not a readable Parquet file: {problem}")
        width, rows = map(int, ended.stdout.split())
        if width > MAX_COLUMNS and not self.data.headers:
            raise RecordError("feature_count", too_many(width, "feature"))
        if width * rows > max_values:
            problem = f"{width * rows:,} values in {size:,} bytes; expected a table of different records"
            raise RecordError("too_long", problem)

    def _features(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the columns in `data.headers`, or all columns except the label."""
        label = self._label
        if label is not None and label not in table.columns and label.isdecimal():
            label = table.columns[int(label)] if int(label) < table.width else None
        names = self.data.headers or [name for name in table.columns if name != label]
        if missing := [name for name in names if name not in table.columns]:
            problem = f"no column {missing[0]!r} (data.headers); the columns are {listed(table.columns)}"
            raise RecordError("features_not_found", problem)
        if not names:
            raise RecordError("features_not_found", "no column except the label (data.label)")
        return table.select(names)


def _header(rows: Sequence[list[Scalar]]) -> list[Scalar]:
    """Return the column names.

    Raises:
        RecordError: `payload`, if they are not one row of unique names.
    """
    names = rows[0] if len(rows) == 1 else []
    if not names or len({*names}) < len(names):
        raise RecordError("payload", f"expected a header of one row with unique names, got {snippet(rows)}")
    return names


def _text(data: bytes, format_: Format) -> str:
    if format_ != "application/json" and len(data) > storage.MAX_LINE_BYTES:
        raise RecordError("too_long", f"longer than {storage.MAX_LINE_BYTES} bytes")
    if format_ != "application/json":
        check_count(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("payload", f"not UTF-8 ({error.reason}): {snippet(data)}") from error


@dataclass(frozen=True)
class FileSource:
    """One file of records; all of its records belong to the window.

    Attributes:
        kind: `file`.
        path: the file, local or in an object store.
    """

    kind: Literal["file"]
    path: Location

    __pydantic_config__ = NO_OTHER_KEYS

    def folders(self, window: Window) -> list[str]:  # noqa: ARG002  the same for every window
        """Return the location of the file."""
        return [self.path]

    def files(self, window: Window) -> list[File]:  # noqa: ARG002
        """Return the file."""
        storage.require(self.path, "the file of records", "source.path", "give the path of a dataset")
        return [File(self.path, self.path, 0)]

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:  # noqa: ARG002
        """Collect the records of the file."""
        for file in files:
            with storage.local_copy(file.location, file.size) as path:
                DataFile(path, file.name, data).read(collector)
