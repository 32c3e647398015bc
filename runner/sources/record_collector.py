"""What a reader takes in: tables of records and rejections, in bounded memory however much there is.

What records must have in common is known only when the last one has been seen, so they wait: in memory first, on disk
once they are many.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Self

import orjson
import polars as pl

from runner.domain.records import Captured, Line, Rejection
from runner.errors import RecordError, snippet
from runner.records.fields import Fields
from runner.records.schema import Schema, Tally
from runner.records.tables import ORIGIN, Part, Row, misfits, parts, usable

HELD_BYTES = 600 * 2**20
"""Records held in memory before they go to disk."""
HELD_REJECTIONS = 2**23
"""Bytes of rejections held in memory before they go to disk."""


class RecordCollector:
    """Collects the records and rejections of a window or dataset; a context manager, whose end removes all files.

    Attributes:
        events: lines (of a dataset: records) that belong to the window; `outside`: those that belong to others;
            `probes`: those of our own calls.
        names: of the features, where the file itself says them and the settings do not.
    """

    def __init__(self, fields: Fields, held_bytes: int = HELD_BYTES) -> None:
        self.events = 0
        self.outside = 0
        self.probes = 0
        self.names: Sequence[str] | None = None
        self._fields = fields
        self._held_bytes = held_bytes
        self._tally = Tally()
        self._held: defaultdict[tuple[int, int], list[pl.DataFrame]] = defaultdict(list)
        self._stored: defaultdict[tuple[int, int], list[Path]] = defaultdict(list)
        self._bytes = 0
        self._folder: Path | None = None
        self._rejected: Counter[str] = Counter()
        self._examples: dict[str, Rejection] = {}
        self._rejections: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=HELD_REJECTIONS)  # noqa: SIM115  closed in __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rejections.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, file: str, part: Part) -> None:
        """Take a table of records of one file."""
        self._tally.add(*part)
        frame = part.frame.with_columns(pl.lit(file, pl.Categorical).alias("file"))
        self._held[part.width, part.scores].append(frame)
        self._bytes += int(frame.estimated_size())
        if self._bytes > self._held_bytes:
            self._store()

    def add_rows(self, file: str, rows: Iterable[Row]) -> None:
        """Take records one by one."""
        for part in parts(rows):
            self.add(file, part)

    def reject(self, rejection: Rejection) -> None:
        """Count a line or record that cannot be used, and keep why."""
        self._rejected[rejection.kind] += 1
        self._examples.setdefault(rejection.kind, rejection)
        document = {"file": rejection.file, "line": rejection.line, "kind": rejection.kind}
        document |= {"problem": rejection.problem, "text": rejection.text}
        self._rejections.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))

    def reject_line(self, line: Line, error: RecordError) -> None:
        """Reject a line because of an error."""
        self.reject(Rejection(line.file, line.number, error.kind, str(error), snippet(line.data)))

    def captured(self, files: Sequence[str]) -> Captured:
        """Return what came in, judged by what most of it has in common."""
        schema = self._tally.agreed(self._fields)
        tables = []
        for (width, scores), frame in self._frames():
            for rejection in misfits(frame, width, scores, schema):
                self.reject(rejection)
            if width == len(schema.kinds) and scores in {0, schema.scores}:
                tables.append(usable(frame, schema))
        table = pl.concat(tables, how="vertical_relaxed") if tables else _empty(schema.names)
        self._rejections.seek(0)
        return Captured(
            files=tuple(files),
            events=self.events,
            outside=self.outside,
            probes=self.probes,
            records=table.select(pl.len()).collect().item(),
            names=self._names(schema),
            table=table,
            rejected=dict(self._rejected.most_common()),
            examples=tuple(self._examples[kind] for kind, _ in self._rejected.most_common()),
            rejections=self._rejections,
        )

    def _names(self, schema: Schema) -> tuple[str, ...]:
        told = tuple(self.names or ())
        return told if not self._fields.headers and len(told) == len(schema.kinds) else schema.names

    def _frames(self) -> Iterable[tuple[tuple[int, int], pl.LazyFrame]]:
        for key in sorted({*self._held, *self._stored}):
            frames = [pl.scan_ipc(path) for path in self._stored[key]]
            if self._held[key]:
                frames.append(pl.concat(self._held[key], how="diagonal_relaxed").lazy())
            if frames:
                yield key, pl.concat(frames, how="diagonal_relaxed")

    def _store(self) -> None:
        """Move everything held to disk."""
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="shapwatch-"))
        for key, frames in self._held.items():
            path = self._folder / f"{key[0]}-{key[1]}-{len(self._stored[key])}.arrow"
            pl.concat(frames, how="diagonal_relaxed").write_ipc(path)
            self._stored[key].append(path)
        self._held.clear()
        self._bytes = 0


def _empty(names: Sequence[str]) -> pl.LazyFrame:
    features = {f"feature{d}": pl.Null() for d in range(len(names))}
    return pl.LazyFrame(schema={"file": pl.String(), **ORIGIN, **features})
