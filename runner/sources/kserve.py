"""Records of KServe's logger, which logs requests and responses separately."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import Line
from runner.errors import SNIPPET_CHARACTERS, RecordError
from runner.probes import is_probe
from runner.records import capture
from runner.records.capture import Side
from runner.records.fields import Fields
from runner.records.tables import Record, event_records
from runner.sources.data import Data
from runner.sources.source import RecordCollector
from runner.storage import File
from runner.types import Location

REQUEST, RESPONSE = True, False
BOTH_SIDES = 2
_Pair = dict[bool, tuple[Line, Side]]


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
        for pair in _pairs(files, collector):
            line, _ = pair[REQUEST] if REQUEST in pair else pair[RESPONSE]
            collector.add_records(line.file, _rows(pair, window, data.fields, collector))


def _pairs(files: Iterable[File], collector: RecordCollector) -> Iterator[_Pair]:
    """Yield the request and response of each invocation, or only the one that was logged."""
    incomplete: dict[str, _Pair] = {}
    for line, side in _sides(files, collector):
        if side.is_request in incomplete.get(side.id, {}):
            yield incomplete.pop(side.id)
        pair = incomplete.setdefault(side.id, {})
        pair[side.is_request] = (line, side)
        if len(pair) == BOTH_SIDES:
            yield incomplete.pop(side.id)
    yield from incomplete.values()


def _sides(files: Iterable[File], collector: RecordCollector) -> Iterator[tuple[Line, Side]]:
    for file in files:
        with storage.local_copy(file.location, file.size) as path:
            for line in storage.read_lines(path, file.name):
                if not line.data.strip():
                    continue
                try:
                    side = capture.decode_cloudevent(line.data)
                    yield Line(line.file, line.number, line.data[:SNIPPET_CHARACTERS]), side
                except RecordError as error:
                    collector.events += 1
                    collector.reject_line(line, error)


def _rows(pair: _Pair, window: Window, fields: Fields, collector: RecordCollector) -> list[Record]:
    """Return the records of an invocation; none if it is outside the window, a probe, or rejected."""
    line, side = pair[REQUEST] if REQUEST in pair else pair[RESPONSE]
    rows: list[Record] = []
    try:
        event = capture.pair_cloudevents(side, pair[RESPONSE][1] if len(pair) == BOTH_SIDES else None)
        if event.at not in window:
            collector.outside += 1
            return rows
        if is_probe(event.event_id):
            collector.probes += 1
            return rows
        if not side.is_request:
            raise RecordError("no_input", f"the response with id {side.id!r} has no request")
        rows = event_records(line.number, event, fields)
    except RecordError as error:
        collector.reject_line(line, error)
    collector.events += 1
    return rows
