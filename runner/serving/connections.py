"""Connections of the HTTP server: coalesced writes, deadlines for slow clients, and limits that all clients share."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from runner.domain.numbers import plural
from runner.serving.requests import ClientDisconnected

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CLIENT_SECONDS = 20.0
"""Seconds within which a client must send a request head, begin to send a body, or read a part of a response."""
MIN_BODY_RATE = 2**14
"""Minimum rate of a request body after the first `CLIENT_SECONDS`, in bytes per second."""
LINGER_SECONDS = 10.0
"""Seconds that the rest of a rejected request may take, so that its client can read the response."""
MAX_HEAD_BYTES = 2**16
"""Maximum size of a request head, and of chunk sizes and trailers beyond the size of the body, in bytes."""
MAX_BODIES_BYTES = 2**28
"""Maximum size of all request bodies in memory, in bytes."""
MAX_RESPONSES_BYTES = 2**28
"""Maximum size of all responses that wait for their clients to read them, in bytes."""
MAX_CONNECTIONS = 2**14
"""Maximum number of open connections, if there are enough file descriptors."""
RESERVED_DESCRIPTORS = 64
"""Number of file descriptors that connections leave for captures and the model."""
WARNING_SECONDS = 60.0
"""Minimum seconds between two warnings with the same reason."""

OFFERS = (b"upgrade", b"http2-settings")
"""Headers of an offer to upgrade to another protocol, and their names in the header Connection."""

logger = logging.getLogger("shapwatch")


def connection_limit() -> int:
    """Return the maximum number of open connections."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(descriptors // 4, descriptors - RESERVED_DESCRIPTORS))


class Connections(ServerState):
    """The open connections of a server, and the limits that they share.

    If a limit is reached, the connection whose client has been inactive for the longest time is closed. A connection
    whose request is being answered stays open.

    Attributes:
        limit: the maximum number of open connections.
        body_bytes: the size of all request bodies in memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = connection_limit()
        self.body_bytes = 0
        self._by_activity: OrderedDict[HttpProtocol, None] = OrderedDict()
        self._closed: Counter[str] = Counter()
        self._warned: dict[str, float] = {}

    def add(self, connection: HttpProtocol) -> None:
        """Add a new connection; above the limit, close another one or reject this one."""
        self._by_activity[connection] = None
        if len(self._by_activity) > self.limit:
            self.note_closed(f"more than {self.limit} were open, because file descriptors are limited (ulimit -n)")
            self._close_inactive(connection, lambda _: True)

    def note_activity(self, connection: HttpProtocol) -> None:
        """Note that a client has sent data."""
        self._by_activity.move_to_end(connection)

    def remove(self, connection: HttpProtocol) -> None:
        """Remove a closed connection."""
        self._by_activity.pop(connection, None)

    def add_body_bytes(self, connection: HttpProtocol, size: int) -> None:
        """Count received bytes; above the limit, close another connection that sends a body or reject this request."""
        self.body_bytes += size
        if self.body_bytes > MAX_BODIES_BYTES:
            self.note_closed(f"the request bodies in memory exceeded {MAX_BODIES_BYTES} bytes")
            self._close_inactive(connection, lambda other: other.body_bytes > 0)

    def close_late(self) -> None:
        """Close connections whose clients are too slow, and those with the largest unread responses above a limit."""
        now = time.monotonic()
        for connection in [each for each in self._by_activity if each.is_late(now)]:
            self.note_closed("their clients were too slow to send a request or to read a response")
            connection.expire()
        unread = {each: each.transport.get_write_buffer_size() for each in self._by_activity}
        while sum(unread.values()) > MAX_RESPONSES_BYTES:
            self.note_closed(f"the unread responses in memory exceeded {MAX_RESPONSES_BYTES} bytes")
            largest = max(unread, key=lambda each: unread[each])
            del unread[largest]
            largest.abort()

    def note_closed(self, reason: str) -> None:
        """Count a closed connection, and log the reason at most once a minute."""
        self._closed[reason] += 1
        now = time.monotonic()
        if now - self._warned.get(reason, float("-inf")) >= WARNING_SECONDS:
            self._warned[reason] = now
            logger.warning("closed %s so far: %s", plural(self._closed[reason], "connection"), reason)

    def _close_inactive(self, connection: HttpProtocol, condition: Callable[[HttpProtocol], bool]) -> None:
        """Close the connection that has been inactive for the longest time, or reject the given one if all are busy."""
        for other in self._by_activity:
            if other is not connection and not other.is_busy and condition(other):
                other.abort()
                return
        connection.reject(HTTPStatus.SERVICE_UNAVAILABLE, "the server is busy; try again later")


class CoalescingTransport:
    """A transport that joins all writes of one event loop iteration into one system call.

    Attributes:
        lingers: whether the connection waits for its client to close it, and its data is ignored.
    """

    def __init__(self, transport: Any, is_unread: Callable[[], bool] = lambda: False) -> None:
        """Wrap a transport; `is_unread` returns whether the client may still send a part of an answered request."""
        self.lingers = False
        self._transport = transport
        self._is_unread = is_unread
        self._pending: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Queue data until the end of the iteration."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append(data)

    def close(self) -> None:
        """Send the queued data, and close; linger if the client may still send data."""
        if self._is_unread():
            self.linger()
        elif not self.lingers:
            self.flush()
            self._transport.close()

    def linger(self) -> None:
        """Send the queued data and the end of the stream, and wait until the client closes the connection.

        A closed socket answers later data with a reset, which can remove the response from the client's buffer.
        """
        self.flush()
        if not self.is_closing():
            self.lingers = True
            self._transport.write_eof()
            self._transport.resume_reading()

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or accepts no more requests."""
        return self.lingers or self._transport.is_closing()

    def flush(self) -> None:
        """Send the queued data."""
        if self._pending and not self.is_closing():
            self._transport.writelines(self._pending)
        self._pending.clear()


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with limits for slow clients and large requests; it ignores offers to upgrade.

    Attributes:
        body_bytes: the size of the body of the current request.
    """

    transport: CoalescingTransport  # type: ignore[assignment]
    server_state: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection."""
        super().connection_made(cast(asyncio.Transport, CoalescingTransport(transport, lambda: self._is_unread)))
        self._head_bytes = self._unsent = self.body_bytes = 0
        self._is_broken = False
        self._start_clock()
        self.server_state.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self.server_state.remove(self)
        self._forget_body()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Send the queued data: the connection is closed now, as its client has gone."""
        self.transport.flush()

    @property
    def is_busy(self) -> bool:
        """Whether the server has to act, not the client: a request has arrived that is not answered yet.

        A client has to act if it has not read the response to an earlier request.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.flow.write_paused:
            return False
        return not cycle.more_body or self.flow.read_paused

    @property
    def _is_unread(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and (self.cycle.more_body or self._is_broken)

    def is_late(self, now: float) -> bool:
        """Return whether the client has not sent or read enough since the clock was started."""
        if (unsent := self.transport.get_write_buffer_size()) != self._unsent:
            self._unsent = unsent
            self._start_clock()
        allowed = LINGER_SECONDS if self.transport.lingers else CLIENT_SECONDS + self.body_bytes / MIN_BODY_RATE
        return not self.is_busy and now - self._since > allowed

    def expire(self) -> None:
        """Close the connection of a slow client, with a response if it has sent a part of a body."""
        ended = self.cycle is None or self.cycle.response_complete
        if ended or self.transport.is_closing() or self.flow.write_paused:
            self.abort()
        else:
            self.reject(HTTPStatus.REQUEST_TIMEOUT, "the request body did not arrive in time")

    def abort(self) -> None:
        """Close the connection at once."""
        self.server_state.remove(self)
        self._forget_body()
        self.transport.abort()

    def reject(self, status: HTTPStatus, message: str) -> None:
        """Respond with an error instead of reading the request, and close the connection."""
        head = [
            STATUS_LINE[status],
            *(b"%s: %s\r\n" % header for header in self.server_state.default_headers),
            b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % len(message),
            message.encode(),
        ]
        self.transport.write(b"".join(head))
        self._linger()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Reject an invalid request, or close the connection after the responses to the valid requests before it."""
        self.server_state.note_closed(f"invalid HTTP requests ({msg})")
        if self.is_busy:
            self._is_broken = True
            self.cycle.keep_alive = False
        else:
            self.reject(HTTPStatus.BAD_REQUEST, msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Call the app; sending a body to a client that has gone ends the call, so that capture knows of it."""

        async def run(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            async def send_if_connected(message: ASGISendEvent) -> None:
                if message["type"] == "http.response.body" and (cycle.disconnected or self.transport.is_closing()):
                    raise ClientDisconnected
                await send(message)

            with suppress(ClientDisconnected):
                await app(scope, receive, send_if_connected)

        super()._start_asgi_task(cycle, run)

    def shutdown(self) -> None:
        """Close the connection after the current response."""
        if self.transport.lingers or self._is_unread:
            self.abort()
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse received data, and reject a request that is too large."""
        if self.transport.is_closing() or self._is_broken:
            return
        self._unset_keepalive_if_required()
        self.server_state.note_activity(self)
        self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("expected HTTP/1.1")
        if self._head_bytes > MAX_HEAD_BYTES and not (self.transport.is_closing() or self._is_broken):
            if self._is_unread:
                self._linger()
            else:
                self.send_400_response(f"the request head is larger than {MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes | memoryview) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = memoryview(data)[offer.args[0] :]
                self._ignore_offer()

    def _ignore_offer(self) -> None:
        """Continue with a new parser and with the head of the current request without its offer to upgrade.

        Raises:
            HttpParserError: for CONNECT.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError
        head = [b"%s %s HTTP/%s\r\n" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            tokens = [
                token for token in value.split(b",") if name != b"connection" or token.strip().lower() not in OFFERS
            ]
            if name not in OFFERS:
                head.append(b"%s: %s\r\n" % (name, b",".join(tokens)))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join([*head, b"\r\n"]))

    def on_message_begin(self) -> None:
        """Start the clock of a request head."""
        super().on_message_begin()
        self._forget_body()
        self._head_bytes = 0
        self._start_clock()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers of a body are ignored."""
        if self.cycle is None or self.cycle.scope is not self.scope:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the clock of a request body."""
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._start_clock()

    def on_body(self, body: bytes) -> None:
        """Add a part of the body, unless the request is already answered."""
        if self.cycle.response_complete or self.transport.is_closing():
            return
        super().on_body(body)
        self._head_bytes -= 2 * len(body)
        self.body_bytes += len(body)
        self.server_state.add_body_bytes(self, len(body))

    def on_message_complete(self) -> None:
        """Complete a request."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """Start the clock of the next request."""
        self._forget_body()
        self._start_clock()
        super().on_response_complete()

    def _linger(self) -> None:
        self._start_clock()
        self._forget_body()
        self.transport.linger()

    def _start_clock(self) -> None:
        self._since = time.monotonic()

    def _forget_body(self) -> None:
        self.server_state.body_bytes -= self.body_bytes
        self.body_bytes = 0
