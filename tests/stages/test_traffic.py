"""`stage=traffic`: requests to an endpoint, their rate, and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.errors import EndpointError, SettingsError
from runner.models import response
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
    """An endpoint that records requests, and answers with the given statuses in turn."""

    url: str = ""
    body: str = "body"
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> BaseHTTPRequestHandler:
        """Return the handler of a connection."""
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status = (
                    listener.statuses[len(listener.requests) % len(listener.statuses)] if listener.statuses else 200
                )
                listener.requests.append((dict(self.headers.items()), body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(listener.body)))
                self.end_headers()
                self.wfile.write(listener.body.encode())

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler(*arguments)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Yield a listening endpoint."""
    endpoint = Listener()
    server = ThreadingHTTPServer(("127.0.0.1", 0), endpoint)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/endpoints/e/invocations"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield endpoint
    server.shutdown()
    thread.join()
    server.server_close()


def traffic(url: str, **changes: Any) -> Traffic:
    """Return a stage that sends the rows of the quickstart without a rate limit."""
    dataset = Dataset(str(DEMO / "traffic.jsonl"), DATA, "data.traffic")
    token = changes.pop("token", None)
    template = changes.pop("template", Template(MEDIA, None, None, None))
    defaults: dict[str, Any] = {"rate": 1e6, "batch_rows": 1, "count": 6, "loop": False, "rescale": {}}
    defaults |= {"timeout_seconds": 5.0, "token_env": "SHAPWATCH_TOKEN"}
    stage = TrafficStage(kind="traffic", url=url, **(defaults | changes))
    return Traffic(stage, dataset, template, MEDIA, token, untracked)


def test_requests_match_the_notebook(listener: Listener, golden: Golden) -> None:
    """Bodies, media types and inference ids equal those of the notebook."""
    outcome = traffic(listener.url).run()
    assert outcome.succeeded
    golden(outcome.message, SECONDS)
    assert [body for _, body in listener.requests] == LINES[:6]
    headers = [headers for headers, _ in listener.requests]
    assert [each["X-Amzn-SageMaker-Inference-Id"] for each in headers] == list("012345")
    assert {(each["Content-Type"], each["Accept"]) for each in headers} == {(MEDIA, MEDIA)}
    assert not any("Authorization" in each for each in headers)


def test_mini_batches_token_and_rescaled_feature(listener: Listener) -> None:
    """Requests have several records and the token; after the last row the dataset is repeated."""
    count = len(LINES) + 2
    traffic(listener.url, batch_rows=50, count=count, token=TOKEN, rescale={"column_0": 0}).run()
    assert sum(len(body.splitlines()) for _, body in listener.requests) == count
    assert [headers["X-Amzn-SageMaker-Inference-Id"] for headers, _ in listener.requests][:3] == ["0", "50", "100"]
    assert listener.requests[0][0]["Authorization"] == f"Bearer {TOKEN}"
    assert listener.requests[-1][1].splitlines()[-1].startswith('{"features":[0.0,')


def test_rate_limits_the_requests(listener: Listener) -> None:
    """Six requests at 20 per second take at least 0.25 s."""
    start = time.monotonic()
    traffic(listener.url, rate=20.0).run()
    assert 0.25 <= time.monotonic() - start < 2


def test_failures_are_counted_and_do_not_stop_the_run(listener: Listener, golden: Golden) -> None:
    """Failures are counted by status, with the body of a response."""
    listener.statuses = [200, 503, 400]
    outcome = traffic(listener.url).run()
    assert not outcome.succeeded
    golden(outcome.message, SECONDS)
    assert len(listener.requests) == 6


def test_run_stops_after_ten_failures(listener: Listener, golden: Golden) -> None:
    """Ten failures in a row are an error with the URL."""
    listener.statuses = [500]
    with golden.raises(EndpointError) as caught:
        traffic(listener.url, count=60).run()
    assert caught.value.url == listener.url
    assert len(listener.requests) == 10


def test_responses_with_secrets_or_without_end(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint may repeat the token and the query; of a response, a limited number of bytes is read."""
    monkeypatch.setattr(response, "MAX_BODY_BYTES", 3)
    outcome = traffic(listener.url, count=2).run()
    assert "exceeds 3 bytes" in outcome.message
    listener.statuses, listener.body = [403], f"{TOKEN} is no token for /x?key={TOKEN}2"
    outcome = traffic(f"{listener.url}?key={TOKEN}2", token=TOKEN, count=2).run()
    assert "403" in outcome.message
    assert TOKEN not in outcome.message


def test_refused_connection_is_an_error(golden: Golden) -> None:
    """The error has the URL, and no status."""
    with golden.raises(EndpointError) as caught:
        traffic("http://127.0.0.1:9/x", count=60).run()
    assert (caught.value.url, caught.value.status) == ("http://127.0.0.1:9/x", None)


def test_loop_runs_until_interrupted(listener: Listener, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """An interrupted endless run succeeds and prints its counts; any other run is aborted."""

    def interrupted(self: Traffic, *_: Any) -> None:
        if len(listener.requests) % 500 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Traffic, "_check", interrupted)
    outcome = traffic(listener.url, loop=True, batch_rows=7).run()
    assert outcome.succeeded
    assert len(listener.requests) == 500
    assert sum(len(body.splitlines()) for _, body in listener.requests) == 3_500
    golden(outcome.message, SECONDS)
    with pytest.raises(KeyboardInterrupt):
        traffic(listener.url, count=600).run()


def test_factor_that_makes_a_value_infinite_is_an_error(listener: Listener, golden: Golden) -> None:
    """Nothing is sent."""
    with golden.raises(SettingsError) as caught:
        traffic(listener.url, rescale={"column_0": 1e308}).run()
    (problem,) = caught.value.problems
    assert problem.startswith("data.traffic: ")
    assert not listener.requests
