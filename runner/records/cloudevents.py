"""Records of KServe's logger, and of others that write CloudEvents: request and response apart, paired by their id.

Source: KServe's inference logger sends a CloudEvent for each side, `org.kubeflow.serving.inference.request` and
`….response`, with the same id; CloudEvents 1.0 (JSON format) says how one is written as a document.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from runner.domain.executions import utc
from runner.domain.records import Event, Payload
from runner.errors import RecordError, snippet

PREFIX = "ce-"


class Side(NamedTuple):
    """One side of an invocation."""

    id: str
    is_request: bool
    at: str
    payload: Payload


def decode(line: bytes) -> Side:
    """Return the side of an invocation that a logger's line holds.

    Attributes may be spelled as in a structured event (`id`) or as in an event's headers (`ce-id`).

    Raises:
        RecordError: `not_json` or `not_a_capture`.
    """
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordError("not_json", f"not JSON ({error}): {snippet(line)}") from error
    if not isinstance(document, dict):
        raise RecordError("not_a_capture", f"a logger's record should be an object, got {snippet(line)}")
    attributes = {key.lower().removeprefix(PREFIX): value for key, value in document.items()}
    id_, kind, at = (_text(attributes, key) for key in ("id", "type", "time"))
    if not kind.endswith((".request", ".response")):
        raise RecordError("not_a_capture", f"type should end in .request or .response, got {snippet(kind)}")
    return Side(id_, kind.endswith(".request"), at, _payload(attributes))


def pair(request: Side, response: Side | None) -> Event:
    """Return the invocation of a request and its response, None where it was never answered.

    Raises:
        RecordError: `not_a_capture`, when the request's time is none.
    """
    try:
        at = utc(request.at)
    except ValueError as error:
        raise RecordError("not_a_capture", f"time: {error}") from error
    return Event(request.id, at, request.payload, response and response.payload)


def _text(attributes: dict[str, Any], key: str) -> str:
    value = attributes.get(key)
    if not isinstance(value, str) or not value:
        raise RecordError("not_a_capture", f"{key} should be a text, got {snippet(value)}")
    return value


def _payload(attributes: dict[str, Any]) -> Payload:
    content_type = attributes.get("datacontenttype") or attributes.get("content-type") or "application/json"
    if isinstance(encoded := attributes.get("data_base64"), str):
        return Payload(str(content_type), encoded, "BASE64")
    if "data" not in attributes:
        raise RecordError("not_a_capture", "neither data nor data_base64")
    data = attributes["data"]
    csv = str(content_type).partition(";")[0].strip() == "text/csv"
    try:
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
    except TypeError as error:
        raise RecordError("not_a_capture", "data is nested too deeply") from error
    return Payload(str(content_type), text, "CSV" if csv else "JSON")
