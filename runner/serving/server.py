"""The HTTP server: listens, says when it is ready, and ends when it is told to, or with the process that started it."""

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
MOST_HEAD_BYTES = 2**16
"""What the head of a request may take; the first one on a connection has a time, too."""
GARBAGE = 50_000
"""Objects more than there were, before garbage is looked for; the usual 700 would take a fifth of the time."""
PATIENCE_SECONDS = 8
"""How long requests under way may take once the server is told to end; Docker kills a container after ten."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is a free one.

    Raises:
        OSError: when the port is taken or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class Together:
    """A transport that sends what is written in one turn of the loop at once: a call of the system each is dear."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold what is to be sent until the turn ends."""
        if not self._held:
            asyncio.get_running_loop().call_soon(self._send)
        self._held.append(data)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(b"".join(self._held))
        self._held.clear()


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP, that sends head and body of an answer together, and takes no head that is or lasts too long."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(cast(asyncio.Transport, Together(transport)))
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is more head than anybody needs."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("the head of the request is too large")

    def on_message_begin(self) -> None:
        """Begin with a head."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """End with a head."""
        super().on_headers_complete()
        self._in_head = False
        self._deadline.cancel()

    _in_head = True


class Server(uvicorn.Server):
    """Uvicorn, that calls `ready` once it answers and returns from `run` when a signal, or `stop`, ends it."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=Protocol,
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=PATIENCE_SECONDS,
        )
        super().__init__(config)
        self._ready = ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer until the end; meanwhile garbage is looked for less often, and not in what was loaded before."""
        before = gc.get_threshold()
        gc.set_threshold(GARBAGE, *before[1:])
        try:
            super().run(sockets)
        finally:
            gc.unfreeze()
            gc.set_threshold(*before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the server but not the process, where signals are heard: in the main thread."""
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
        """Let the requests under way end, and then the server."""
        self.should_exit = True

    def stop_at_end_of_input(self) -> None:
        """Stop when the standard input ends: when the process at its other end closes it, or dies."""
        threading.Thread(target=self._read_input, daemon=True).start()

    def _read_input(self) -> None:
        with suppress(OSError):
            while os.read(STANDARD_INPUT, 4096):
                pass
        self.stop()
