"""The server: listening, readiness and shutdown. Signals are tested with stage=serve."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Thread

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from runner.serving import server
from runner.serving.server import CoalescingTransport, Server, listen
from runner.urls import is_loopback
from tests.serving.served import score_app, whole_body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_addresses(host: str) -> None:
    """Loopback addresses are recognized."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com", ""])  # noqa: S104
def test_other_addresses_are_not_loopback(host: str) -> None:
    """All other addresses are not loopback."""
    assert not is_loopback(host)


def test_port_in_use_is_an_error() -> None:
    """A second socket cannot listen on the same port."""
    with listen("127.0.0.1", 0) as listening, pytest.raises(OSError) as caught:  # noqa: PT011  errno says which
        listen("127.0.0.1", listening.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_ready_server_responds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ready server sends no Server header, stops at the end of standard input, and closes its port."""
    reader, writer = os.pipe()
    monkeypatch.setattr(server, "STANDARD_INPUT", reader)
    ready = Event()
    with listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        running_server = Server(score_app, ready.set)
        thread = Thread(target=running_server.run, args=([listening],))
        thread.start()
        running_server.stop_at_end_of_input()
        assert ready.wait(20)
        response = httpx.post(f"http://127.0.0.1:{address[1]}/invocations", content=b"x", trust_env=False)
        os.write(writer, b"input")
        os.close(writer)
        thread.join(20)
    os.close(reader)
    assert not thread.is_alive()
    assert response.text == '{"score":0.5}\n'
    assert "server" not in response.headers
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


class Recorder(asyncio.Transport):
    """A transport that records the data written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record data."""
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """Return whether the transport is closed."""
        return self.closed

    def close(self) -> None:
        """Close the transport."""
        self.closed = True


def test_writes_of_one_iteration_are_joined() -> None:
    """Head and body are one write; close() sends queued data; later data is dropped."""

    async def write_in_two_iterations() -> list[bytes]:
        recorder = Recorder()
        transport = CoalescingTransport(recorder)
        transport.write(b"head ")
        transport.write(b"body")
        assert recorder.written == []
        await asyncio.sleep(0)
        transport.write(b"more")
        transport.close()
        transport.write(b"too late")
        await asyncio.sleep(0)
        assert transport.get_extra_info("peername") == "somebody"
        return recorder.written

    assert asyncio.run(write_in_two_iterations()) == [b"head body", b"more"]


def test_large_responses_arrive_complete() -> None:
    """Bodies of any size are complete, also if they are larger than all buffers."""
    sizes = [1, 5_000_000, 0, 70_000]
    bodies = [os.urandom(size) for size in sizes]

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        body = await whole_body(receive)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    ready = Event()
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        running_server = Server(echo, ready.set)
        thread = Thread(target=running_server.run, args=([listening],))
        thread.start()
        assert ready.wait(20)
        with httpx.Client(trust_env=False) as client:
            responses = [client.post(url, content=body).content for body in bodies * 3]
        running_server.stop()
        thread.join(20)
    assert responses == bodies * 3


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """The host and the port of a server that responds with scores."""
    ready = Event()
    with listen("127.0.0.1", 0) as listening:
        running_server = Server(score_app, ready.set)
        thread = Thread(target=running_server.run, args=([listening],))
        thread.start()
        assert ready.wait(20)
        yield listening.getsockname()
        running_server.stop()
        thread.join(20)


def test_large_request_head_is_rejected(address: tuple[str, int]) -> None:
    """For a head beyond 64 KiB the status is 400, and the connection is closed."""
    with socket.create_connection(address, 20) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nX-A: ")
        response = b""
        with suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"a" * 10_000)
            while part := connection.recv(4096):
                response += part
    assert not response or response.startswith(b"HTTP/1.1 400 ")
    assert httpx.post(f"http://127.0.0.1:{address[1]}/invocations", content=b"x", trust_env=False).status_code == 200


def test_large_bodies_do_not_count_as_heads(address: tuple[str, int]) -> None:
    """Consecutive requests with large bodies on one connection have responses."""
    with socket.create_connection(address, 20) as connection:
        for body in [b"x" * 1_000_000, b"", b"y" * 200_000]:
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_incomplete_request_head_times_out(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The connection of a client that stops in the request head is closed."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with socket.create_connection(request.getfixturevalue("address"), 20) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\n")
        assert connection.recv(4096) == b""
