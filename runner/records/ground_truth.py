"""A line of a ground-truth file ⇄ the labels of an invocation, and how they find the event they belong to.

Source: the records that SageMaker's merge job reads and writes; keys in the published order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, dropwhile, groupby
from typing import Any

import jmespath
import orjson

from runner.domain.records import Event, Line, Payload, Rejection
from runner.errors import RecordError, snippet
from runner.records import capture, payloads
from runner.records.expressions import compiled
from runner.records.payloads import Scalar

SHOWN = 5
"""How many ids without a partner are named."""


@dataclass(frozen=True)
class GroundTruth:
    """One ground-truth record: the labels of all records in one payload; `id` is the key of its events."""

    id: str
    data: str
    encoding: str
    version: str = "0"


def decode(line: bytes) -> list[GroundTruth]:
    """Return the records that a line holds: one, or those of a JSON array.

    Raises:
        RecordError: `not_json` or `not_ground_truth`, with the offending text.
    """
    found = list(_decoded(line))
    for error in found:
        if isinstance(error, RecordError):
            raise error
    return [truth for truth in found if isinstance(truth, GroundTruth)]


def records(lines: Iterable[Line]) -> Iterator[GroundTruth | Rejection]:
    """Yield the records that files hold, and why a line, or one record of an array, was not used.

    A file whose first line opens an array that it does not close is read as one array over many lines.
    """
    for _, file in groupby(lines, lambda line: line.file):
        for line in _documents(file):
            for found in _decoded(line.data):
                if isinstance(found, GroundTruth):
                    yield found
                else:
                    yield Rejection(file=line.file, line=line.number, kind=found.kind, problem=str(found))


def encode(truth: GroundTruth) -> bytes:
    """Return the ground-truth line of a record, compact and with its line end."""
    document = {
        "groundTruthData": {"data": truth.data, "encoding": truth.encoding},
        "eventMetadata": {"eventId": truth.id},
        "eventVersion": truth.version,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def label_values(truth: GroundTruth, label: str | None) -> list[Scalar]:
    """Return the labels of a payload in order, None where one is not known.

    Args:
        truth: CSV holds them by line or by comma, JSON and JSON Lines where `label` says; BASE64 is either.
        label: JMESPath to a label or a list of them, or the index of a CSV column. None takes the document itself,
            its member `label`, or those of its `instances`. A projection such as `instances[*].label` leaves nulls
            out and so moves the labels behind them; `map(&label, instances)` does not.

    Raises:
        RecordError: `ground_truth`, when there is no label.
    """
    column = int(label) if label is not None and label.isascii() and label.isdecimal() else None
    try:
        body = payloads.text(Payload("", truth.data, truth.encoding))
        if truth.encoding == "CSV" or (truth.encoding == "BASE64" and (column is not None or not _is_json(body))):
            values = _cells(body, column)
        elif truth.encoding in {"JSON", "BASE64"}:
            values = list(chain.from_iterable(_located(document, label) for document in _json_documents(body)))
        else:
            raise RecordError("ground_truth", f"encoding is {snippet(truth.encoding)}, expected CSV, JSON or BASE64")
    except RecordError as error:
        raise RecordError("ground_truth", str(error)) from error
    if all(value is None for value in values):
        raise RecordError("ground_truth", f"{_sought(label)} finds nothing in {snippet(body)}")
    return values


def key(event: Event) -> str:
    """Return the id under which an event's ground truth is filed: the caller's, or else the endpoint's."""
    return event.event_id if event.inference_id is None else event.inference_id


def merged(line: bytes, truth: GroundTruth) -> bytes:
    """Return the record of a merged file, with its line end: a capture line and its ground truth.

    Raises:
        RecordError: as `capture.decode` does, or `not_ground_truth` when it is nested too deeply to be written.
    """
    event = capture.decode(line)
    captured = capture.parsed(line)
    metadata = captured["eventMetadata"]
    document = {
        "eventVersion": event.version,
        "groundTruthData": {"data": truth.data, "encoding": truth.encoding},
        "captureData": captured["captureData"],
        "eventMetadata": {k: metadata[k] for k in ("eventId", "inferenceId", "inferenceTime") if k in metadata},
    }
    return _dumps(document, "captureData") + b"\n"


def read_merged(line: bytes) -> tuple[Event, GroundTruth]:
    """Return the event and the ground truth of a merged record.

    Raises:
        RecordError: as `capture.decode` does, or `not_ground_truth`.
    """
    event = capture.decode(line)
    data, encoding = _labels(capture.parsed(line))
    return event, GroundTruth(key(event), data, encoding, event.version)


@dataclass(frozen=True)
class Join:
    """How the events of a window and the ground truth for them found each other.

    Attributes:
        events: how many there are; `joined` of them found their labels.
        unmatched_events: the first keys without ground truth.
        truths: ground-truth records read: those used, those `unused` and those `superseded`.
        unmatched_truths: the first ids that no event has.
        rejections: ground-truth lines that were not read.
    """

    events: int
    joined: int
    unmatched_events: tuple[str, ...]
    truths: int
    unmatched_truths: tuple[str, ...]
    unused: int
    superseded: int
    rejections: tuple[Rejection, ...] = ()

    @property
    def rate(self) -> float:
        """The share of events that found their labels, 0 where there is no event."""
        return self.joined / self.events if self.events else 0.0


@dataclass(frozen=True)
class Truths:
    """The ground truth of a window by id; of several records with one id the last holds, for every event with it."""

    by_id: Mapping[str, GroundTruth]
    superseded: int = 0
    rejections: tuple[Rejection, ...] = ()

    @classmethod
    def gather(cls, found: Iterable[GroundTruth | Rejection]) -> Truths:
        """Return what `records` yields, ready to be asked."""
        by_id: dict[str, GroundTruth] = {}
        rejections = []
        count = 0
        for record in found:
            if isinstance(record, Rejection):
                rejections.append(record)
            else:
                by_id[record.id] = record
                count += 1
        return cls(by_id, count - len(by_id), tuple(rejections))

    def of(self, event: Event) -> GroundTruth | None:
        """Return the ground truth of an event."""
        return self.by_id.get(key(event))

    def join(self, keys: Sequence[str]) -> Join:
        """Return how well the events with these keys, one each, are covered."""
        asked = dict.fromkeys(keys)
        unused = [found for found in self.by_id if found not in asked]
        return Join(
            events=len(keys),
            joined=sum(k in self.by_id for k in keys),
            unmatched_events=tuple(k for k in asked if k not in self.by_id)[:SHOWN],
            truths=len(self.by_id) + self.superseded,
            unmatched_truths=tuple(unused[:SHOWN]),
            unused=len(unused),
            superseded=self.superseded,
            rejections=self.rejections,
        )


def _documents(file: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines of a file that hold something; those of a pretty-printed array become one."""
    lines = dropwhile(lambda line: not line.data.strip(), file)
    first = next(lines, None)
    if first is None:
        return
    if first.data.lstrip()[:1] == b"[" and not _is_json(first.data.decode("utf-8", "replace")):
        above = b"\n" * (first.number - 1)  # so that the parser names the file's own lines
        yield replace(first, data=above + b"\n".join(line.data.rstrip(b"\r\n") for line in (first, *lines)))
    else:
        yield from (line for line in chain([first], lines) if line.data.strip())


def _decoded(line: bytes) -> Iterator[GroundTruth | RecordError]:
    """Yield the records of a line, or what is wrong with each."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        yield RecordError("not_json", f"not JSON ({error}): {snippet(line.strip())}")
        return
    if isinstance(document, list):
        yield from (_record(each, f"record {i} of the array: ") for i, each in enumerate(document, 1))
    else:
        yield _record(document, "")


def _record(document: Any, place: str) -> GroundTruth | RecordError:
    try:
        data, encoding = _labels(document)
        metadata = _member(document, "eventMetadata", dict)
        version = _member(document, "eventVersion", str) if "eventVersion" in document else "0"
        return GroundTruth(_id(metadata), data, encoding, version)
    except RecordError as error:
        return RecordError(error.kind, f"{place}{error}")


def _labels(document: Any) -> tuple[str, str]:
    """Return `data` and `encoding`; data that is a JSON value instead of its text is written as text."""
    labels = _member(document, "groundTruthData", dict)
    if "data" in labels and not isinstance(labels["data"], str):
        return _dumps(labels["data"], "data").decode(), "JSON"
    return _member(labels, "data", str), _member(labels, "encoding", str)


def _id(metadata: dict[str, Any]) -> str:
    """Return the id, a number as the text it would have had; one that was written by `str(a_dict)` fits no event."""
    found = metadata.get("eventId")
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise RecordError("not_ground_truth", f"eventId should be a string or a number, got {snippet(found)}")
    text = str(int(found) if isinstance(found, float) and found.is_integer() and abs(found) < 2**53 else found)
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}") and ":" in bare:
        problem = f"eventId is the text of a Python dict or JSON object, expected the id alone: {snippet(text)}"
        raise RecordError("not_ground_truth", problem)
    return text


def _member(document: Any, name: str, kind: type) -> Any:
    return capture.member(document, name, kind, "not_ground_truth")


def _dumps(value: Any, name: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise RecordError("not_ground_truth", f"{name} is nested too deeply") from error


def _cells(body: str, column: int | None) -> list[Scalar]:
    rows = payloads.documents(body, "text/csv")
    if column is not None:
        if short := [row for row in rows if len(row) <= column]:
            raise RecordError("ground_truth", f"there is no column {column} in {snippet(orjson.dumps(short[0]))}")
        return [row[column] for row in rows]
    if len(rows) > 1 and any(len(row) > 1 for row in rows):
        problem = f"several columns, of which label should name one by its index: {snippet(body)}"
        raise RecordError("ground_truth", problem)
    return list(chain.from_iterable(rows))


def _is_json(body: str) -> bool:
    try:
        return bool(_json_documents(body))
    except RecordError:
        return False


def _json_documents(body: str) -> list[Any]:
    """Return the one document of a body, or those of its lines."""
    try:
        return [orjson.loads(body)]
    except orjson.JSONDecodeError:
        return payloads.documents(body, "application/jsonlines")


def _located(document: Any, label: str | None) -> list[Scalar]:
    """Return the labels of a JSON document."""
    found = _conventional(document) if label is None else _searched(document, label)
    values = found if isinstance(found, list) else [found]
    if any(isinstance(value, list | dict) for value in values):
        what = "an object or a list of lists or objects, expected a label or a list of labels"
        raise RecordError("ground_truth", f"{_sought(label)} finds {what}: {snippet(_dumps(found, 'data'))}")
    return values


def _conventional(document: Any) -> Any:
    match document:
        case {"label": found}:
            return found
        case {"instances": [*rows]} | [*rows]:
            return [row.get("label", row) if isinstance(row, dict) else row for row in rows]
        case _:
            return document


def _searched(document: Any, label: str) -> Any:
    try:
        expression = compiled(label)
    except ValueError as error:
        raise RecordError("ground_truth", str(error)) from error
    try:
        return expression.search(document)
    except (jmespath.exceptions.JMESPathError, ValueError, RecursionError):
        return None


def _sought(label: str | None) -> str:
    return "the search for labels" if label is None else f"label={label!r}"
