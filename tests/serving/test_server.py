"""The server: listening, readiness and shutdown. Signals are tested with stage=serve."""

from __future__ import annotations

import errno
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread

import httpx
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.serving import server
from runner.serving.server import Server, listen
from runner.urls import is_loopback
from tests.formula_models import Formula, additive
from tests.processes import wait_until
from tests.serving.served import score_app
from tests.serving.test_app import CONTAINER, app_of, lines


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


def test_requests_that_a_stopping_server_cannot_answer_have_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is 503; requests that are still being read do not delay the end."""
    monkeypatch.setattr(server, "SHUTDOWN_SECONDS", 0.1)
    started, ended, ready = Event(), Event(), Event()

    def hang(features: pl.DataFrame) -> NDArray[np.float64]:
        started.set()
        assert ended.wait(20)
        return additive(features)

    app = app_of(Formula(hang))
    large = lines([[1.5]] * 10_000)
    with listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(2) as pool:
        running_server = Server(app, ready.set)
        thread = Thread(target=running_server.run, args=([listening],))
        thread.start()
        assert ready.wait(20)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}{CONTAINER}"
        post = partial(httpx.post, url, trust_env=False, timeout=20)
        responses = [pool.submit(post, content='{"features":[1.5]}')]
        assert started.wait(20)
        reader = app._exact[CONTAINER].large_requests
        responses.append(pool.submit(post, content=large))
        wait_until(lambda: reader._process is not None)
        assert reader._process
        os.kill(reader._process.pid, signal.SIGSTOP)
        running_server.stop()
        assert [response.result().status_code for response in responses] == [503, 503]
        thread.join(20)
        ended.set()
    assert not thread.is_alive()
