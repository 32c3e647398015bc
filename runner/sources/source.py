"""The protocol of sources, the collector of their records, the reader of a window, and samples of its records.

The division of records into files and lines does not change which records a sample contains.

Array letter: N records.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from os import SEEK_END
from pathlib import Path
from typing import IO, Protocol, Self

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from runner.domain.executions import Window
from runner.domain.records import Captured, Line, Rejection
from runner.errors import NoData, NoValidRecords, RecordError, TooManyRejected, snippet
from runner.explain.masking import GOLDEN_RATIO, hash_rows, mix_bits
from runner.protocols import Track
from runner.records.fields import Fields
from runner.records.tables import (
    BLOCK_VALUES,
    ORIGIN,
    Part,
    Record,
    Schema,
    SchemaCounter,
    blocks,
    by_shape,
    fitting,
    misfits,
    part,
    record_rejection,
    shape_problem,
)
from runner.sources.data import Data
from runner.storage import File

MEMORY_BYTES = 600 * 2**20
"""Maximum size in bytes of the records in memory."""
REJECTION_BYTES = 2**23
"""Maximum size in bytes of the rejections in memory."""
BUFFER_BYTES = 2**25
"""Maximum size in bytes of the buffered records in memory."""
COLUMN_BYTES = 600
"""Approximate size in bytes of a column without its values."""


def sampled(captured: Captured, size: int | None, salt: int = 0) -> Captured:
    """Return a sample of at most `size` records in their original order, or all records if `size` is None.

    The sample consists of the records with the smallest hashes.
    """
    if size is None or captured.records <= size:
        return captured
    return selected(captured, np.sort(hash_order(captured.features(), salt)[:size]))


def selected(captured: Captured, rows: NDArray[np.intp]) -> Captured:
    """Return the records in these rows of the table, as a sample."""
    return replace(captured, table=captured.table.collect()[rows].lazy(), sample=len(rows))


def without(captured: Captured, reason: str, problems: Mapping[int, str]) -> Captured:
    """Return the capture after the rejection of records for a reason, with a message for each of their indices."""
    table, rows = captured.table.collect(), sorted(problems)
    captured.rejections.seek(0)
    lines = {(each["file"], each["line"]) for each in map(orjson.loads, captured.rejections)}
    events_before, rejections = len(lines), list[Rejection]()
    for i, row in zip(rows, table[rows].iter_rows(named=True), strict=True):
        values = [row[f"feature{d}"] for d in range(len(captured.names))]
        record = Record(**{name: row[name] for name in ORIGIN}, values=values)
        rejections.append(record_rejection(row["file"], record, (reason, problems[i])))
        captured.rejections.write(rejection_line(rejections[-1]))
        lines.add((row["file"], row["line"]))
    rejected = Counter({reason: len(rows)}) + Counter(captured.rejected)
    examples = {each.kind: each for each in (rejections[0], *captured.examples)}
    events = captured.rejected_events
    return replace(
        captured,
        records=captured.records - len(rows),
        table=table.filter(~pl.int_range(table.height, eager=True).is_in(rows)).lazy(),
        rejected=dict(rejected.most_common()),
        examples=tuple(examples[kind] for kind, _ in rejected.most_common()),
        sample=None if captured.sample is None else captured.sample - len(rows),
        rejected_events=None if events is None else events + len(lines) - events_before,
    )


def rejection_line(rejection: Rejection) -> bytes:
    """Return a rejection as a line of JSON."""
    document = {"file": rejection.file, "line": rejection.line, "kind": rejection.kind}
    document |= {"problem": rejection.problem, "text": rejection.text}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def window_salt(window: Window, seed: int = 0) -> int:
    """Return the salt of a window, so that clients who send the same records in each window are not always left out."""
    return (int(window.start.timestamp()) * int(GOLDEN_RATIO) + seed) % 2**64


def hash_order(features: pl.DataFrame, salt: int = 0) -> NDArray[np.intp]:
    """Return the indices that sort records by hash; the sorted records do not depend on the original order.

    Duplicates have different hashes, so that each content is sampled in proportion to its frequency.

    Args:
        features: the records.
        salt: number that selects the order; 0 for the hashes themselves.
    """
    keys_N = hash_rows(features)[0]
    if salt:
        keys_N = mix_bits(keys_N + np.uint64(salt))
    return mix_bits(keys_N + GOLDEN_RATIO * _occurrences(keys_N)).argsort()


def _occurrences(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the number of equal keys before each key."""
    sorted_N = keys_N.argsort(kind="stable")
    index_N = np.arange(len(keys_N), dtype=np.uint64)
    differs_N = np.diff(keys_N[sorted_N], prepend=0) != 0
    occurrences_N = np.empty_like(index_N)
    occurrences_N[sorted_N] = index_N - np.maximum.accumulate(np.where(differs_N, index_N, 0))
    return occurrences_N


class RecordBuffer:
    """Records as JSON Lines, in a temporary file if there are many.

    A table has at least as many rows as columns, because a column without rows costs as much as 100 values. Other
    records wait here until the schema is known.
    """

    def __init__(self) -> None:
        self._lines: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=BUFFER_BYTES)  # noqa: SIM115  closed in close

    def close(self) -> None:
        """Delete the records."""
        self._lines.close()

    def add(self, file: str, rows: Iterable[Record]) -> None:
        """Add records of one file."""
        for row in rows:
            self._lines.write(orjson.dumps([file, *row], option=orjson.OPT_APPEND_NEWLINE))

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        """Yield all records in their order, with their files."""
        self._lines.seek(0)
        for line in self._lines:
            file, number, row, event_id, inference_id, at, values, scores = orjson.loads(line)
            at = None if at is None else datetime.fromisoformat(at)
            yield file, Record(number, row, event_id, inference_id, at, values, scores)
        self._lines.seek(0, SEEK_END)


class RecordCollector:
    """A collector of the records and rejections of a window or dataset.

    It is a context manager, which deletes its temporary files at the end.

    Attributes:
        events: number of events in the window, or of records in data files, including rejected ones.
        outside: number of events outside the window.
        probes: number of calls that shapwatch made itself.
        names: names of the features in the file, None if the file contains no names.
    """

    def __init__(self, fields: Fields, memory_bytes: int = MEMORY_BYTES) -> None:
        self.events = 0
        self.outside = 0
        self.probes = 0
        self.names: Sequence[str] | None = None
        self._fields = fields
        self._memory_bytes = memory_bytes
        self._counter = SchemaCounter()
        self._in_memory: defaultdict[tuple[int, int], list[pl.DataFrame]] = defaultdict(list)
        self._on_disk: defaultdict[tuple[int, int], list[Path]] = defaultdict(list)
        self._buffer = RecordBuffer()
        self._bytes = 0
        self._folder: Path | None = None
        self._has_events = False
        self._last_rejected: tuple[str, int] | None = None
        self._rejected_lines = 0
        self._rejected: Counter[str] = Counter()
        self._examples: dict[str, Rejection] = {}
        self._rejections: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=REJECTION_BYTES)  # noqa: SIM115  closed in __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rejections.close()
        self._buffer.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, file: str, part: Part) -> None:
        """Add a table of records of one file."""
        self._counter.add(part)
        self._has_events = self._has_events or part.frame["event_id"].null_count() < part.frame.height
        self._store(pl.lit(file, pl.Categorical).alias("file"), part)

    def _store(self, file: pl.Expr | pl.Series, part: Part) -> None:
        frame = part.frame.with_columns(file)
        self._in_memory[part.width, part.scores].append(frame)
        self._bytes += int(frame.estimated_size()) + COLUMN_BYTES * frame.width
        if self._bytes > self._memory_bytes:
            self._move_to_disk()

    def add_records(self, file: str, rows: Iterable[Record]) -> None:
        """Add records of one file."""
        for block in blocks(self._supported(file, rows)):
            for group in by_shape(block):
                if len(group) >= sum(_shape(group[0])):
                    self.add(file, part(group))
                else:
                    self._counter.add_shapes(group)
                    self._has_events = self._has_events or group[0].event_id is not None
                    self._buffer.add(file, group)

    def _supported(self, file: str, rows: Iterable[Record]) -> Iterator[Record]:
        """Yield the rows; reject rows with too many features or scores."""
        for row in rows:
            if problem := shape_problem(row):
                self.reject(record_rejection(file, row, problem))
            else:
                yield row

    def reject(self, rejection: Rejection) -> None:
        """Count and store the rejection of a line or record."""
        self._rejected[rejection.kind] += 1
        self._rejected_lines += (rejection.file, rejection.line) != self._last_rejected
        self._last_rejected = rejection.file, rejection.line
        self._examples.setdefault(rejection.kind, rejection)
        self._rejections.write(rejection_line(rejection))

    def reject_line(self, line: Line, error: RecordError) -> None:
        """Reject a line because of an error."""
        self.reject(Rejection(line.file, line.number, error.kind, str(error), snippet(line.data)))

    def captured(self, files: Sequence[str]) -> Captured:
        """Return the records that fit the usual schema; the others are rejected."""
        schema = self._schema()
        tables = []
        for (width, scores), frame in self._frames():
            for rejection in misfits(frame, width, scores, schema):
                self.reject(rejection)
            if width == len(schema.kinds) and scores in {0, schema.scores}:
                tables.append(fitting(frame, schema))
        table = pl.concat(tables, how="vertical_relaxed") if tables else _empty(schema.names)
        self._rejections.seek(0)
        return Captured(
            files=tuple(files),
            events=self.events,
            outside=self.outside,
            probes=self.probes,
            records=table.select(pl.len()).collect().item(),
            names=self._feature_names(schema),
            table=table,
            rejected=dict(self._rejected.most_common()),
            examples=tuple(self._examples[kind] for kind, _ in self._rejected.most_common()),
            rejections=self._rejections,
            rejected_events=self._rejected_lines if self._has_events else None,
        )

    def _schema(self) -> Schema:
        """Return the usual schema, after adding the buffered ones: as tables if their shape is the schema's.

        The others are rejected.
        """
        width, scores = self._counter.shape(self._fields)
        for _, row in self._buffer:
            if len(row.values) == width:
                self._counter.add_kinds(row)
        for count in {0, scores}:
            found = (pair for pair in self._buffer if _shape(pair[1]) == (width, count))
            while block := list(itertools.islice(found, BLOCK_VALUES // (len(ORIGIN) + width + count))):
                files, rows = zip(*block, strict=True)
                self._store(pl.Series("file", files, dtype=pl.Categorical), part(rows))
        schema = self._counter.schema(self._fields)
        for file, row in self._buffer:
            if _shape(row) not in {(width, 0), (width, scores)}:
                self.reject(record_rejection(file, row, schema.problem(row.values, len(row.scores))))
        return schema

    def _feature_names(self, schema: Schema) -> tuple[str, ...]:
        names = tuple(self.names or ())
        return names if not self._fields.headers and len(names) == len(schema.kinds) else schema.names

    def _frames(self) -> Iterable[tuple[tuple[int, int], pl.LazyFrame]]:
        for key in sorted({*self._in_memory, *self._on_disk}):
            frames = [pl.scan_ipc(path) for path in self._on_disk[key]]
            if self._in_memory[key]:
                frames.append(pl.concat(self._in_memory[key], how="diagonal_relaxed").lazy())
            if frames:
                yield key, pl.concat(frames, how="diagonal_relaxed")

    def _move_to_disk(self) -> None:
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="shapwatch-"))
        for key, frames in self._in_memory.items():
            path = self._folder / f"{key[0]}-{key[1]}-{len(self._on_disk[key])}.arrow"
            pl.concat(frames, how="diagonal_relaxed").write_ipc(path)
            self._on_disk[key].append(path)
        self._in_memory.clear()
        self._bytes = 0


def _shape(row: Record) -> tuple[int, int]:
    return len(row.values), len(row.scores)


def _empty(names: Sequence[str]) -> pl.LazyFrame:
    features = {f"feature{d}": pl.Null() for d in range(len(names))}
    return pl.LazyFrame(schema={"file": pl.String(), **ORIGIN, **features})


class Source(Protocol):
    """A source of records: `endpoint`, `batch_transform`, `file` or `kserve`."""

    def folders(self, window: Window) -> list[str]:
        """Return the folders in which a window's files are expected."""
        ...

    def files(self, window: Window) -> list[File]:
        """Return the files that may contain records of a window, sorted by name."""
        ...

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:
        """Collect the records and rejections of a window from files."""
        ...


@dataclass(frozen=True)
class WindowReader:
    """A reader of the records of a window from a source.

    Attributes:
        source: source of the files.
        data: format of the records, and limits of a window (`max_records`, `max_rejected_share`).
        track: function that shows progress.
    """

    source: Source
    data: Data
    track: Track

    @contextmanager
    def read(self, window: Window) -> Iterator[Captured]:
        """Yield the records and rejections of a window; temporary files are deleted afterwards."""
        files = self.source.files(window)
        with RecordCollector(self.data.fields) as collector:
            self.source.read(self.track(files, "reading captures", len(files)), window, self.data, collector)
            yield sampled(collector.captured([file.name for file in files]), self.data.max_records, window_salt(window))

    def check(self, captured: Captured, window: Window) -> None:
        """Check that a window has valid records, and not too many rejected ones.

        Raises:
            NoData: if no event was captured in the window.
            NoValidRecords: if every record was rejected.
            TooManyRejected: if the share of rejected records exceeds `max_rejected_share`.
        """
        if not captured.events:
            folders = self.source.folders(window)
            raise NoData(window, folders, len(captured.files), captured.outside, captured.probes)
        if not captured.records:
            raise NoValidRecords(window, captured.rejected, str(captured.examples[0]))
        allowed = self.data.max_rejected_share
        if captured.rejected_share > allowed:
            raise TooManyRejected(window, captured.rejected_share, allowed, captured.rejected, captured.examples)
