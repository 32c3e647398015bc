"""Ground truth: decoding and encoding of its records, and their join with captured events.

Source of the format: the input and output of SageMaker's merge job, with keys in the published order.
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
from runner.records import capture
from runner.records.fields import compiled
from runner.records.payloads import Scalar, body_text, parse_body

MAX_EXAMPLES = 5
"""Maximum number of unmatched ids in a summary."""


@dataclass(frozen=True)
class GroundTruth:
    """A ground-truth record: labels of all records in a payload; `id` is the inference id or event id of its events."""

    id: str
    data: str
    encoding: str
    version: str = "0"


def decode(line: bytes) -> list[GroundTruth]:
    """Return the records of a line, which contains one record or a JSON array of records.

    Raises:
        RecordError: `not_json` or `not_ground_truth`, with the invalid value.
    """
    results = list(_decode_records(line))
    for result in results:
        if isinstance(result, RecordError):
            raise result
    return [result for result in results if isinstance(result, GroundTruth)]


def decode_files(lines: Iterable[Line]) -> Iterator[GroundTruth | Rejection]:
    """Yield the records and rejections of files.

    If the first line of a file opens an array but does not close it, the whole file is one array.
    """
    for _, file in groupby(lines, lambda line: line.file):
        for line in _documents(file):
            for result in _decode_records(line.data):
                if isinstance(result, GroundTruth):
                    yield result
                else:
                    yield Rejection(file=line.file, line=line.number, kind=result.kind, problem=str(result))


def encode(truth: GroundTruth) -> bytes:
    """Return the ground-truth line of a record as compact JSON, with a line end."""
    document = {
        "groundTruthData": {"data": truth.data, "encoding": truth.encoding},
        "eventMetadata": {"eventId": truth.id},
        "eventVersion": truth.version,
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def label_values(truth: GroundTruth, label: str | None) -> list[Scalar]:
    """Return the labels of a payload in order, None for an unknown label.

    Args:
        truth: labels as CSV (separated by line ends or commas), JSON or JSON Lines, possibly encoded as BASE64.
        label: JMESPath to a label or a list of labels, or a column number of a CSV. None selects the member `label`,
            the labels of a list or of the member `instances`, or else the document itself. A projection such as
            `instances[*].label` drops nulls, which shifts the later labels; `map(&label, instances)` does not.

    Raises:
        RecordError: `ground_truth`, if the payload cannot be parsed or contains no label.
    """
    column = int(label) if label is not None and label.isascii() and label.isdecimal() else None
    try:
        body = body_text(Payload("", truth.data, truth.encoding))
        if truth.encoding == "CSV" or (truth.encoding == "BASE64" and (column is not None or not _is_json(body))):
            values = _csv_labels(body, column)
        elif truth.encoding in {"JSON", "BASE64"}:
            values = list(chain.from_iterable(_json_labels(document, label) for document in _json_documents(body)))
        else:
            raise RecordError("ground_truth", f"encoding is {snippet(truth.encoding)}, expected CSV, JSON or BASE64")
    except RecordError as error:
        raise RecordError("ground_truth", str(error)) from error
    if all(value is None for value in values):
        raise RecordError("ground_truth", f"{_search_name(label)} returns nothing in {snippet(body) or repr('')}")
    return values


def event_key(event: Event) -> str:
    """Return the id of an event's ground truth: its inference id, or else its event id."""
    return event.event_id if event.inference_id is None else event.inference_id


def encode_merged(line: bytes, truth: GroundTruth) -> bytes:
    """Return the merged record of a capture line and its ground truth, with a line end.

    Raises:
        RecordError: as `capture.decode`, or `not_ground_truth` if the line is nested too deeply.
    """
    event = capture.decode(line)
    captured = capture.parse_json(line)
    metadata = captured["eventMetadata"]
    document = {
        "eventVersion": event.version,
        "groundTruthData": {"data": truth.data, "encoding": truth.encoding},
        "captureData": captured["captureData"],
        "eventMetadata": {k: metadata[k] for k in ("eventId", "inferenceId", "inferenceTime") if k in metadata},
    }
    return _dumps(document, "captureData") + b"\n"


def decode_merged(line: bytes) -> tuple[Event, GroundTruth]:
    """Return the event and the ground truth of a merged record.

    Raises:
        RecordError: as `capture.decode`, or `not_ground_truth`.
    """
    event = capture.decode(line)
    data, encoding = _label_data(capture.parse_json(line))
    return event, GroundTruth(event_key(event), data, encoding, event.version)


@dataclass(frozen=True)
class Join:
    """A summary of the join of a window's events with ground truth.

    Attributes:
        events: number of events.
        joined: number of events with labels.
        unmatched_events: keys of the first events without labels.
        truths: number of ground-truth records.
        unmatched_truths: first ids without an event.
        unused: number of ids without an event.
        superseded: number of records that a later record with the same id replaces.
        rejections: ground-truth lines that could not be decoded.
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
        """The share of events with labels, 0 without events."""
        return self.joined / self.events if self.events else 0.0


@dataclass(frozen=True)
class GroundTruthIndex:
    """The ground truth of a window by id; the last record with an id applies to all events with this id."""

    by_id: Mapping[str, GroundTruth]
    superseded: int = 0
    rejections: tuple[Rejection, ...] = ()

    @classmethod
    def build(cls, results: Iterable[GroundTruth | Rejection]) -> GroundTruthIndex:
        """Return the index of the records and rejections of `decode_files`."""
        by_id: dict[str, GroundTruth] = {}
        rejections = []
        count = 0
        for result in results:
            if isinstance(result, Rejection):
                rejections.append(result)
            else:
                by_id[result.id] = result
                count += 1
        return cls(by_id, count - len(by_id), tuple(rejections))

    def find(self, event: Event) -> GroundTruth | None:
        """Return the ground truth of an event, None if there is none."""
        return self.by_id.get(event_key(event))

    def join(self, keys: Sequence[str]) -> Join:
        """Return the summary of a join with events; `keys` contains one key per event."""
        unique_keys = dict.fromkeys(keys)
        unused = [id_ for id_ in self.by_id if id_ not in unique_keys]
        return Join(
            events=len(keys),
            joined=sum(key in self.by_id for key in keys),
            unmatched_events=tuple(key for key in unique_keys if key not in self.by_id)[:MAX_EXAMPLES],
            truths=len(self.by_id) + self.superseded,
            unmatched_truths=tuple(unused[:MAX_EXAMPLES]),
            unused=len(unused),
            superseded=self.superseded,
            rejections=self.rejections,
        )


def _documents(file: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines of a file that are not blank; the lines of a pretty-printed array are joined into one."""
    lines = dropwhile(lambda line: not line.data.strip(), file)
    opening = next(lines, None)
    if opening is None:
        return
    if opening.data.lstrip()[:1] == b"[" and not _is_json(opening.data.decode("utf-8", "replace")):
        padding = b"\n" * (opening.number - 1)  # the parser then reports line numbers of the file
        yield replace(opening, data=padding + b"\n".join(line.data.rstrip(b"\r\n") for line in (opening, *lines)))
    else:
        yield from (line for line in chain([opening], lines) if line.data.strip())


def _decode_records(line: bytes) -> Iterator[GroundTruth | RecordError]:
    """Yield the records of a line, and an error per invalid record."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        yield RecordError("not_json", f"not JSON ({error}): {snippet(line.strip())}")
        return
    if isinstance(document, list):
        yield from (_decode_record(each, f"record {i} of the array: ") for i, each in enumerate(document, 1))
    else:
        yield _decode_record(document, "")


def _decode_record(document: Any, position: str) -> GroundTruth | RecordError:
    try:
        data, encoding = _label_data(document)
        metadata = _member(document, "eventMetadata", dict)
        version = _member(document, "eventVersion", str) if "eventVersion" in document else "0"
        return GroundTruth(_id(metadata), data, encoding, version)
    except RecordError as error:
        return RecordError(error.kind, f"{position}{error}")


def _label_data(document: Any) -> tuple[str, str]:
    """Return `data` and `encoding`; data that is not a string is encoded as JSON."""
    labels = _member(document, "groundTruthData", dict)
    if "data" in labels and not isinstance(labels["data"], str):
        return _dumps(labels["data"], "data").decode(), "JSON"
    return _member(labels, "data", str), _member(labels, "encoding", str)


def _id(metadata: dict[str, Any]) -> str:
    """Return the id as a string; a dict that was converted to a string is rejected, because it matches no event."""
    value = metadata.get("eventId")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError("not_ground_truth", f"eventId should be a string or a number, got {snippet(value)}")
    text = str(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value)
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}") and ":" in bare:
        problem = f"eventId is a Python dict or JSON object as a string, expected the id only: {snippet(text)}"
        raise RecordError("not_ground_truth", problem)
    return text


def _member(document: Any, name: str, kind: type) -> Any:
    return capture.member(document, name, kind, "not_ground_truth")


def _dumps(value: Any, name: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise RecordError("not_ground_truth", f"{name} is nested too deeply") from error


def _csv_labels(body: str, column: int | None) -> list[Scalar]:
    rows: list[list[Scalar]] = parse_body(body, "text/csv").documents
    if column is not None:
        if short := [row for row in rows if len(row) <= column]:
            raise RecordError("ground_truth", f"there is no column {column} in {snippet(orjson.dumps(short[0]))}")
        return [row[column] for row in rows]
    if len(rows) > 1 and any(len(row) > 1 for row in rows):
        problem = f"several columns in {snippet(body)}; set data.ground_truth to the number of the label column"
        raise RecordError("ground_truth", problem)
    return list(chain.from_iterable(rows))


def _is_json(body: str) -> bool:
    try:
        return bool(_json_documents(body))
    except RecordError:
        return False


def _json_documents(body: str) -> list[Any]:
    """Return the single document of a body, or the documents of its lines."""
    try:
        return [orjson.loads(body)]
    except orjson.JSONDecodeError:
        return parse_body(body, "application/jsonlines").documents


def _json_labels(document: Any, label: str | None) -> list[Scalar]:
    """Return the labels of a JSON document."""
    found = _conventional(document) if label is None else _search(document, label)
    values = found if isinstance(found, list) else [found]
    if any(isinstance(value, list | dict) for value in values):
        result = f"{snippet(_dumps(found, 'data'))}, which is neither a label nor a list of labels"
        raise RecordError("ground_truth", f"{_search_name(label)} returns {result}")
    return values


def _conventional(document: Any) -> Any:
    match document:
        case {"label": found}:
            return found
        case {"instances": [*rows]} | [*rows]:
            return [row.get("label", row) if isinstance(row, dict) else row for row in rows]
        case _:
            return document


def _search(document: Any, label: str) -> Any:
    try:
        expression = compiled(label)
    except ValueError as error:
        raise RecordError("ground_truth", str(error)) from error
    try:
        return expression.search(document)
    except (jmespath.exceptions.JMESPathError, ValueError, RecursionError):
        return None


def _search_name(label: str | None) -> str:
    return "the search for labels" if label is None else f"data.ground_truth={label!r}"
