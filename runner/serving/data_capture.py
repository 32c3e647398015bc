"""Data capture as a SageMaker endpoint has it, for any ASGI app; captured events become the monitor's windows."""

from __future__ import annotations

import asyncio
import base64
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from runner.domain.records import Event, Payload
from runner.errors import SettingsError
from runner.records.capture import encode
from runner.serving.capture_writer import CaptureWriter, Usage
from runner.serving.ids import new_id
from runner.storage import LONGEST_LINE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Side = Literal["REQUEST", "RESPONSE"]

CONTENT_TYPE = b"content-type"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
TOO_LARGE = f"a body, or its line, is larger than the {LONGEST_LINE} bytes that readers take"


def _now() -> datetime:
    return datetime.now(UTC)


class DataCapture:
    """ASGI middleware that captures the invocations of an app: `DataCapture(app, "capture/churn/AllTraffic")`.

    An invocation is a POST whose path ends with one of `paths`. It is captured once it is answered with 2xx: a monitor
    explains decisions that were made, and a refused or failed request led to none. Requests and responses pass
    unchanged, chunk by chunk, and are never delayed. The events are written by a `CaptureWriter`, which is flushed
    when the server shuts down; an app that knows nothing of ASGI's lifespan is given one for that.

    Attributes:
        app: the app that is captured.
        sampling_percentage: the share of the invocations that is captured.
    """

    def __init__(
        self,
        app: ASGIApp,
        root: str,
        *,
        sampling_percentage: float = 100,
        capture_options: Sequence[Side] = ("REQUEST", "RESPONSE"),
        csv_content_types: Sequence[str] = ("text/csv",),
        json_content_types: Sequence[str] = ("application/json",),
        paths: Sequence[str] = ("/invocations",),
        flush_seconds: float = 10,
        queue_bytes: int = 2**28,
        min_free_bytes: int = 2**30,
        clock: Callable[[], datetime] = _now,
        new_id: Callable[[], str] = new_id,
        generator: random.Random | None = None,
        disk_usage: Callable[[Path], Usage] = shutil.disk_usage,
    ) -> None:
        """Wrap an app.

        Args:
            app: the ASGI app.
            root: where the folders `yyyy/mm/dd/hh` begin: a local folder, or s3://bucket/… and the like.
            sampling_percentage: the share of the invocations that is captured, 0 to 100.
            capture_options: the sides that are captured.
            csv_content_types: media types that are captured as text with the encoding CSV.
            json_content_types: the same for JSON; a body of any other type, or that is no UTF-8, becomes BASE64.
            paths: what the path of an invocation ends with.
            flush_seconds: the longest an event waits until it is written.
            queue_bytes: the events that may wait; further ones are dropped and counted.
            min_free_bytes: with less space on a local disk, capture stops until there is more.
            clock: returns the time in UTC.
            new_id: returns a fresh event id.
            generator: draws the sample.
            disk_usage: tells the free space.

        Raises:
            SettingsError: when a share or a side does not exist, or a list is none.
        """
        lists = {
            "capture_options": capture_options,
            "csv_content_types": csv_content_types,
            "json_content_types": json_content_types,
            "paths": paths,
        }
        _check(sampling_percentage, lists)
        self.app = app
        self.sampling_percentage = sampling_percentage
        self._sides = frozenset(capture_options)
        self._encodings = {name.lower(): "CSV" for name in csv_content_types}
        self._encodings |= {name.lower(): "JSON" for name in json_content_types}
        self._media_type = lru_cache(maxsize=64)(self._read_media_type)
        self._paths = tuple(paths)
        self._writer = CaptureWriter(root, flush_seconds, queue_bytes, min_free_bytes, disk_usage=disk_usage)
        self._clock = clock
        self._new_id = new_id
        self._generator = generator or random.SystemRandom()

    @property
    def status(self) -> dict[str, Any]:
        """What is being captured, in the words of SageMaker's `DataCaptureConfigSummary`, and the counts so far."""
        return {
            "CaptureStatus": "Stopped" if self._writer.stopped else "Started",
            "captured": self._writer.captured,
            "dropped": self._writer.dropped,
            "CurrentSamplingPercentage": self.sampling_percentage,
        }

    def close(self) -> None:
        """Write what waits, and capture no more; for servers without a lifespan."""
        self._writer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer, and capture it."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._is_invocation(scope) and self._is_sampled():
            request, response = _Body("REQUEST" in self._sides), _Body("RESPONSE" in self._sides)
            headers = dict(scope["headers"])
            invocation = _Invocation(self._clock(), headers, request, response, receive, send, self._capture)
            await self.app(scope, invocation.receive, invocation.send)
        else:
            await self.app(scope, receive, send)

    def _is_invocation(self, scope: Scope) -> bool:
        return bool(scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(self._paths))

    def _is_sampled(self) -> bool:
        share = self.sampling_percentage
        return share >= 100 or self._generator.random() * 100 < share

    def _capture(self, invocation: _Invocation) -> None:
        """Let the event of an invocation be written, now that it is answered."""
        fits = not (invocation.request.is_too_large or invocation.response.is_too_large)
        line = encode(self._event(invocation)) if fits else None
        if line is None or len(line) > LONGEST_LINE:
            self._writer.drop(TOO_LARGE)
        else:
            self._writer.put(invocation.at, line)

    def _event(self, invocation: _Invocation) -> Event:
        headers = invocation.headers
        return Event(
            event_id=self._new_id(),
            at=invocation.at,
            input=self._payload(headers.get(CONTENT_TYPE, b""), invocation.request),
            output=self._payload(invocation.content_type, invocation.response),
            inference_id=_text(headers[INFERENCE_ID]) if INFERENCE_ID in headers else None,
            custom_attributes=(_text(headers[CUSTOM_ATTRIBUTES]),) if headers.get(CUSTOM_ATTRIBUTES) else (),
        )

    def _payload(self, header: bytes, body: _Body) -> Payload | None:
        """Return a body as the settings have its media type written down, None when it is not wanted."""
        if not body.wanted:
            return None
        content_type, encoding = self._media_type(header)
        return Payload(content_type, *_written(b"".join(body.chunks), encoding))

    def _read_media_type(self, header: bytes) -> tuple[str, str]:
        """Return the text of a content type, and how bodies of it are written down."""
        text = _text(header)
        return text, self._encodings.get(text.partition(";")[0].strip().lower(), "BASE64")

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app start and shut down, and close the writer before the server hears that it has."""
        knows = False

        async def heard() -> Message:
            nonlocal knows
            knows = True
            return await receive()

        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await asyncio.to_thread(self.close)
            await send(message)

        try:
            await self.app(scope, heard, closing)
        except Exception:
            if knows:
                raise
        if not knows:
            await _stand_in(receive, closing)


class _Body:
    """One side of an invocation: the chunks that have passed, unless nobody wants them or they grew too large."""

    __slots__ = ("chunks", "size", "wanted")

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.chunks: list[bytes] = []
        self.size = 0

    @property
    def is_too_large(self) -> bool:
        return self.size > LONGEST_LINE

    def add(self, chunk: bytes) -> None:
        if not self.wanted:
            return
        self.size += len(chunk)
        self.chunks.append(chunk)
        if self.is_too_large:
            self.chunks.clear()


class _Invocation:
    """An invocation on its way through: it passes every message on, and keeps what is in them."""

    __slots__ = ("_answered", "_receive", "_send", "at", "content_type", "headers", "request", "response", "succeeded")

    def __init__(
        self,
        at: datetime,
        headers: Mapping[bytes, bytes],
        request: _Body,
        response: _Body,
        receive: Receive,
        send: Send,
        answered: Callable[[_Invocation], None],
    ) -> None:
        self.at, self.headers = at, headers
        self.request, self.response = request, response
        self.content_type = b""
        self.succeeded = False
        self._receive, self._send, self._answered = receive, send, answered

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.request.add(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._note_start(message)
        if message["type"] == "http.response.body" and self.succeeded:
            await self._send_body(message)
        else:
            await self._send(message)

    def _note_start(self, message: Message) -> None:
        self.succeeded = 200 <= message["status"] < 300
        for name, value in message.get("headers", ()):
            if name.lower() == CONTENT_TYPE:
                self.content_type = value

    async def _send_body(self, message: Message) -> None:
        """Pass a chunk on; after the last one, the invocation is answered, whether or not the client still listens."""
        self.response.add(message.get("body", b""))
        try:
            await self._send(message)
        finally:
            if not message.get("more_body", False):
                self.succeeded = False
                self._answered(self)


async def _stand_in(receive: Receive, send: Send) -> None:
    """Answer a server's lifespan messages for an app that does not."""
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def _written(body: bytes, encoding: str) -> tuple[str, str]:
    """Return a body as text, and its encoding: BASE64 where it is no UTF-8."""
    if encoding == "BASE64":
        return base64.b64encode(body).decode(), encoding
    try:
        return body.decode(), encoding
    except UnicodeDecodeError:
        return _written(body, "BASE64")


def _text(header: bytes) -> str:
    """Return the text of a header, which may hold any bytes."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _check(sampling_percentage: float, lists: Mapping[str, Sequence[str]]) -> None:
    problems = []
    if not 0 <= sampling_percentage <= 100:
        problems.append(f"sampling_percentage: got {sampling_percentage}, expected a number from 0 to 100")
    for name, values in lists.items():
        if isinstance(values, str):
            problems.append(f"{name}: got {values!r}, expected a list of texts")
    if unknown := sorted(set(lists["capture_options"]) - set(get_args(Side))):
        problems.append(f"capture_options: got {unknown}, expected some of {get_args(Side)}")
    if problems:
        raise SettingsError(problems)
