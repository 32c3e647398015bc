"""The HTTP server: it reports when it is ready, and stops on a signal or with the process that started it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

STANDARD_INPUT = 0
HEAD_SECONDS = 20
"""Seconds within which the first request head of a connection must arrive."""
MAX_HEAD_BYTES = 2**16
"""Maximum size of a request head, in bytes."""
GC_THRESHOLD = 50_000
"""New objects that start a garbage collection; the default of 700 would cost a fifth of the time."""
SHUTDOWN_SECONDS = 8
"""Seconds that open requests may take after a stop signal; Docker kills a container after 10 s."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free port.

    Raises:
        OSError: if the port is in use or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class CoalescingTransport:
    """A transport that joins all writes of one event loop iteration into one system call."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._pending: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Queue data until the end of the iteration."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._send)
        self._pending.append(data)

    def close(self) -> None:
        """Send the queued data, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pending and not self._transport.is_closing():
            self._transport.write(b"".join(self._pending))
        self._pending.clear()


class HttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol, with coalesced writes and with limits on the size and the time of a request head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request head."""
        super().connection_made(cast(asyncio.Transport, CoalescingTransport(transport)))
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, and reject a request head that is too large."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the request head is larger than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Start counting the bytes of a request head."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Stop counting, and cancel the timeout."""
        super().on_headers_complete()
        self._in_head = False
        self._deadline.cancel()

    _in_head = True


class Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it accepts requests, and runs until a signal or `stop`."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=HttpProtocol,
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(config)
        self._ready = ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped, with less frequent garbage collection that ignores objects created before."""
        before = gc.get_threshold()
        gc.set_threshold(GC_THRESHOLD, *before[1:])
        try:
            super().run(sockets)
        finally:
            gc.unfreeze()
            gc.set_threshold(*before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, and call `ready`."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals so that they stop the server but not the process; only possible in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stop the server after the open requests."""
        self.should_exit = True

    def stop_at_end_of_input(self) -> None:
        """Stop when standard input ends, because the parent process closed it or died."""
        threading.Thread(target=self._read_input, daemon=True).start()

    def _read_input(self) -> None:
        with suppress(OSError):
            while os.read(STANDARD_INPUT, 4096):
                pass
        self.stop()
