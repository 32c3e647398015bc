"""Responses of endpoints: bodies of limited size, content codings, charsets, and the header Retry-After."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from runner.errors import EndpointError, ModelAnswerError, snippet

MAX_BODY_BYTES = 2**24
"""Maximum size in bytes of the body of a successful response, without its content coding."""
MAX_ERROR_BYTES = 2**16
"""Maximum number of bytes that are read of the body of an error response."""
CHUNK_BYTES = 2**16
"""Maximum number of bytes that are read or decompressed at a time."""

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes of errors that a retry may resolve."""

CHARSETS = {"utf-8", "utf-8-sig", "ascii", "iso8859-1", "iso8859-15", "cp1252", "utf-16", "utf-16-le", "utf-16-be"}
"""Supported charsets of responses, by their names in Python."""


class Response(NamedTuple):
    """The outcome of one attempt.

    Attributes:
        status: HTTP status code, None if there was no complete response.
        text: the response body, or the error.
        retryable: whether a retry may succeed.
        retry_after: seconds to wait, as requested by the endpoint.
    """

    status: int | None
    text: str
    retryable: bool
    retry_after: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the status code is 200 to 299."""
        return self.status is not None and 200 <= self.status < 300


class IncompleteBody(Exception):
    """The compressed data of a response is truncated or corrupt."""


def body_text(where: str, chunks: Iterable[bytes], coding: str, content_type: str) -> str:
    """Return the body of a successful response as a string.

    Args:
        where: the endpoint, for messages.
        chunks: parts of the body.
        coding: value of the header `Content-Encoding`.
        content_type: value of the header `Content-Type`.

    Raises:
        EndpointError: if the body is larger than `MAX_BODY_BYTES`.
        ModelAnswerError: if its content coding or charset is not supported.
        IncompleteBody: if compressed data is truncated or corrupt.
    """
    charset = _charset(where, content_type)
    body = bytearray()
    for chunk in _decoded(where, chunks, coding):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            remedy = "check the address, or reduce model.max_request_rows"
            raise EndpointError(where, None, f"a response exceeds {MAX_BODY_BYTES:,} bytes", remedy)
    return body.decode(charset, "replace")


def error_text(chunks: Iterable[bytes], coding: str) -> str:
    """Return the start of the body of an error response; if it is unreadable, the reason."""
    body = bytearray()
    try:
        for chunk in _decoded("the endpoint", chunks, coding):
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
    except (IncompleteBody, ModelAnswerError) as error:
        return str(error)
    return body[:MAX_ERROR_BYTES].decode("utf-8", "replace")


def retry_seconds(retry_after: str, now: datetime) -> float:
    """Return the seconds to wait according to the header `Retry-After`, a number or a date; 0 if it is invalid.

    >>> from datetime import UTC
    >>> retry_seconds("Fri, 31 Dec 1999 23:59:59 GMT", datetime(1999, 12, 31, 23, 59, 56, tzinfo=UTC))
    3.0
    """
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0.0
    return 0.0 if at.tzinfo is None else max(0.0, (at - now).total_seconds())


def _charset(where: str, content_type: str) -> str:
    """Return the charset in a media type, UTF-8 if there is none."""
    match = re.search(r";\s*charset\s*=\s*([^;]*)", content_type, re.IGNORECASE)
    name = match[1].strip().strip("\"'") if match else "utf-8"
    try:
        charset = codecs.lookup(name).name
    except (LookupError, ValueError):
        charset = ""
    if charset not in CHARSETS:
        problem = f"{where} responds with the charset {snippet(name)!r}, which is not supported"
        raise ModelAnswerError(f"{problem}; expected utf-8: correct the header Content-Type of its responses")
    return charset


def _decoded(where: str, chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """Yield the parts of a body without its content coding."""
    if coding.strip().lower() in {"", "identity"}:
        yield from chunks
    elif coding.strip().lower() in {"gzip", "x-gzip"}:
        yield from _decompressed(chunks)
    else:
        problem = f"{where} responds with the content coding {snippet(coding)!r}, which was not requested"
        raise ModelAnswerError(f"{problem}; expected gzip or none: correct the server or proxy that encodes responses")


def _decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield decompressed gzip data, which may consist of several members, in parts of at most `CHUNK_BYTES`."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if stream.eof:
                    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
                yield stream.decompress(rest, CHUNK_BYTES)
                rest = stream.unconsumed_tail or stream.unused_data
        yield stream.flush()
    except zlib.error as error:
        raise IncompleteBody(f"the gzip data of a response is corrupt ({error})") from error
    if not stream.eof:
        raise IncompleteBody("the gzip data of a response is truncated")
