"""Decoding of CloudEvents, in which request and response are separate lines with one id.

Source of the format: KServe's inference logger sends a CloudEvent per side, `org.kubeflow.serving.inference.request`
and `….response`, with the same id; CloudEvents 1.0 (JSON format) defines the document.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from runner.domain.executions import utc
from runner.domain.records import Event, Payload
from runner.errors import RecordError, snippet

PREFIX = "ce-"
"""Prefix of attributes that are spelled as headers."""


class Side(NamedTuple):
    """The request or the response of an invocation."""

    id: str
    is_request: bool
    at: str
    payload: Payload


def decode(line: bytes) -> Side:
    """Return the side of an invocation in a logger's line.

    Attributes may be spelled as in a structured event (`id`) or as in its headers (`ce-id`).

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
    id_, type_, at = (_string(attributes, key) for key in ("id", "type", "time"))
    if not type_.endswith((".request", ".response")):
        raise RecordError("not_a_capture", f"type should end in .request or .response, got {snippet(type_)}")
    return Side(id_, type_.endswith(".request"), at, _payload(attributes))


def pair(request: Side, response: Side | None) -> Event:
    """Return the invocation of a request and its response, None without a response.

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
        raise RecordError("not_a_capture", f"{key} should be a non-empty string, got {snippet(value)}")
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
