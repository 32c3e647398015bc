"""Records of KServe's logger, which logs requests and responses separately."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from os import SEEK_END
from typing import IO, Literal, Self

import orjson
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import Event, Line
from runner.errors import RecordError
from runner.probes import is_probe
from runner.records import capture
from runner.records.capture import Side
from runner.records.fields import Fields
from runner.records.tables import event_records
from runner.sources.data import Data
from runner.sources.source import RecordCollector
from runner.storage import File
from runner.types import Location

MEMORY_BYTES = 2**24
"""Maximum size in bytes of unpaired lines in memory."""
SETTLED = -1
"""Position of a request that needs no response, because it is outside the window, a probe or invalid."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class KserveSource:
    """Records of KServe's logger in any file below `root`; request and response are separate lines, paired by id.

    Attributes:
        kind: `kserve`.
        root: folder with the files of the logger.
    """

    kind: Literal["kserve"]
    root: Location

    def folders(self, window: Window) -> list[str]:  # noqa: ARG002
        """Return the root folder."""
        return [self.root]

    def files(self, window: Window) -> list[File]:  # noqa: ARG002
        """Return all files; the time of each event decides whether it is in the window."""
        return storage.list_files(self.root, suffixes=(".jsonl", ".json", ".jsonl.gz", ".json.gz"))

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:
        """Collect the invocations whose request is in the window, with their responses if there are any."""
        with Unpaired() as unpaired:
            for line, side in _sides(files, collector):
                position = unpaired.pop(side.id)
                if position == SETTLED and not side.is_request:
                    continue
                if position is not None and position != SETTLED:
                    other = unpaired.read(position)
                    if other[1].is_request is not side.is_request:
                        request, response = (other, (line, side)) if other[1].is_request else ((line, side), other)
                        _collect(*request, response[1], window, data.fields, collector)
                        continue
                    _collect(*other, None, window, data.fields, collector)
                if side.is_request and _event(line, side, None, window, collector) is None:
                    unpaired.settle(side.id)
                else:
                    unpaired.add(line, side.id)
            for line, side in unpaired:
                _collect(line, side, None, window, data.fields, collector)


class Unpaired:
    """Requests and responses whose counterpart has not been read: their lines are in a temporary file if they are many.

    It is a context manager, which deletes the file at the end.
    """

    def __init__(self) -> None:
        self._lines: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  closed in __exit__
        self._positions: dict[bytes, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def pop(self, id_: str) -> int | None:
        """Remove the side with this id, and return its position; None if there is none."""
        return self._positions.pop(_digest(id_), None)

    def settle(self, id_: str) -> None:
        """Note that a request needs no response."""
        self._positions[_digest(id_)] = SETTLED

    def add(self, line: Line, id_: str) -> None:
        """Add the line of a side."""
        if not self._positions:
            self._lines.seek(0)
            self._lines.truncate()
        self._positions[_digest(id_)] = self._lines.seek(0, SEEK_END)
        self._lines.write(b"%b\n%b\n" % (orjson.dumps([line.file, line.number]), line.data.rstrip()))

    def read(self, position: int) -> tuple[Line, Side]:
        """Return the side at a position."""
        self._lines.seek(position)
        file, number = orjson.loads(self._lines.readline())
        data = self._lines.readline()
        return Line(file, number, data), capture.decode_cloudevent(data)

    def __iter__(self) -> Iterator[tuple[Line, Side]]:
        """Yield all sides in the order of their ids' first occurrence, without settled requests."""
        return (self.read(position) for position in self._positions.values() if position != SETTLED)


def _digest(id_: str) -> bytes:
    """Return a short key for an id, which may be long."""
    return blake2b(id_.encode(), digest_size=16).digest()


def _sides(files: Iterable[File], collector: RecordCollector) -> Iterator[tuple[Line, Side]]:
    for file in files:
        with storage.local_copy(file.location, file.size) as path:
            for line in storage.read_lines(path, file.name):
                if not line.data.strip():
                    continue
                try:
                    side = capture.decode_cloudevent(line.data)
                except RecordError as error:
                    collector.events += 1
                    collector.reject_line(line, error)
                else:
                    yield line, side


def _event(line: Line, side: Side, response: Side | None, window: Window, collector: RecordCollector) -> Event | None:
    """Return the event of an invocation; None if it is outside the window, a probe, or rejected."""
    try:
        event = capture.pair_cloudevents(side, response)
    except RecordError as error:
        collector.events += 1
        collector.reject_line(line, error)
        return None
    if event.at not in window:
        collector.outside += 1
        return None
    if is_probe(event.event_id):
        collector.probes += 1
        return None
    return event


def _collect(
    line: Line, side: Side, response: Side | None, window: Window, fields: Fields, collector: RecordCollector
) -> None:
    """Collect the records of an invocation; a response without a request is rejected."""
    event = _event(line, side, response, window, collector)
    if event is None:
        return
    try:
        if not side.is_request:
            raise RecordError("no_input", f"the response with id {side.id!r} has no request")
        collector.add_records(line.file, event_records(line.number, event, fields))
    except RecordError as error:
        collector.reject_line(line, error)
    collector.events += 1
