"""Decoding and encoding of capture lines, and decoding of CloudEvents.

Sources of the formats: the records of SageMaker's data capture, with keys in the published order, and the CloudEvents
of KServe's inference logger.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from runner.domain.executions import utc
from runner.domain.records import Event, Payload
from runner.errors import RecordError, snippet
from runner.records.payloads import check_count, json_problem

CLOUDEVENT_PREFIX = "ce-"
"""Prefix of the names of CloudEvents attributes in HTTP headers."""
CHARACTERS_PER_CALL = 2**20
"""Number of characters that are encoded in one call, which does not release the interpreter lock."""
MAX_ID_CHARACTERS = 1_024
"""Maximum number of characters in an id of an event."""


def decode(line: bytes) -> Event:
    """Return the event of a capture line; a request or response that was not captured is None.

    Raises:
        RecordError: `not_json`, `too_long` or `not_a_capture`, with the invalid value.
    """
    document = parse_json(line)
    capture = member(document, "captureData", dict)
    metadata = member(document, "eventMetadata", dict)
    try:
        at = utc(member(metadata, "inferenceTime", str))
    except ValueError as error:
        raise RecordError("not_a_capture", f"eventMetadata.inferenceTime: {error}") from error
    return Event(
        event_id=_id(metadata, "eventId"),
        inference_id=_id(metadata, "inferenceId") if "inferenceId" in metadata else None,
        at=at,
        input=_decode_side(capture, "endpointInput"),
        output=_decode_side(capture, "endpointOutput"),
        version=member(document, "eventVersion", str) if "eventVersion" in document else "0",
        custom_attributes=_strings(metadata.get("customAttributes")),
        delivered=metadata.get("delivered") is not False,
    )


def encode(event: Event) -> bytes:
    """Return the capture line of an event as compact JSON, with a line end."""
    sides = []
    if event.input is not None:
        sides.append(b'"endpointInput":' + _encode_side(event.input, b"INPUT"))
    if event.output is not None:
        sides.append(b'"endpointOutput":' + _encode_side(event.output, b"OUTPUT"))
    metadata, version = orjson.dumps(_metadata(event)), orjson.dumps(event.version)
    return b'{"captureData":{%b},"eventMetadata":%b,"eventVersion":%b}\n' % (b",".join(sides), metadata, version)


def file_name(at: datetime, id_: str) -> str:
    """Return a capture file's path in the folder of its variant, from the time of its first event and an id.

    >>> file_name(datetime(2023, 1, 19, 5, 31, 46, 585000, tzinfo=UTC), "9ee7")
    '2023/01/19/05/31-46-585-9ee7.jsonl'
    """
    return f"{at:%Y/%m/%d/%H/%M-%S}-{at.microsecond // 1000:03d}-{id_}.jsonl"


def parse_json(line: bytes) -> Any:
    """Return the JSON document in a line.

    Commas at the end of the line are accepted, and also unescaped tabs and carriage returns in strings.

    Raises:
        RecordError: `not_json` or `too_long`.
    """
    check_count(line)
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(line.rstrip(b" \t\r\n,").replace(b"\t", b"\\t").replace(b"\r", b"\\r"))
        raise RecordError("not_json", f"not JSON ({json_problem(error)}): {snippet(line)}") from error


def member(document: Any, key: str, kind: type, reason: str = "not_a_capture") -> Any:
    """Return the string or object in a member of a JSON object.

    Raises:
        RecordError: `reason`, if the member is missing or has another type than `kind`.
    """
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        expected = "a string" if kind is str else "an object"
        raise RecordError(reason, f"{key} should be {expected}, got {snippet(value)}")
    return value


def _id(metadata: dict[str, Any], key: str) -> str:
    id_: str = member(metadata, key, str)
    _check_id(key, id_)
    return id_


def _check_id(key: str, id_: str) -> None:
    """Check the length of an id, which each record of the event repeats."""
    if len(id_) > MAX_ID_CHARACTERS:
        raise RecordError("not_a_capture", f"{key} has more than {MAX_ID_CHARACTERS:,} characters: {snippet(id_)}")


def _decode_side(capture: dict[str, Any], name: str) -> Payload | None:
    if capture.get(name) is None:
        return None
    side = member(capture, name, dict)
    return Payload(
        content_type=side.get("observedContentType") or "",
        data=member(side, "data", str),
        encoding=member(side, "encoding", str),
    )


def _encode_side(side: Payload, mode: bytes) -> bytes:
    content_type, encoding = orjson.dumps(side.content_type), orjson.dumps(side.encoding)
    form = b'{"observedContentType":%b,"mode":"%b","data":%b,"encoding":%b}'
    return form % (content_type, mode, _encode_string(side.data), encoding)


def _encode_string(text: str) -> bytes:
    """Return a string as JSON; each call for a part of it takes at most some milliseconds."""
    if len(text) <= CHARACTERS_PER_CALL:
        return orjson.dumps(text)
    starts = range(0, len(text), CHARACTERS_PER_CALL)
    return b'"%b"' % b"".join([orjson.dumps(text[start : start + CHARACTERS_PER_CALL])[1:-1] for start in starts])


def _metadata(event: Event) -> dict[str, Any]:
    metadata: dict[str, Any] = {"eventId": event.event_id}
    if event.inference_id is not None:
        metadata["inferenceId"] = event.inference_id
    if event.custom_attributes:
        metadata["customAttributes"] = event.custom_attributes
    metadata["inferenceTime"] = event.at.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"
    if not event.delivered:
        metadata["delivered"] = False
    return metadata


def _strings(value: Any) -> tuple[str, ...]:
    """Return the strings in a list, or an empty tuple if the value is not a list."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


class Side(NamedTuple):
    """The request or the response of an invocation."""

    id: str
    is_request: bool
    at: str
    payload: Payload


def decode_cloudevent(line: bytes) -> Side:
    """Return the request or response in a line of the logger.

    The names of attributes are those of a structured event (`id`) or of HTTP headers (`ce-id`).

    Raises:
        RecordError: `not_json`, `too_long` or `not_a_capture`.
    """
    check_count(line)
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordError("not_json", f"not JSON ({json_problem(error)}): {snippet(line)}") from error
    if not isinstance(document, dict):
        raise RecordError("not_a_capture", f"a logger's record should be an object, got {snippet(line)}")
    attributes = {key.lower().removeprefix(CLOUDEVENT_PREFIX): value for key, value in document.items()}
    id_, type_, at = (_string(attributes, key) for key in ("id", "type", "time"))
    if not type_.endswith((".request", ".response")):
        raise RecordError("not_a_capture", f"type should end in .request or .response, got {snippet(type_)}")
    _check_id("id", id_)
    return Side(id_, type_.endswith(".request"), at, _payload(attributes))


def pair_cloudevents(request: Side, response: Side | None) -> Event:
    """Return the event of a request and its response; the event's output is None without a response.

    Raises:
        RecordError: `not_a_capture`, if the request's time is not valid.
    """
    try:
        at = utc(request.at)
    except ValueError as error:
        raise RecordError("not_a_capture", f"time: {error}") from error
    return Event(request.id, at, request.payload, response and response.payload)


def _string(attributes: dict[str, Any], key: str) -> str:
    value = attributes.get(key)
    if not isinstance(value, str) or not value:
        raise RecordError("not_a_capture", f"{key} should be a non-empty string, got {snippet(value) or repr('')}")
    return value


def _payload(attributes: dict[str, Any]) -> Payload:
    content_type = attributes.get("datacontenttype") or attributes.get("content-type") or "application/json"
    if isinstance(encoded := attributes.get("data_base64"), str):
        return Payload(str(content_type), encoded, "BASE64")
    if "data" not in attributes:
        raise RecordError("not_a_capture", "expected data or data_base64, got neither")
    data = attributes["data"]
    is_csv = str(content_type).partition(";")[0].strip() == "text/csv"
    try:
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
    except TypeError as error:
        raise RecordError("not_a_capture", "data is nested too deeply") from error
    return Payload(str(content_type), text, "CSV" if is_csv else "JSON")
