"""The body of an invocation → its documents, one a record."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from runner.domain import Payload
from runner.errors import RecordError, snippet

BLANK = " \t\r\n"
"""What JSON takes for white space."""


def text(payload: Payload) -> str:
    """Return the body as it travelled; the `encoding` field decides how to read it, never the content type.

    Raises:
        RecordError: `encoding`, when the body is not what its encoding says.

    >>> text(Payload("application/jsonlines", "eyJhIjoxfQ==", "BASE64"))
    '{"a":1}'
    """
    if payload.encoding != "BASE64":
        return payload.data
    try:
        return base64.b64decode(payload.data, validate=True).decode("utf-8")
    except ValueError as error:
        raise RecordError("encoding", f"BASE64 that holds no UTF-8 text ({error}): {snippet(payload.data)}") from error


def documents(body: str) -> list[Any]:
    r"""Return the JSON documents of a JSON Lines body: a mini-batch has several; blank lines count for nothing.

    Raises:
        RecordError: `payload`, naming the line of the body.

    >>> documents('{"features":[1,2]}\n{"features":[3,4]}\n')
    [{'features': [1, 2]}, {'features': [3, 4]}]
    """
    found = []
    for number, line in enumerate(body.split("\n"), 1):
        if not line.strip(BLANK):
            continue
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise RecordError("payload", f"line {number} of the body is not JSON ({error}): {snippet(line)}") from error
    return found
