"""Connections: coalesced writes, slow and large requests, limits, and offers to upgrade."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event as ThreadEvent
from threading import Thread

import httpx
import orjson
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.serving import connections, server
from runner.serving.connections import CoalescingTransport, connection_limit
from runner.serving.data_capture import DataCapture
from runner.serving.server import Server, listen
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.golden import Golden
from tests.processes import wait_until
from tests.serving.served import events, respond, whole_body

Address = tuple[str, int]


@pytest.fixture(autouse=True)
def _frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check for slow clients with each tick."""
    monkeypatch.setattr(server, "TICKS_PER_CHECK", 1)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the body of the request; respond with 413 to /large without reading it."""
    is_large = scope["type"] == "http" and scope["path"] == "/large"
    try:
        body = b"too large" if is_large else await whole_body(receive)
    except ConnectionError:
        return
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413 if is_large else 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def running(app: ASGIApp = echo) -> Iterator[tuple[Server, Address]]:
    """Run a server, and yield it with its address."""
    ready = ThreadEvent()
    with listen("127.0.0.1", 0) as listening:
        running_server = Server(app, ready.set)
        thread = Thread(target=running_server.run, args=([listening],))
        thread.start()
        assert ready.wait(20)
        yield running_server, listening.getsockname()
        running_server.stop()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def shared() -> Iterator[Address]:
    """The address of a server for all tests that change nothing."""
    with running() as (_, address):
        yield address


def head(*lines: str, method: str = "POST", path: str = "/invocations", version: str = "1.1") -> bytes:
    """Return a request head."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def received(connection: socket.socket) -> bytes:
    """Return all data until the server closes the connection."""
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection, which sent no response."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


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


def test_large_responses_arrive_complete(shared: Address) -> None:
    """Bodies of any size are complete, also if they are larger than all buffers."""
    bodies = [os.urandom(size) for size in [1, 5_000_000, 0, 70_000]]
    with httpx.Client(trust_env=False) as client:
        responses = [client.post(f"http://127.0.0.1:{shared[1]}/", content=body).content for body in bodies * 3]
    assert responses == bodies * 3


def test_large_request_head_is_rejected(shared: Address) -> None:
    """For a head beyond 64 KiB the status is 400, and the connection is closed."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nX-A: ")
        response = b""
        with suppress(ConnectionError):
            for _ in range(40):
                connection.sendall(b"a" * 10_000)
            while part := connection.recv(4096):
                response += part
    assert not response or response.startswith(b"HTTP/1.1 400 ")
    assert httpx.post(f"http://127.0.0.1:{shared[1]}/invocations", content=b"x", trust_env=False).status_code == 200


def test_large_bodies_do_not_count_as_heads(shared: Address) -> None:
    """Consecutive requests with large bodies on one connection have responses."""
    with socket.create_connection(shared, 20) as connection:
        for body in [b"x" * 1_000_000, b"", b"y" * 200_000]:
            connection.sendall(head(f"Content-Length: {len(body)}") + body)
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < len(body) or b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"1\r\nx\r\n" * 60_000, id="small chunks"),
        pytest.param(b"1;" + b"e" * 300_000, id="chunk extension"),
        pytest.param(b"0\r\n" + b"X-A: 1\r\n" * 40_000, id="many trailers"),
        pytest.param(b"0\r\nX-A: " + b"1" * 300_000, id="long trailer"),
    ],
)
def test_chunked_body_must_be_mostly_data(shared: Address, rest: bytes) -> None:
    """The status is 400 if chunk sizes, extensions or trailers are much larger than the body."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        connection.sendall(rest)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_chunked_body_in_lines_is_read(shared: Address) -> None:
    """Short lines as chunks, and trailers, are accepted."""
    lines = [b"%d,2.5,abc\n" % number for number in range(30_000)]
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(head("Transfer-Encoding: chunked", "Connection: close"))
        for start in range(0, len(lines), 1000):
            connection.sendall(b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines[start : start + 1000]))
        connection.sendall(b"0\r\nX-Checksum: 1\r\n\r\n")
        assert received(connection).endswith(b"\r\n\r\n" + b"".join(lines))


@pytest.mark.parametrize("leaves", [socket.SHUT_WR, None], ids=["half", "whole"])
def test_client_that_has_gone_receives_no_response(tmp_path: Path, leaves: int | None) -> None:
    """The capture contains that it was not delivered, also if the app does not wait for a disconnect."""
    gone = ThreadEvent()

    async def respond_later(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await whole_body(receive)
        await asyncio.to_thread(gone.wait, 20)
        await asyncio.sleep(0.05)
        await respond(send, b"1")

    with running(DataCapture(respond_later, str(tmp_path), min_free_bytes=0)) as (_, address):
        with socket.create_connection(address, 20) as connection:
            connection.sendall(head("Content-Length: 2", "Content-Type: application/json") + b"{}")
            if leaves is not None:
                connection.shutdown(leaves)
                gone.set()
                assert received(connection) == b""
        gone.set()
    (event,) = events(tmp_path)
    assert not event.delivered


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param(H2C, id="h2c"),
        pytest.param(("upgrade: h2c", "connection: keep-alive", "connection: upgrade"), id="two connection headers"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), id="websocket"),
        pytest.param(("UPGRADE: TLS/1.2, h2c", "CONNECTION: UPGRADE"), id="TLS"),
        pytest.param(("Upgrade: h2c",), id="without connection header"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 60, 10_000])
def test_offer_to_upgrade_is_ignored(shared: Address, offer: tuple[str, ...], size: int) -> None:
    """The request is answered, and so are the next ones on the connection, for any boundaries of packets."""
    chunked = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    data = head(*offer, "Content-Length: 4") + b"body" + head(*offer, "Transfer-Encoding: chunked") + chunked
    data += head(*offer, method="GET") + head("Content-Length: 3", "Connection: close") + b"end"
    with socket.create_connection(shared, 20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        responses = received(connection).split(b"HTTP/1.1 200 OK\r\n")
    assert [response.partition(b"\r\n\r\n")[2] for response in responses[1:]] == [b"body", b"abcde", b"", b"end"]


def test_offers_of_a_long_pipeline_are_ignored(shared: Address) -> None:
    """Thousands of requests in one packet have responses."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(head(*H2C, method="GET") * 1500 + head("Connection: close"))
        assert received(connection).count(b"HTTP/1.1 200 OK\r\n") == 1501


@pytest.mark.parametrize(
    "data", [b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n"]
)
def test_other_protocols_are_rejected(shared: Address, data: bytes) -> None:
    """The status is 400 for a tunnel, and for TLS."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(data)
        assert received(connection).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("header", ["Connection: close", "X-A: 1"])
def test_response_to_a_large_request_arrives(shared: Address, version: str, header: str) -> None:
    """A client that first sends its whole body reads the early response."""
    body = bytes(9_000_000)
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(head(header, f"Content-Length: {len(body)}", path="/large", version=version))
        time.sleep(0.02)
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        assert received(connection).startswith(b"HTTP/1.1 413 ")


def test_valid_requests_before_an_invalid_one_are_answered(shared: Address) -> None:
    """Pipelined requests have responses; then the connection is closed."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall((head("Content-Length: 2") + b"ok") * 3 + b"GET / HTTP/x\r\n\r\n" + bytes(300_000))
        responses = received(connection)
    assert responses.count(b"HTTP/1.1 200 OK\r\n") == responses.count(b"HTTP/1.1 ") == 3


def test_connection_continues_after_an_early_response(shared: Address) -> None:
    """The rest of a small body is ignored."""
    with socket.create_connection(shared, 20) as connection:
        connection.sendall(head("Content-Length: 5", path="/large"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"12345" + head("Connection: close", "Content-Length: 2") + b"ok")
        assert received(connection).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize(
    ("data", "response"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"POST /invocations HTTP/1.1\r\n", b"", id="head"),
        pytest.param(head("Content-Length: 4") + b"bodyPOST / HTTP/1.1\r\nX-A: ", b"HTTP/1.1 200 ", id="second head"),
        pytest.param(head("Content-Length: 999") + b"b", b"HTTP/1.1 408 ", id="body"),
        pytest.param(head("Transfer-Encoding: chunked") + b"1\r\nx\r\n", b"HTTP/1.1 408 ", id="chunks"),
        pytest.param(head("Content-Length: 999", path="/large") + b"b", b"HTTP/1.1 413 ", id="rejected body"),
    ],
)
def test_slow_request_times_out(monkeypatch: pytest.MonkeyPatch, data: bytes, response: bytes) -> None:
    """The connection is closed although the client sends a byte from time to time."""
    monkeypatch.setattr(connections, "CLIENT_SECONDS", 0.2)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    trickle = b"\r\n" if not data else b"x"
    with running() as (_, address), socket.create_connection(address, 20) as connection:
        connection.sendall(data)
        answer = b""
        connection.settimeout(0.05)
        end = time.monotonic() + 20
        with suppress(ConnectionError):
            while time.monotonic() < end:
                with suppress(TimeoutError):
                    connection.sendall(trickle if b"chunked" not in data else b"")
                    if not (part := connection.recv(4096)):
                        break
                    answer += part
        assert time.monotonic() < end
    assert answer.startswith(response)
    assert bool(answer) == bool(response)


def test_fast_body_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a body grows with the received bytes."""
    monkeypatch.setattr(connections, "CLIENT_SECONDS", 0.2)
    with running() as (_, address), socket.create_connection(address, 20) as connection:
        connection.sendall(head("Content-Length: 160000", "Connection: close"))
        for _ in range(8):
            connection.sendall(bytes(20_000))
            time.sleep(0.1)
        assert received(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("limit", ["CLIENT_SECONDS", "MAX_RESPONSES_BYTES"])
@pytest.mark.parametrize("count", [1, 3])
def test_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch, limit: str, count: int) -> None:
    """Its responses take memory only for a time, and only up to a size; further requests do not help it."""
    monkeypatch.setattr(connections, limit, 0.2)
    body = bytes(5_000_000)

    async def respond_at_length(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await whole_body(receive)
        await respond(send, body)

    with running(respond_at_length) as (running_server, address), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall((head("Content-Length: 2") + b"{}") * count)
        wait_until(lambda: running_server.server_state.connections)
        wait_until(lambda: not running_server.server_state.connections)


def test_waiting_client_does_not_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request may be answered later than the time for heads and bodies."""
    monkeypatch.setattr(connections, "CLIENT_SECONDS", 0.1)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    with running(slow) as (_, address), socket.create_connection(address, 20) as connection:
        connection.sendall(head("Content-Length: 2", "Connection: close") + b"ok")
        assert received(connection).endswith(b"\r\n\r\nok")


def test_inactive_connections_make_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Above the limit the longest inactive connection is closed, and the active ones are answered."""
    monkeypatch.setattr(connections, "connection_limit", lambda: 8)
    with caplog.at_level(logging.WARNING, "shapwatch"), running() as (_, address), ExitStack() as stack:
        active = stack.enter_context(socket.create_connection(address, 20))
        idle = []
        for number in range(40):
            idle.append(stack.enter_context(socket.create_connection(address, 20)))
            if number % 2:
                idle[-1].sendall(b"POST / HTTP/1.1\r\n" if number % 4 == 1 else head("Content-Length: 9") + b"x")
            active.sendall(head("Content-Length: 2") + b"ok")
            assert active.recv(4096).endswith(b"ok")
        wait_until(lambda: sum(map(is_closed, idle[:33])) == 33)
        assert not any(map(is_closed, idle[33:]))
    golden("\n".join(caplog.messages))


def test_connections_are_rejected_if_all_others_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is 503; the waiting clients are answered later."""
    monkeypatch.setattr(connections, "connection_limit", lambda: 4)
    gate = ThreadEvent()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await asyncio.to_thread(gate.wait, 20)
        await echo(scope, receive, send)

    with running(slow) as (running_server, address), ExitStack() as stack:
        waiting = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(4)]
        for connection in waiting:
            connection.sendall(head("Content-Length: 2", "Connection: close") + b"ok")
        wait_until(lambda: len(running_server.server_state.tasks) == 4)
        for _ in range(10):
            with socket.create_connection(address, 20) as connection:
                assert received(connection).startswith(b"HTTP/1.1 503 ")
        gate.set()
        assert all(received(connection).endswith(b"ok") for connection in waiting)


def test_bodies_in_memory_are_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Above the limit the connections with inactive bodies are closed, and an active one is answered."""
    monkeypatch.setattr(connections, "MAX_BODIES_BYTES", 1_000_000)
    with caplog.at_level(logging.WARNING, "shapwatch"), running() as (running_server, address), ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection(address, 20)) for _ in range(20)]
        for connection in stalled:
            connection.sendall(head("Content-Length: 400001") + bytes(400_000))
        wait_until(lambda: sum(map(is_closed, stalled)) == 18)
        state = running_server.server_state
        wait_until(lambda: state.body_bytes == 800_000)
        with socket.create_connection(address, 20) as connection:
            connection.sendall(head("Content-Length: 900000", "Connection: close") + bytes(900_000))
            assert received(connection).startswith(b"HTTP/1.1 200 ")
    assert state.body_bytes == 0
    golden("\n".join(caplog.messages))


@pytest.mark.parametrize(("descriptors", "limit"), [(1024, 960), (128, 64), (20, 5), (10**6, 2**14), (-1, 2**14)])
def test_limit_leaves_descriptors(monkeypatch: pytest.MonkeyPatch, descriptors: int, limit: int) -> None:
    """Connections use the file descriptors of the process except for a reserve."""
    monkeypatch.setattr("runner.serving.connections.resource.getrlimit", lambda _: (descriptors, descriptors))
    assert connection_limit() == limit


def test_server_with_slow_clients_stops_at_once() -> None:
    """Idle connections, unfinished heads and rejected bodies do not delay the stop."""
    with running() as (running_server, address), ExitStack() as stack:
        rejected = head("Content-Length: 99", path="/large")
        for data in (
            b"",
            b"POST / HTTP/1.1\r\n",
            head("Content-Length: 9", "Connection: close", path="/large"),
            rejected,
        ):
            stack.enter_context(socket.create_connection(address, 20)).sendall(data)
        answered = stack.enter_context(socket.create_connection(address, 20))
        answered.sendall(rejected + bytes(99))
        assert answered.recv(4096).startswith(b"HTTP/1.1 413 ")
        wait_until(lambda: len(running_server.server_state.connections) == 5)
        start = time.monotonic()
        running_server.stop()
        wait_until(lambda: not running_server.server_state.connections)
    assert time.monotonic() - start < connections.LINGER_SECONDS / 2


@pytest.mark.soak
def test_honest_clients_are_served_among_hostile_ones() -> None:
    """Each of their requests has a response, which is captured; the benchmark prints the share of their rate."""
    command = [sys.executable, "-m", "benchmarks.hostile", "--seconds", "30", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    rows = [orjson.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["hostile"] for row in rows] == [False, True], done.stdout + done.stderr
    assert all(0 < row["answered"] <= row["captured"] for row in rows), done.stdout
