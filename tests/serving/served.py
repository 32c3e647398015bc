"""Small apps, served by uvicorn in a thread or a process, and the events in their captures."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.domain.records import Event
from runner.records.capture import decode

ANSWER = b'{"score":0.5}\n'


async def scores(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer with a score as JSON; an app without lifespan events."""
    assert scope["type"] == "http"
    await whole_body(receive)
    await answer(send, ANSWER)


async def whole_body(receive: Receive) -> bytes:
    """Return the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away")
        body, more = body + message["body"], message["more_body"]
    return body


async def answer(send: Send, *chunks: bytes, status: int = 200, content_type: bytes = b"application/json") -> None:
    """Answer with a body in chunks."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"Content-Type", content_type)]})
    for number, chunk in enumerate(chunks, 1):
        await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks)})


def replying(*chunks: bytes, status: int = 200, content_type: bytes = b"application/json") -> ASGIApp:
    """Return an app that always gives the same answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await whole_body(receive)
        await answer(send, *chunks, status=status, content_type=content_type)

    return app


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Yield the address of an app on a free port, and shut it down afterwards."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@contextmanager
def process(root: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a uvicorn process that captures to a folder, and its address; the process ends afterwards."""
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
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as it:
        try:
            assert it.stderr is not None
            found = next(filter(None, (re.search(r"http://127.0.0.1:\d+", line) for line in it.stderr)))
            yield it, found[0]
        finally:
            it.kill()


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
        whole = {"type": "http", "method": "POST", "path": "/invocations", "headers": list(headers), **scope}
        try:
            await app(whole, receive, send)
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
    found = lines(root)
    assert all(line.endswith(b"\n") for line in found)
    return [decode(line) for line in found]


def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)
