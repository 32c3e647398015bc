"""A line of a capture file ⇄ an event.

Source: the record layout that SageMaker endpoints write with data capture on; keys in the published order.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

from runner.domain.executions import utc
from runner.domain.records import Event, Payload
from runner.errors import RecordError, snippet


def decode(line: bytes) -> Event:
    """Return the event that a capture line holds; a side that was not captured is None.

    Raises:
        RecordError: `not_json` or `not_a_capture`, with the offending text.
    """
    document = parsed(line)
    capture = _own(document, "captureData", dict)
    metadata = _own(document, "eventMetadata", dict)
    try:
        at = utc(_own(metadata, "inferenceTime", str))
    except ValueError as error:
        raise RecordError("not_a_capture", f"eventMetadata.inferenceTime: {error}") from error
    return Event(
        event_id=_own(metadata, "eventId", str),
        inference_id=_own(metadata, "inferenceId", str) if "inferenceId" in metadata else None,
        at=at,
        input=_side(capture, "endpointInput"),
        output=_side(capture, "endpointOutput"),
        version=_own(document, "eventVersion", str) if "eventVersion" in document else "0",
        custom_attributes=_texts(metadata.get("customAttributes")),
    )


def encode(event: Event) -> bytes:
    """Return the capture line of an event, compact and with its line end."""
    capture = {}
    if event.input is not None:
        capture["endpointInput"] = _written(event.input, "INPUT")
    if event.output is not None:
        capture["endpointOutput"] = _written(event.output, "OUTPUT")
    document = {"captureData": capture, "eventMetadata": _metadata(event), "eventVersion": event.version}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _written(side: Payload, mode: str) -> dict[str, str]:
    return {"observedContentType": side.content_type, "mode": mode, "data": side.data, "encoding": side.encoding}


def _metadata(event: Event) -> dict[str, Any]:
    metadata: dict[str, Any] = {"eventId": event.event_id}
    if event.inference_id is not None:
        metadata["inferenceId"] = event.inference_id
    if event.custom_attributes:
        metadata["customAttributes"] = event.custom_attributes
    metadata["inferenceTime"] = event.at.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"
    return metadata


def file_name(at: datetime, id_: str) -> str:
    """Return where a file of captures is kept, below the variant's folder: by its first event's hour, time and an id.

    >>> file_name(datetime(2023, 1, 19, 5, 31, 46, 585000, tzinfo=UTC), "9ee7")
    '2023/01/19/05/31-46-585-9ee7.jsonl'
    """
    return f"{at:%Y/%m/%d/%H/%M-%S}-{at.microsecond // 1000:03d}-{id_}.jsonl"


def parsed(line: bytes) -> Any:
    """Return the document of a line; commas at its end, and a bare tab or carriage return in a text, are forgiven.

    Raises:
        RecordError: `not_json`.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(line.rstrip(b" \t\r\n,").replace(b"\t", b"\\t").replace(b"\r", b"\\r"))
        raise RecordError("not_json", f"not JSON ({error}): {snippet(line)}") from error


def _side(capture: dict[str, Any], name: str) -> Payload | None:
    if capture.get(name) is None:
        return None
    side = _own(capture, name, dict)
    return Payload(
        content_type=side.get("observedContentType") or "",
        data=_own(side, "data", str),
        encoding=_own(side, "encoding", str),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Return the texts of a list; whatever is neither a list nor a text in it counts for nothing."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _own(document: Any, key: str, kind: type) -> Any:
    return member(document, key, kind, "not_a_capture")


def member(document: Any, key: str, kind: type, reason: str) -> Any:
    """Return a member of an object, a string or an object itself.

    Raises:
        RecordError: under `reason`, when it is not there or of another kind.
    """
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        expected = "a string" if kind is str else "an object"
        raise RecordError(reason, f"{key} should be {expected}, got {snippet(value)}")
    return value
