"""Live traffic: what reaches an endpoint, how fast, and what becomes of trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.errors import EndpointError, SettingsError
from runner.records.payloads import Format
from runner.records.templates import Template
from runner.sources.dataset import Dataset
from runner.stages.traffic import Traffic, TrafficStage
from tests.conftest import DEMO, untracked
from tests.golden import Golden
from tests.sources.reading import DATA

LINES = (DEMO / "traffic.jsonl").read_text().splitlines()
MEDIA: Format = "application/jsonlines"
TOKEN = "s3cret"
SECONDS = (r" in \d+\.\d s", " in {seconds} s")


@dataclass
class Listener:
    """An endpoint that writes down what it is sent, and answers what it is told to."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    seen: list[tuple[dict[str, str], str]] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> BaseHTTPRequestHandler:
        """Return the handler of a connection."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status = listener.statuses[len(listener.seen) % len(listener.statuses)] if listener.statuses else 200
                listener.seen.append((dict(self.headers.items()), body))
                self.send_response(status)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"told")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler(*arguments)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Yield a listening endpoint."""
    found = Listener()
    server = ThreadingHTTPServer(("127.0.0.1", 0), found)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/endpoints/e/invocations"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def traffic(url: str, **changes: Any) -> Traffic:
    """Return traffic of the quickstart's rows, fast."""
    dataset = Dataset(str(DEMO / "traffic.jsonl"), DATA, "data.traffic")
    token = changes.pop("token", None)
    template = changes.pop("template", Template(MEDIA, None, None, None))
    usual: dict[str, Any] = {"rate": 1e6, "batch_rows": 1, "count": 6, "loop": False, "rescale": {}}
    usual |= {"timeout_seconds": 5.0, "token_env": "SHAPWATCH_TOKEN"}
    stage = TrafficStage(kind="traffic", url=url, **(usual | changes))
    return Traffic(stage, dataset, template, MEDIA, token, untracked)


def test_requests_are_those_of_the_notebook(listener: Listener, golden: Golden) -> None:
    """Bodies, media types and inference ids are what the notebook's thread sends."""
    outcome = traffic(listener.url).run()
    assert outcome.succeeded
    golden(outcome.message, SECONDS)
    assert [body for _, body in listener.seen] == LINES[:6]
    headers = [headers for headers, _ in listener.seen]
    assert [each["X-Amzn-SageMaker-Inference-Id"] for each in headers] == list("012345")
    assert {(each["Content-Type"], each["Accept"]) for each in headers} == {(MEDIA, MEDIA)}
    assert not any("Authorization" in each for each in headers)


def test_mini_batches_token_and_incidents(listener: Listener) -> None:
    """Records travel together, the token goes along, a factor changes its feature; the dataset starts anew."""
    count = len(LINES) + 2
    traffic(listener.url, batch_rows=50, count=count, token=TOKEN, rescale={"column_0": 0}).run()
    assert sum(len(body.splitlines()) for _, body in listener.seen) == count
    assert [headers["X-Amzn-SageMaker-Inference-Id"] for headers, _ in listener.seen][:3] == ["0", "50", "100"]
    assert listener.seen[0][0]["Authorization"] == f"Bearer {TOKEN}"
    assert listener.seen[-1][1].splitlines()[-1].startswith('{"features":[0.0,')


def test_the_rate_is_kept(listener: Listener) -> None:
    """Twenty requests a second take their time."""
    start = time.monotonic()
    traffic(listener.url, rate=20.0).run()
    assert 0.25 <= time.monotonic() - start < 2


def test_failures_are_counted_and_do_not_stop_it(listener: Listener, golden: Golden) -> None:
    """Each kind of bad answer is counted, with status and body of the answer."""
    listener.statuses = [200, 503, 400]
    outcome = traffic(listener.url).run()
    assert not outcome.succeeded
    golden(outcome.message, SECONDS)
    assert len(listener.seen) == 6


def test_an_endpoint_that_only_fails_is_left_alone(listener: Listener, golden: Golden) -> None:
    """After ten failures in a row there are no more requests."""
    listener.statuses = [500]
    with golden.raises(EndpointError) as caught:
        traffic(listener.url, count=60).run()
    assert caught.value.url == listener.url
    assert len(listener.seen) == 10


def test_a_refused_connection_is_an_error_with_the_url(golden: Golden) -> None:
    """It has no status, as there was no answer."""
    with golden.raises(EndpointError) as caught:
        traffic("http://127.0.0.1:9/x", count=60).run()
    assert (caught.value.url, caught.value.status) == ("http://127.0.0.1:9/x", None)


def test_it_loops_until_interrupted(listener: Listener, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """An endless run that is interrupted succeeds with its counts; one with an end is interrupted as usual."""

    def interrupted(self: Traffic, *_: Any) -> None:
        if len(listener.seen) % 500 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Traffic, "_check", interrupted)
    outcome = traffic(listener.url, loop=True, batch_rows=7).run()
    assert outcome.succeeded
    assert len(listener.seen) == 500
    assert sum(len(body.splitlines()) for _, body in listener.seen) == 3_500
    golden(outcome.message, SECONDS)
    with pytest.raises(KeyboardInterrupt):
        traffic(listener.url, count=600).run()


def test_a_factor_that_makes_a_value_infinite_is_refused(listener: Listener, golden: Golden) -> None:
    """No request can carry it, so nothing is sent."""
    with golden.raises(SettingsError) as caught:
        traffic(listener.url, rescale={"column_0": 1e308}).run()
    (problem,) = caught.value.problems
    assert problem.startswith("data.traffic: ")
    assert not listener.seen
