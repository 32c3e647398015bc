"""Small apps, servers for them, and the events in their captures."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.domain.records import Event
from runner.records.capture import decode
from tests.processes import wait_until

SCORE_BODY = b'{"score":0.5}\n'


async def score_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and respond with a score as JSON; the app supports no lifespan events."""
    assert scope["type"] == "http"
    await whole_body(receive)
    await respond(send, SCORE_BODY)


async def whole_body(receive: Receive) -> bytes:
    """Return the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has disconnected")
        body, more = body + message["body"], message["more_body"]
    return body


async def respond(send: Send, *chunks: bytes, status: int = 200, content_type: bytes = b"application/json") -> None:
    """Send a response in chunks."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"Content-Type", content_type)]})
    for number, chunk in enumerate(chunks, 1):
        await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks)})


def fixed_app(*chunks: bytes, status: int = 200, content_type: bytes = b"application/json") -> ASGIApp:
    """Return an app with one fixed response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await whole_body(receive)
        await respond(send, *chunks, status=status, content_type=content_type)

    return app


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an app on a free port, and yield its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@contextmanager
def process(root: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a uvicorn process that captures to a folder, and yield the process and its URL."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "tests.serving.served_app:app",
        "--port",
        "0",
        "--ws",
        "none",
    ]
    variables = {**os.environ, "CAPTURE_ROOT": str(root), **environment}
    with subprocess.Popen(
        command, env=variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stderr is not None
            url = next(filter(None, (re.search(r"http://127.0.0.1:\d+", line) for line in server.stderr)))
            yield server, url[0]
        finally:
            server.kill()


def call(
    app: ASGIApp, *chunks: bytes, headers: Sequence[tuple[bytes, bytes]] = (), **scope: Any
) -> tuple[list[Message], Exception | None]:
    """Call an app without a server, and return what it sent and raised."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages = [*messages[:-1], {**messages[-1], "more_body": False}] if messages else []
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> Exception | None:
        full_scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": list(headers), **scope}
        try:
            await app(full_scope, receive, send)
        except Exception as error:  # noqa: BLE001  it is returned
            return error
        return None

    raised = asyncio.run(run())
    return sent, raised


def lines(root: Path) -> list[bytes]:
    """Return the lines of all capture files, sorted by file name."""
    return [line for path in sorted(root.rglob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


def events(root: Path) -> list[Event]:
    """Return the events of all capture files, and check that all lines are complete."""
    capture_lines = lines(root)
    assert all(line.endswith(b"\n") for line in capture_lines)
    return [decode(line) for line in capture_lines]
