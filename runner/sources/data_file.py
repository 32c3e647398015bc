"""A file of records without events around them: a dataset, the input of a batch transform."""

from __future__ import annotations

import itertools
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from runner import storage
from runner.domain.records import Line, Rejection
from runner.domain.text import plural
from runner.errors import RecordError, snippet
from runner.records import payloads
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar
from runner.records.tables import Row, table_part
from runner.sources.intake import RecordCollector

FileFormat = Format | Literal["application/x-parquet"]
BLOCK_ROWS = 2**14
"""Records that become one table."""
SAVED = "features"
"""Where records have their features in a table that `stage=capture` saved."""


@dataclass(frozen=True)
class DataFile:
    """A dataset in one file.

    Attributes:
        path: where its content is.
        name: what it is called in rejections.
        layout: its media type.
        label: the column that is no feature (CSV, Parquet): its name, or its number from 0. None where there is none.
        header: whether a CSV's first row holds the names of its columns.
    """

    path: Path
    name: str
    fields: Fields
    layout: FileFormat
    label: str | None
    header: bool

    def read(self, intake: RecordCollector) -> None:
        """Take all its records; what cannot be used is rejected with its line."""
        if self.layout == "application/x-parquet":
            self._read_parquet(intake)
            return
        rows = self._rows(intake, self.layout)
        while block := list(itertools.islice(rows, BLOCK_ROWS)):
            intake.add_rows(self.name, block)

    def _rows(self, intake: RecordCollector, layout: Format) -> Iterator[Row]:
        names: Sequence[Scalar] | None = None
        for lines in self._documents(layout):
            first = lines[0].number
            try:
                documents = payloads.documents(_text(b"".join(line.data for line in lines), layout), layout)
                if layout == "text/csv" and self.header and names is None:
                    names = self._header(documents)
                    intake.names = [str(name) for name in names if name != self.label]
                    continue
                found = self.fields.located_rows(documents, layout)
            except RecordError as error:
                intake.events += len(lines)
                for line in lines:
                    intake.refuse(line, error)
                continue
            intake.events += len(found)
            for i, values in enumerate(found):
                try:
                    cells = self._cells(values, names) if layout == "text/csv" else self.fields.scalars(values)
                    yield Row(first, i, None, None, None, cells)
                except RecordError as error:
                    place = f"record {i}: " if len(found) > 1 else ""
                    intake.reject(Rejection(self.name, first, error.kind, f"{place}{error}", snippet(values)))

    def _documents(self, layout: Format) -> Iterator[list[Line]]:
        """Yield what can be read on its own: a line, the lines of a CSV's row (a quoted cell has several), the file."""
        if layout == "application/json":
            yield [Line(self.name, 1, self.path.read_bytes().removeprefix(BOM_UTF8))]
            return
        row: list[Line] = []
        quotes = size = 0
        for line in storage.lines(self.path, self.name):
            row.append(line)
            quotes += line.data.count(b'"') if layout == "text/csv" else 0
            size += len(line.data)
            if quotes % 2 and size <= storage.LONGEST_LINE:
                continue
            if len(row) > 1 or line.data.strip():
                yield row
            row, quotes, size = [], 0, 0
        if row:
            yield row

    def _header(self, rows: Sequence[list[Scalar]]) -> list[Scalar]:
        """Return the names of the columns.

        Raises:
            RecordError: `payload`, when they are no one row of different names.
        """
        names = rows[0] if len(rows) == 1 else []
        if not names or len({*names}) < len(names):
            raise RecordError("payload", f"the header should be one row of different names, got {snippet(rows)}")
        return names

    def _cells(self, row: list[Scalar], names: Sequence[Scalar] | None) -> list[Scalar]:
        """Return the features in a CSV's row: the columns that the headers name, or all but the label."""
        wanted = self.fields.headers
        if names is not None and wanted:
            if missing := [name for name in wanted if name not in names]:
                told = ", ".join(map(str, names))
                raise RecordError("features_not_found", f"no column {missing[0]!r} (data.headers); there are {told}")
            if len(row) != len(names):
                raise RecordError("feature_count", f"{plural(len(row), 'cell')} where the header has {len(names)}")
            return [row[names.index(name)] for name in wanted]
        if self.label is None or (names is not None and self.label not in names and not self.label.isdecimal()):
            return row
        place = names.index(self.label) if names is not None and self.label in names else int(self.label)
        if place >= len(row) or len(row) == 1:
            problem = f"no column {self.label} for the label (data.label) beside features among {len(row)} columns"
            raise RecordError("feature_count", problem)
        return row[:place] + row[place + 1 :]

    def _read_parquet(self, intake: RecordCollector) -> None:
        try:
            table = pl.read_parquet(self.path, glob=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            intake.events += 1
            problem = f"not a Parquet file that can be read: {str(error).splitlines()[0]}"
            intake.reject(Rejection(self.name, 1, "payload", problem))
            return
        if isinstance(table.schema.get(SAVED), pl.Struct):
            table = table.select(pl.col(SAVED).struct.unnest())
        wanted = self.fields.headers or [name for name in table.columns if name != self._label(table)]
        try:
            if missing := [name for name in wanted if name not in table.columns]:
                problem = f"no column {missing[0]!r} (data.headers); the columns are {', '.join(table.columns)}"
                raise RecordError("features_not_found", problem)
            if not wanted:
                raise RecordError("features_not_found", "no column but the label (data.label)")
            part = table_part(table.select(wanted))
            intake.names = wanted
        except RecordError as error:
            intake.events += 1
            intake.reject(Rejection(self.name, 1, error.kind, str(error)))
            return
        intake.events += table.height
        finite = part.frame.select(pl.all_horizontal(pl.lit(value=True), pl.col(pl.Float64).is_finite()))
        known = finite.to_series().fill_null(value=True)
        for line in part.frame["line"].filter(~known):
            text = snippet(table.select(wanted).row(line - 1))
            intake.reject(Rejection(self.name, line, "not_finite", "holds NaN or an infinite number", text))
        intake.add(self.name, part._replace(frame=part.frame.filter(known)))

    def _label(self, table: pl.DataFrame) -> str | None:
        """Return the name of the label's column."""
        if self.label is None or self.label in table.columns or not self.label.isdecimal():
            return self.label
        return table.columns[int(self.label)] if int(self.label) < table.width else None


def _text(data: bytes, layout: Format) -> str:
    if layout != "application/json" and len(data) > storage.LONGEST_LINE:
        raise RecordError("too_long", f"longer than {storage.LONGEST_LINE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError("payload", f"not UTF-8 ({error.reason}): {snippet(data)}") from error
