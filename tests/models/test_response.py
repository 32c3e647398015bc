"""Responses of endpoints: limits of size and time, content codings, charsets, cookies, Retry-After."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from runner.errors import EndpointError, ModelAnswerError
from runner.models import remote, response, transport
from runner.models.response import IncompleteBody, body_text, error_text, retry_seconds
from tests.golden import Golden
from tests.models.servers import (
    FEATURES,
    MODEL,
    SCORING,
    Fault,
    ReceivedRequest,
    Reply,
    always,
    credentials,
    http,
    sagemaker,
    serving,
)

Connect = Callable[..., Any]
LINE = json.dumps({"score": 0.5}) + "\n"
HUGE = {"Content-Length": str(10**9)}
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.fixture(params=[http, sagemaker])
def connect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """A function that returns a model at a URL."""
    credentials(monkeypatch)
    function: Connect = request.param
    return function


def in_parts(body: bytes, size: int) -> list[bytes]:
    """Return a body in parts of at most `size` bytes."""
    return [body[i : i + size] for i in range(0, len(body), size)]


def test_endless_response_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response without end is refused at the maximum size, and is not retried."""
    monkeypatch.setattr(response, "MAX_BODY_BYTES", 2**20)
    with serving(always(200, LINE * 5_000, HUGE, fault="endless")) as served:
        with pytest.raises(EndpointError) as caught:
            connect(served.url).predict(FEATURES[:1])
        assert "model.max_request_rows" in caught.value.remedy
        assert len(served.seen) == 1


@pytest.mark.parametrize("status", [403, 500])
def test_endless_error_is_read_partially(connect: Connect, status: int) -> None:
    """The error contains the status and the start of the response."""
    with serving(always(status, "down" * 5_000, HUGE, fault="endless")) as served:
        with pytest.raises(EndpointError) as caught:
            connect(served.url, attempts=1).predict(FEATURES[:1])
        assert caught.value.status == status
        assert caught.value.problem.startswith("downdown")


@pytest.mark.parametrize(("status", "fault"), [(200, "drip"), (503, "drip"), (200, "drip head")])
def test_response_has_a_deadline(connect: Connect, status: int, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that arrives byte by byte is given up, although each byte is in time."""
    monkeypatch.setattr(remote, "DEADLINE_TIMEOUTS", 0.02)
    with serving(always(status, " ", HUGE, fault=fault)) as served:
        model = connect(served.url, timeout_seconds=10, attempts=2)
        started = time.monotonic()
        with pytest.raises(EndpointError) as caught:
            model.predict(FEATURES[:1])
        assert (caught.value.status, "0.2 s" in caught.value.problem) == (None, True)
        assert model.calls_made.retries == 1
        assert time.monotonic() - started >= 0.4
        attempts = [thread for thread in threading.enumerate() if thread.name == "shapwatch-attempt"]
        for thread in attempts:
            thread.join(60)
        assert not any(thread.is_alive() for thread in attempts)


def test_too_many_scores_are_an_error(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record has a limited number of scores, because each one is explained."""
    monkeypatch.setattr(remote, "MAX_COLUMNS", 3)
    for count in (3, 4):
        with serving(always(200, json.dumps({"score": [0.5] * count}) + "\n")) as served:
            model = connect(served.url, attempts=1)
            if count <= 3:
                assert model.predict(FEATURES[:1]).shape == (1, count)
            else:
                with pytest.raises(ModelAnswerError):
                    model.predict(FEATURES[:1])


def test_endless_head_is_an_error(connect: Connect) -> None:
    """Headers without end are an error."""
    with serving(always(200, "", HUGE, fault="endless head")) as served:
        with pytest.raises(EndpointError) as caught:
            connect(served.url, attempts=1).predict(FEATURES[:1])
        assert caught.value.status is None


def test_truncated_gzip_is_retried(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated gzip data of some responses does not change scores; if it persists, it is an error."""
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.001)

    def respond(seen: ReceivedRequest) -> Reply:
        body = gzip.compress(SCORING(seen).body.encode())
        return Reply(200, body[:-16] if seen.number % 3 == 0 else body, {"Content-Encoding": "gzip"})

    with serving(respond) as served:
        model = connect(served.url, max_request_rows=20)
        assert model.predict(FEATURES).tobytes() == MODEL.predict(FEATURES).tobytes()
        assert model.calls_made.retries >= 4
        assert model.calls_made.fallbacks == 0
        with pytest.raises(EndpointError):
            connect(served.url, attempts=1, max_request_rows=40, concurrency=1).predict(FEATURES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-16],
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: data[:0],
        lambda data: data[:-8] + bytes(8),
        lambda data: data + b"more",
        lambda data: b"no" + data,
    ],
    ids=["cut", "one byte", "head", "nothing", "checksum", "more data", "no gzip"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_damaged_gzip_is_refused(damage: Callable[[bytes], bytes], size: int) -> None:
    """Truncated and corrupt data is an error, whatever parts it arrives in."""
    chunks = in_parts(damage(gzip.compress(LINE.encode() * 99)), size)
    with pytest.raises(IncompleteBody):
        body_text("the endpoint", chunks, "gzip", "")


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_gzip_members_are_joined(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may consist of several gzip members, each decompressed in parts."""
    monkeypatch.setattr(response, "CHUNK_BYTES", 10)
    body = b"".join(gzip.compress(text.encode()) for text in [LINE, "", LINE * 50, LINE])
    assert body_text("the endpoint", in_parts(body, size), "x-gzip", "") == LINE * 52


def test_gzip_bomb_is_refused(golden: Golden) -> None:
    """The maximum size applies to decompressed data; a body of the maximum size is accepted."""
    largest = bytes(response.MAX_BODY_BYTES)
    assert body_text("the endpoint", [gzip.compress(largest, 1)], "GZIP", "") == largest.decode()
    with golden.raises(EndpointError):
        body_text("the endpoint", [gzip.compress(largest + b"x", 1)], "gzip", "")


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "deflate"])
def test_other_content_codings_are_refused(connect: Connect, coding: str) -> None:
    """Only gzip is supported, and was requested."""
    with serving(always(200, LINE, {"Content-Encoding": coding})) as served:
        model = connect(served.url, attempts=1)
        with pytest.raises(ModelAnswerError, match=coding):
            model.predict(FEATURES[:1])


def test_error_for_a_content_coding_has_a_remedy(golden: Golden) -> None:
    """The error names the coding and what to correct; the text of an error response contains it, too."""
    with golden.raises(ModelAnswerError):
        body_text("the endpoint", [b""], "br", "")
    assert "br" in error_text([b"x"], "br")
    assert "truncated" in error_text([gzip.compress(b"down")[:-1]], "gzip")


@pytest.mark.parametrize("charset", ["zip", "idna", "punycode", "undefined", "unicode_escape", "utf-9", "", '"a\0b"'])
def test_other_charsets_are_refused(charset: str, golden: Golden) -> None:
    """The error names the charset."""
    with golden.raises(ModelAnswerError):
        body_text("the endpoint", [LINE.encode()], "", f"text/csv; charset={charset}; x=y")


@pytest.mark.parametrize("charset", ["UTF-8", '"utf-8"', "us-ascii", "ISO-8859-1", "windows-1252", "utf-16"])
def test_common_charsets_are_decoded(charset: str) -> None:
    """The body is decoded with the charset of its media type."""
    body = [LINE.encode(charset.strip('"'))]
    assert body_text("the endpoint", body, "identity", f"application/jsonlines;Charset={charset}") == LINE


def test_cookies_are_not_stored() -> None:
    """No cookie of a response is sent with a later request."""
    cookies = {"Set-Cookie": "session=1; Path=/"}
    with serving(lambda seen: SCORING(seen)._replace(headers=cookies)) as served:
        http(served.url, max_request_rows=50).predict(FEATURES)
        assert len(served.seen) == 5
        assert not any("cookie" in seen.headers for seen in served.seen)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        (format_datetime(NOW + timedelta(seconds=7), usegmt=True), 7),
        ("Mon, 05 Jan 2026 10:00:07 +0100", 7),
        (format_datetime(NOW - timedelta(seconds=7), usegmt=True), 0),
        ("Monday, 05-Jan-26 09:00:07 GMT", 7),
        ("Mon, 05 Jan 2026 09:00:07", 0),
        ("Mon, 99 Jan 2026 09:00:07 GMT", 0),
        ("Mon, 05 Jan 99999999999999999999 09:00:07 GMT", 0),
        ("-5", 0),
        ("1e9", 0),
        ("٣", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(retry_after: str, seconds: float) -> None:
    """Everything else is 0."""
    assert retry_seconds(retry_after, NOW) == seconds
