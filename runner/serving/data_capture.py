"""Data capture in SageMaker's format, as middleware for any ASGI app."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.domain.records import Event, Payload
from runner.errors import SettingsError
from runner.probes import is_claimed
from runner.records.capture import encode
from runner.serving import capture_settings
from runner.serving.capture_writer import CaptureWriter, DiskUsage
from runner.storage import MAX_LINE_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = b"content-type"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
TOO_LARGE = f"a body or its capture line is larger than {MAX_LINE_BYTES} bytes"
LARGE_BYTES = 2**18
"""Size of an invocation in bytes from which its event is encoded in a thread, because this delays other requests."""
BASE64_BYTES = 3 * 2**18
"""Number of bytes that are encoded as BASE64 in one call, which does not release the interpreter lock."""

VARIABLE_BITS = ~(0xF << 76 | 0x3 << 62)
VERSION_4 = 4 << 76 | 2 << 62

_generator = random.Random()  # noqa: S311  ids need to be unique, not secret
os.register_at_fork(after_in_child=_generator.seed)


def new_id() -> str:
    """Return a random UUID of version 4.

    `uuid.uuid4` makes a system call for each id and releases the interpreter lock, which is slow in a server with
    several threads. This function uses a generator that the operating system seeds once in each process.
    """
    digits = f"{_generator.getrandbits(128) & VARIABLE_BITS | VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _now() -> datetime:
    return datetime.now(UTC)


class CaptureEnvironment(NamedTuple):
    """The sources of time, randomness and disk usage of data capture, which tests replace.

    Attributes:
        clock: function that returns the current time in UTC.
        new_id: function that returns a new event id.
        draw: function that returns a random number in [0, 1).
        disk_usage: function that returns the usage of a path's disk.
    """

    clock: Callable[[], datetime] = _now
    new_id: Callable[[], str] = new_id
    draw: Callable[[], float] = random.SystemRandom().random
    disk_usage: Callable[[Path], DiskUsage] = shutil.disk_usage


class DataCapture:
    """ASGI middleware that captures the invocations of an app: `DataCapture(app, "capture/churn/AllTraffic")`.

    An invocation is a POST whose path ends with one of `paths`. Only invocations with a 2xx response are captured,
    because a failed request leads to no decision that a monitor could explain. Requests and responses pass unchanged,
    chunk by chunk, without delay. A `CaptureWriter` writes the events. When the server shuts down, it writes the queued
    ones, also for apps that do not support ASGI lifespan events.

    Attributes:
        app: the wrapped app.
        settings: the settings.
    """

    def __init__(
        self,
        app: ASGIApp,
        /,
        root: str,
        *,
        paths: Sequence[str] = ("/invocations",),
        environment: CaptureEnvironment | None = None,
        **settings: Any,
    ) -> None:
        """Wrap an app.

        Args:
            app: the ASGI app.
            root: the parent of the folders `yyyy/mm/dd/hh`, local or for example s3://bucket/…
            paths: path endings that identify an invocation.
            environment: sources of time, randomness and disk usage, None for those of this machine.
            settings: fields of `CaptureSettings`.

        Raises:
            SettingsError: if a setting is invalid.
        """
        self.app = app
        self.settings = capture_settings(settings)
        self._sides = frozenset(self.settings.capture_options)
        self._encodings = {name.lower(): "CSV" for name in self.settings.csv_content_types}
        self._encodings |= {name.lower(): "JSON" for name in self.settings.json_content_types}
        self._media_type = lru_cache(maxsize=64)(self._read_media_type)
        self._paths = _endings(paths)
        self._environment = environment or CaptureEnvironment()
        self._writer = CaptureWriter(
            root,
            self.settings.flush_seconds,
            self.settings.queue_bytes,
            self.settings.min_free_bytes,
            disk_usage=self._environment.disk_usage,
        )

    @property
    def status(self) -> dict[str, Any]:
        """The status of the capture, with the keys of SageMaker's `DataCaptureConfigSummary`, and the counts so far."""
        return {
            "CaptureStatus": "Stopped" if self._writer.stopped else "Started",
            "captured": self._writer.captured,
            "dropped": self._writer.dropped,
            "CurrentSamplingPercentage": self.settings.sampling_percentage,
        }

    def close(self) -> None:
        """Write the queued events and stop; call this method if the server sends no lifespan events."""
        self._writer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and capture the invocation."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif self._is_invocation(scope) and self._is_sampled():
            request, response = _Body("REQUEST" in self._sides), _Body("RESPONSE" in self._sides)
            headers = dict(scope["headers"])
            invocation = _Invocation(
                self._environment.clock(), headers, request, response, receive, send, self._capture
            )
            await self.app(scope, invocation.receive, invocation.send)
        else:
            await self.app(scope, receive, send)

    def _is_invocation(self, scope: Scope) -> bool:
        return bool(scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(self._paths))

    def _is_sampled(self) -> bool:
        share = self.settings.sampling_percentage
        return self.settings.enable_capture and (share >= 100 or self._environment.draw() * 100 < share)

    async def _capture(self, invocation: _Invocation) -> None:
        """Queue the event of a completed invocation; encode a large one in a thread."""
        if invocation.request.size + invocation.response.size < LARGE_BYTES:
            self._encode(invocation)
        else:
            await asyncio.to_thread(self._encode, invocation)

    def _encode(self, invocation: _Invocation) -> None:
        fits = not (invocation.request.is_too_large or invocation.response.is_too_large)
        line = encode(self._event(invocation)) if fits else None
        if line is None or len(line) > MAX_LINE_BYTES:
            self._writer.drop(TOO_LARGE)
        else:
            self._writer.put(invocation.at, line)

    def _event(self, invocation: _Invocation) -> Event:
        headers = invocation.headers
        inference_id = _decoded(headers[INFERENCE_ID]) if INFERENCE_ID in headers else None
        return Event(
            event_id=self._environment.new_id(),
            at=invocation.at,
            input=self._payload(headers.get(CONTENT_TYPE, b""), invocation.request),
            output=self._payload(invocation.content_type, invocation.response),
            inference_id=None if inference_id is None or is_claimed(inference_id) else inference_id,
            custom_attributes=(_decoded(headers[CUSTOM_ATTRIBUTES]),) if headers.get(CUSTOM_ATTRIBUTES) else (),
            delivered=invocation.delivered,
        )

    def _payload(self, header: bytes, body: _Body) -> Payload | None:
        """Return a body in the encoding of its media type, or None if its side is not captured."""
        if not body.captured:
            return None
        content_type, encoding = self._media_type(header)
        return Payload(content_type, *_encoded(b"".join(body.chunks), encoding))

    def _read_media_type(self, header: bytes) -> tuple[str, str]:
        """Return a content type as a string, and the encoding of its bodies."""
        content_type = _decoded(header)
        return content_type, self._encodings.get(content_type.partition(";")[0].strip().lower(), "BASE64")

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass lifespan events to the app, and close the writer before the server receives the shutdown event."""
        supported = False

        async def received() -> Message:
            nonlocal supported
            supported = True
            return await receive()

        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await asyncio.to_thread(self.close)
            await send(message)

        try:
            await self.app(scope, received, closing)
        except Exception:
            if supported:
                raise
        if not supported:
            await _respond_to_lifespan(receive, closing)


class _Body:
    """One side of an invocation; it stores chunks only if the side is captured and the body is not too large."""

    __slots__ = ("captured", "chunks", "size")

    def __init__(self, captured: bool) -> None:
        self.captured = captured
        self.chunks: list[bytes] = []
        self.size = 0

    @property
    def is_too_large(self) -> bool:
        return self.size > MAX_LINE_BYTES

    def add(self, chunk: bytes) -> None:
        if not self.captured:
            return
        self.size += len(chunk)
        self.chunks.append(chunk)
        if self.is_too_large:
            self.chunks.clear()


class _Invocation:
    """An invocation in progress; it passes each message on and records the bodies."""

    __slots__ = (
        "_completed",
        "_receive",
        "_send",
        "at",
        "content_type",
        "delivered",
        "headers",
        "request",
        "response",
        "succeeded",
    )

    def __init__(
        self,
        at: datetime,
        headers: Mapping[bytes, bytes],
        request: _Body,
        response: _Body,
        receive: Receive,
        send: Send,
        completed: Callable[[_Invocation], Awaitable[None]],
    ) -> None:
        self.at, self.headers = at, headers
        self.request, self.response = request, response
        self.content_type = b""
        self.succeeded = False
        self.delivered = True
        self._receive, self._send, self._completed = receive, send, completed

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.request.add(message.get("body", b""))
        elif message["type"] == "http.disconnect":
            self.delivered = False
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
        """Pass a chunk on; the last one completes the invocation, also if the client has disconnected."""
        self.response.add(message.get("body", b""))
        try:
            await self._send(message)
        except BaseException:
            self.delivered = False
            raise
        finally:
            if not message.get("more_body", False):
                self.succeeded = False
                await self._completed(self)


async def _respond_to_lifespan(receive: Receive, send: Send) -> None:
    """Respond to the lifespan events of a server in place of an app that does not support them."""
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def _encoded(body: bytes, encoding: str) -> tuple[str, str]:
    """Return a body as a string, and its encoding: BASE64 if it is not UTF-8."""
    if encoding == "BASE64":
        parts = (body[start : start + BASE64_BYTES] for start in range(0, len(body), BASE64_BYTES))
        return b"".join(map(base64.b64encode, parts)).decode(), encoding
    try:
        return body.decode(), encoding
    except UnicodeDecodeError:
        return _encoded(body, "BASE64")


def _decoded(header: bytes) -> str:
    """Return a header as a string, in UTF-8 if possible, else in Latin-1."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _endings(paths: Sequence[str]) -> tuple[str, ...]:
    """Return endings of paths as a tuple.

    Raises:
        SettingsError: for a string instead of a list.
    """
    if isinstance(paths, str):
        raise SettingsError([f"paths: expected a list of strings (got {paths!r})"])
    return tuple(paths)
