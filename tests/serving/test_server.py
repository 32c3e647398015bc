"""The server: where it listens, when it says so, and what ends it. Signals are tested with stage=serve."""

from __future__ import annotations

import os
import socket
from threading import Event, Thread

import httpx
import pytest

from runner.addresses import loopback
from runner.serving import server
from runner.serving.server import Server, listen
from tests.serving.served import scores


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback(host: str) -> None:
    """Addresses that only this machine can reach are known."""
    assert loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "127.0.0.1.example.com", ""])  # noqa: S104
def test_no_loopback(host: str) -> None:
    """Any other may be somebody else's."""
    assert not loopback(host)


def test_a_taken_port_is_an_error() -> None:
    """Two cannot listen at one port."""
    with listen("127.0.0.1", 0) as listening, pytest.raises(OSError, match="Address already in use"):
        listen("127.0.0.1", listening.getsockname()[1])


def test_it_answers_once_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ready when it answers, does not say what it is made of, and ends with its input; then its port is free."""
    reader, writer = os.pipe()
    monkeypatch.setattr(server, "STANDARD_INPUT", reader)
    ready = Event()
    with listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        it = Server(scores, ready.set)
        thread = Thread(target=it.run, args=([listening],))
        thread.start()
        it.stop_at_end_of_input()
        assert ready.wait(20)
        answered = httpx.post(f"http://127.0.0.1:{address[1]}/invocations", content=b"x", trust_env=False)
        os.write(writer, b"still here")
        os.close(writer)
        thread.join(20)
    os.close(reader)
    assert not thread.is_alive()
    assert answered.text == '{"score":0.5}\n'
    assert "server" not in answered.headers
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
