"""Data capture: the captured events, byte for byte, and unchanged requests and responses."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event as ThreadEvent
from threading import Thread
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.domain.executions import Window
from runner.domain.records import PROBE, Payload
from runner.errors import SettingsError
from runner.probes import probe_id
from runner.records import payloads
from runner.records.capture import decode, encode
from runner.serving import CaptureSettings
from runner.serving.data_capture import CaptureEnvironment, DataCapture, new_id
from runner.sources.endpoint import EndpointSource
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.object_store import s3_server
from tests.processes import wait_until
from tests.serving.served import (
    SCORE_BODY,
    call,
    events,
    fixed_app,
    lines,
    process,
    respond,
    score_app,
    serving,
    whole_body,
)
from tests.sources.reading import read_window

PUBLISHED = (CHECKOUT / "tests" / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)
JSON = (b"content-type", b"application/json")
NO_FLUSH_SECONDS = 600


def captured_app(
    app: ASGIApp, root: object, environment: CaptureEnvironment | None = None, **settings: Any
) -> DataCapture:
    """Return a capture that writes only when it is closed."""
    settings = {"flush_seconds": NO_FLUSH_SECONDS, "min_free_bytes": 0, **settings}
    return DataCapture(app, str(root), environment=environment, **settings)


def payload_pairs(root: Path) -> list[tuple[Payload | None, Payload | None]]:
    """Return the request and the response of each captured event."""
    return [(event.input, event.output) for event in events(root)]


@pytest.mark.parametrize("line", PUBLISHED, ids=["one record", "mini-batch"])
def test_published_lines_are_reproduced(tmp_path: Path, line: bytes) -> None:
    """The capture of the notebook's bodies equals the notebook's lines, byte for byte."""
    event = decode(line)
    assert event.input is not None
    assert event.output is not None
    app = captured_app(
        fixed_app(event.output.data.encode(), content_type=b"application/jsonlines"),
        tmp_path,
        json_content_types=["application/jsonlines"],
        environment=CaptureEnvironment(
            clock=lambda: event.at + timedelta(milliseconds=585), new_id=lambda: event.event_id
        ),
    )
    with serving(app) as url:
        response = httpx.post(
            f"{url}/invocations", content=event.input.data, headers={"Content-Type": "application/jsonlines"}
        )
    assert response.content == event.output.data.encode()
    (file,) = tmp_path.rglob("*.jsonl")
    assert file.relative_to(tmp_path).as_posix().startswith("2023/01/19/05/31-46-585-")
    assert file.read_bytes() == line


def test_defaults_equal_those_of_conf() -> None:
    """The defaults of CaptureSettings equal conf/data_capture."""
    configured = OmegaConf.to_container(OmegaConf.load(CHECKOUT / "conf" / "data_capture" / "endpoint.yaml"))
    defaults = asdict(CaptureSettings())
    assert configured == {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (b"text/csv", "CSV"),
        (b"text/csv; charset=utf-8", "CSV"),
        (b"Text/CSV ;charset=utf-8", "CSV"),
        (b"application/json", "JSON"),
        (b"APPLICATION/JSON", "JSON"),
        (b"application/jsonlines", "BASE64"),
        (b"text/csvx", "BASE64"),
        (b"application/\xe9", "BASE64"),
        (b"", "BASE64"),
        (None, "BASE64"),
    ],
)
def test_media_type_selects_the_encoding(tmp_path: Path, header: bytes | None, encoding: str) -> None:
    """Parameters and upper case are ignored but recorded; other types become BASE64."""
    app = captured_app(fixed_app(b"1,2\n", content_type=header or b""), tmp_path)
    call(app, b"1,2\n", headers=[] if header is None else [(b"content-type", header)])
    app.close()
    data = "MSwyCg==" if encoding == "BASE64" else "1,2\n"
    expected = Payload((header or b"").decode("latin-1"), data, encoding)
    assert payload_pairs(tmp_path) == [(expected, expected)]


def test_content_types_replace_the_defaults(tmp_path: Path) -> None:
    """With json_content_types=[application/jsonlines], application/json is captured as BASE64."""
    app = captured_app(score_app, tmp_path, json_content_types=["Application/JsonLines"], csv_content_types=[])
    for name in (b"application/jsonlines", b"application/json", b"text/csv"):
        call(app, b"1", headers=[(b"content-type", name)])
    app.close()
    assert [side.encoding for side, _ in payload_pairs(tmp_path) if side] == ["JSON", "BASE64", "BASE64"]


@given(st.binary() | st.text().map(str.encode), st.binary() | st.text().map(str.encode), st.integers(1, 5))
def test_any_body_is_captured(
    tmp_path_factory: pytest.TempPathFactory, request: bytes, response: bytes, chunks: int
) -> None:
    """Any bytes in any number of chunks are read back from the capture."""
    root = tmp_path_factory.mktemp("any")
    size = len(request) // chunks + 1
    parts = [request[i : i + size] for i in range(0, len(request), size)] or [b""]
    app = captured_app(fixed_app(response), root)
    sent, raised = call(app, *parts, headers=[JSON])
    assert raised is None
    assert sent[1]["body"] == response
    app.close()
    for side, body in zip(*payload_pairs(root), [request, response], strict=True):
        assert side is not None
        if side.encoding == "BASE64":
            assert base64.b64decode(side.data) == body
            with pytest.raises(UnicodeDecodeError):
                body.decode()
        else:
            assert payloads.body_text(side).encode() == body


def test_chunks_are_passed_on_without_delay(tmp_path: Path) -> None:
    """A client receives the first chunk before the app sends the last one; the event contains both."""
    first_chunk_received = ThreadEvent()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        received = await whole_body(receive)
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        await send({"type": "http.response.body", "body": received, "more_body": True})
        while not first_chunk_received.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"]"})

    def body() -> Iterator[bytes]:
        yield from (b"[", b"1,", b"2,", b"3")

    with (
        serving(captured_app(app, tmp_path)) as url,
        httpx.stream(
            "POST", f"{url}/invocations", content=body(), headers={"Content-Type": "application/json"}
        ) as response,
    ):
        chunks = response.iter_raw()
        assert next(chunks) == b"[1,2,3"
        assert lines(tmp_path) == []
        first_chunk_received.set()
        assert b"".join(chunks) == b"]"
    expected = [Payload("application/json", text, "JSON") for text in ("[1,2,3", "[1,2,3]")]
    assert payload_pairs(tmp_path) == [tuple(expected)]


def test_only_successful_invocations_are_captured(tmp_path: Path) -> None:
    """Other methods, paths and statuses are not captured."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status = int(dict(scope["headers"]).get(b"x-status", b"200"))
        await respond(send, b"{}", status=status)

    capture = captured_app(app, tmp_path)
    for path in ("/invocations", "/endpoints/churn/invocations", "/ping", "/invocations/", "/other-invocations"):
        call(capture, b"{}", path=path)
    for method in ("GET", "PUT", "HEAD"):
        call(capture, method=method)
    for status in (b"100", b"199", b"201", b"204", b"299", b"300", b"304", b"400", b"424", b"500"):
        call(capture, b"{}", headers=[(b"x-status", status)])
    capture.close()
    assert capture.status["captured"] == len(events(tmp_path)) == 2 + 3


def test_paths_of_invocations_are_configurable(tmp_path: Path) -> None:
    """`paths` lists the endings of invocation paths."""
    capture = captured_app(score_app, tmp_path, paths=("/predict", ":score"))
    for path in ("/v1/predict", "/models/churn:score", "/invocations"):
        call(capture, b"{}", path=path)
    capture.close()
    assert len(events(tmp_path)) == 2


@pytest.mark.parametrize("options", [("REQUEST",), ("RESPONSE",)])
def test_only_the_configured_sides_are_captured(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The other side of an invocation is None."""
    capture = captured_app(score_app, tmp_path, capture_options=options)
    call(capture, b"{}", headers=[JSON])
    capture.close()
    ((request, response),) = payload_pairs(tmp_path)
    assert (request is not None, response is not None) == ("REQUEST" in options, "RESPONSE" in options)


def test_inference_ids_and_custom_attributes_are_captured(tmp_path: Path) -> None:
    """Both headers are captured unchanged, and only if the client sent them."""
    names = (b"x-amzn-sagemaker-inference-id", b"x-amzn-sagemaker-custom-attributes")
    values = [(b"7", b"a=1,b"), (b"\xc3\xa9", b"\xc3\xa9"), (b"\xe9", b"\xff"), (b"", b"")]
    capture = captured_app(score_app, tmp_path)
    call(capture, b"{}")
    for pair in values:
        call(capture, b"{}", headers=list(zip(names, pair, strict=True)))
    capture.close()
    captured = [(event.inference_id, event.custom_attributes) for event in events(tmp_path)]
    assert captured == [(None, ()), ("7", ("a=1,b",)), ("é", ("é",)), ("é", ("ÿ",)), ("", ())]
    assert b"inferenceId" not in lines(tmp_path)[0]


def test_each_event_has_its_own_id_and_time(tmp_path: Path) -> None:
    """Ids are unique; times are the arrival times in UTC."""
    before = datetime.now(UTC).replace(microsecond=0)
    capture = captured_app(score_app, tmp_path)
    for _ in range(3):
        call(capture, b"{}")
    capture.close()
    captured = events(tmp_path)
    assert len({event.event_id for event in captured}) == 3
    assert all(before <= event.at <= datetime.now(UTC) for event in captured)


def test_events_are_in_the_folder_of_their_hour(tmp_path: Path) -> None:
    """The monitor's reader finds each event in its window."""
    start = datetime(2026, 1, 5, 8, 59, 57, tzinfo=UTC)
    ticks = count()
    response = b'{"score":0.5}\n'
    capture = captured_app(
        fixed_app(response), tmp_path, CaptureEnvironment(clock=lambda: start + timedelta(seconds=next(ticks)))
    )
    headers = [JSON, (b"x-amzn-sagemaker-custom-attributes", b"x")]
    for number in range(8):
        probe = [(b"x-amzn-sagemaker-inference-id", probe_id(number).encode())] if number == 7 else []
        call(capture, b'{"features":[%d]}' % number, headers=headers + probe)
    capture.close()
    assert len(list(tmp_path.rglob("09/00-00-000-*.jsonl"))) == len(list(tmp_path.rglob("08/59-57-000-*.jsonl"))) == 1
    tree = EndpointSource("endpoint", str(tmp_path), 1)
    captured = read_window(tree, Window.parse("2026-01-05T09"))
    assert (captured.events, captured.outside, captured.probes, captured.rejected) == (4, 3, 1, {})
    assert (captured.rows, captured.scores) == ([(3,), (4,), (5,), (6,)], [[0.5]] * 4)


def test_claimed_probes_are_captured_as_traffic(tmp_path: Path) -> None:
    """An id with the prefix of monitors and without their signature is removed."""
    capture = captured_app(score_app, tmp_path)
    for inference_id in (f"{PROBE}-1", PROBE, "1", probe_id(1)):
        call(capture, b"{}", headers=[JSON, (b"x-amzn-sagemaker-inference-id", inference_id.encode())])
    capture.close()
    assert [event.inference_id for event in events(tmp_path)] == [None, None, "1", probe_id(1)]


def test_fast_reader_reads_captured_events(tmp_path: Path) -> None:
    """3,000 captured events, with and without custom attributes, are read by the fast reader."""
    at = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
    capture = captured_app(score_app, tmp_path, CaptureEnvironment(clock=lambda: at))
    for number in range(3000):
        more = [(b"x-amzn-sagemaker-custom-attributes", b"n=%d" % number)] if number % 2 else []
        call(capture, b'{"features":[%d,1.5]}' % number, headers=[JSON, *more])
    capture.close()
    captured = read_window(EndpointSource("endpoint", str(tmp_path), 0), Window.parse("2026-01-05T09"))
    assert sorted(captured.rows) == [(number, 1.5) for number in range(3000)]


def test_sampling_percentage_is_the_captured_share(tmp_path: Path) -> None:
    """The random numbers decide which invocations are captured."""
    capture = captured_app(
        score_app, tmp_path, CaptureEnvironment(draw=random.Random(7).random), sampling_percentage=20
    )
    for number in range(500):
        call(capture, b"%d" % number, headers=[JSON])
    capture.close()
    rng = random.Random(7)
    expected = [str(number) for number in range(500) if rng.random() < 0.2]
    assert [side.data for side, _ in payload_pairs(tmp_path) if side] == expected
    assert 70 < len(expected) < 130
    assert capture.status == {
        "CaptureStatus": "Stopped",
        "captured": len(expected),
        "dropped": 0,
        "CurrentSamplingPercentage": 20,
    }


def test_zero_percent_captures_nothing(tmp_path: Path) -> None:
    """With sampling_percentage=0, there are no events."""
    capture = captured_app(score_app, tmp_path, sampling_percentage=0)
    for _ in range(50):
        call(capture, b"{}")
    assert capture.status["CaptureStatus"] == "Started"
    capture.close()
    assert events(tmp_path) == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"sampling_percentage": 101}, id="sampling_percentage"),
        pytest.param({"sampling_percentage": float("nan")}, id="NaN"),
        pytest.param({"capture_options": ["Input"]}, id="capture_options"),
        pytest.param({"json_content_types": "application/json"}, id="json_content_types"),
        pytest.param({"paths": "/predict"}, id="paths"),
        pytest.param({"flush_secs": 3}, id="unknown"),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, Any], golden: Golden) -> None:
    """The error names the key and the value."""
    with golden.raises(SettingsError) as caught:
        captured_app(score_app, "nowhere", **settings)
    (key,) = settings
    assert all(problem.startswith(key) for problem in caught.value.problems)


@pytest.mark.parametrize("side", ["request", "response", "line"])
def test_too_large_bodies_are_dropped(tmp_path: Path, side: str) -> None:
    """Bodies or lines beyond 32 MiB are passed on but not captured."""
    chunk = b"\n" * 2**20
    body = {"request": [chunk] * 33, "response": [b""], "line": [chunk] * 20}[side]
    capture = captured_app(fixed_app(*([chunk] * 33 if side == "response" else [b"{}"])), tmp_path)
    sent, _ = call(capture, *body, headers=[JSON])
    assert sum(len(message.get("body", b"")) for message in sent) == (33 * 2**20 if side == "response" else 2)
    capture.close()
    assert capture.status["dropped"] == 1
    assert events(tmp_path) == []


def test_large_body_of_an_uncaptured_side_is_ignored(tmp_path: Path) -> None:
    """If only responses are captured, requests can have any size."""
    capture = captured_app(score_app, tmp_path, capture_options=["RESPONSE"])
    call(capture, *[b"\n" * 2**20] * 33)
    capture.close()
    assert payload_pairs(tmp_path) == [(None, Payload("application/json", SCORE_BODY.decode(), "JSON"))]


def test_exceptions_of_the_app_are_passed_on(tmp_path: Path) -> None:
    """An invocation with a complete response is captured, also if the app fails afterwards."""

    async def before(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("before")

    async def in_between(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        raise ValueError("in_between")

    async def after(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"1")
        raise ValueError("after")

    captured = {}
    for app in (before, in_between, after):
        capture = captured_app(app, tmp_path / app.__name__)
        _, raised = call(capture, b"{}")
        assert isinstance(raised, ValueError)
        capture.close()
        captured[app.__name__] = len(events(tmp_path / app.__name__))
    assert captured == {"before": 0, "in_between": 0, "after": 1}


def test_unread_request_is_captured_as_empty(tmp_path: Path) -> None:
    """The body of a request that the app does not read is empty."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"1")

    with serving(captured_app(app, tmp_path)) as url:
        assert httpx.post(f"{url}/invocations", json=[1]).content == b"1"
    ((request, _),) = payload_pairs(tmp_path)
    assert request == Payload("application/json", "", "JSON")


def test_disconnecting_clients_are_tolerated(tmp_path: Path) -> None:
    """An incomplete request is not captured, a response after a disconnect is, and the server keeps running."""
    arrived = ThreadEvent()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        message = await receive()
        arrived.set()
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("incomplete request")
        if dict(scope["headers"]).get(b"x-slow"):
            while (await receive())["type"] != "http.disconnect":
                await asyncio.sleep(0)
        await respond(send, b"1", b"2")

    with serving(captured_app(app, tmp_path)) as url:
        head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"
        for length, more in ((100, ""), (2, "X-Slow: 1\r\n")):
            arrived.clear()
            with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as client:
                client.sendall(head.format(length, more).encode() + b"{}")
                assert arrived.wait(20)
        assert httpx.post(f"{url}/invocations", json=[1]).content == b"12"
    delivered = {event.input.data: event.delivered for event in events(tmp_path) if event.input}
    assert delivered == {"[1]": True, "{}": False}


def test_event_is_captured_if_sending_fails(tmp_path: Path) -> None:
    """If the client has disconnected, the event is captured exactly once."""

    async def respond_twice(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"1")
        await send({"type": "http.response.body", "body": b"2"})

    async def fail_to_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("disconnected")

    async def disconnected() -> Message:
        return {"type": "http.disconnect"}

    capture = captured_app(respond_twice, tmp_path)
    call(capture, b"{}")
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
    with pytest.raises(OSError, match="disconnected"):
        asyncio.run(capture(scope, disconnected, fail_to_send))
    capture.close()
    assert [side.data for _, side in payload_pairs(tmp_path) if side] == ["1", "1"]
    assert [event.delivered for event in events(tmp_path)] == [True, False]


def starlette(root: Path, received: list[Any]) -> Starlette:
    """Return a Starlette app with the middleware; it records its lifespan events."""

    async def predict(request: Request) -> Response:
        received.append(await request.json())
        return JSONResponse({"score": 0.5}, background=BackgroundTask(received.append, "background"))

    async def reject(request: Request) -> Response:
        return PlainTextResponse("no", status_code=422)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        received.append("up")
        yield
        received.append(len(events(root)))

    return Starlette(
        routes=[
            Route("/endpoints/churn/invocations", predict, methods=["POST"]),
            Route("/invocations", reject, methods=["POST"]),
        ],
        middleware=[Middleware(DataCapture, str(root), flush_seconds=NO_FLUSH_SECONDS, min_free_bytes=0)],
        lifespan=lifespan,
    )


def test_starlette_app_is_captured(tmp_path: Path) -> None:
    """The capture is flushed after the shutdown of the app."""
    received: list[Any] = []
    with serving(starlette(tmp_path, received)) as url:
        httpx.post(f"{url}/endpoints/churn/invocations", json={"features": [1]})
        httpx.post(f"{url}/invocations", json={"features": [2]})
    assert received == ["up", {"features": [1]}, "background", 0]
    ((request, response),) = payload_pairs(tmp_path)
    assert request == Payload("application/json", '{"features":[1]}', "JSON")
    assert response == Payload("application/json", '{"score":0.5}', "JSON")


@pytest.mark.parametrize("ending", ["asserts", "returns"])
def test_app_without_lifespan_events_is_flushed(tmp_path: Path, ending: str) -> None:
    """Events are written at shutdown, also if the app fails on lifespan events or ignores them."""

    async def ignore_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await score_app(scope, receive, send)

    capture = captured_app(score_app if ending == "asserts" else ignore_lifespan, tmp_path)
    with serving(capture) as url:
        httpx.post(f"{url}/invocations", json=[1])
        assert capture.status["CaptureStatus"] == "Started"
    assert capture.status["CaptureStatus"] == "Stopped"
    assert len(events(tmp_path)) == 1


def test_failing_startup_is_reported(tmp_path: Path) -> None:
    """An error during startup is raised, not taken for missing lifespan support."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no model")

    sent, raised = call(captured_app(app, tmp_path), type="lifespan")
    assert sent == []
    assert isinstance(raised, ValueError)


def test_capture_to_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor's reader finds the events in a bucket."""
    with s3_server(monkeypatch) as bucket:
        root = f"{bucket.url}/capture/churn/AllTraffic"
        at = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
        with serving(captured_app(score_app, root, CaptureEnvironment(clock=lambda: at))) as url:
            for number in range(3):
                httpx.post(f"{url}/invocations", json={"features": [number]})
        captured = read_window(EndpointSource("endpoint", root, 0), Window.parse("2026-01-05T09"))
    assert sorted(captured.rows) == [(0,), (1,), (2,)]


def test_sigterm_loses_no_events(tmp_path: Path) -> None:
    """After SIGTERM, all events with a response are in files."""
    with process(tmp_path) as (server, url):
        with httpx.Client() as client:
            for number in range(100):
                assert client.post(f"{url}/invocations", json=[number]).content == SCORE_BODY
        assert lines(tmp_path) == []
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    captured = events(tmp_path)
    assert [event.input.data for event in captured if event.input] == [f"[{number}]" for number in range(100)]
    assert [encode(event) for event in captured] == lines(tmp_path)


def test_sigkill_leaves_complete_lines(tmp_path: Path) -> None:
    """After kill -9 under load, all files have complete events."""
    stop = ThreadEvent()

    def load(url: str) -> None:
        with httpx.Client() as client, suppress(httpx.TransportError):
            while not stop.is_set():
                client.post(f"{url}/invocations", json=["x" * 10_000])

    with process(tmp_path, FLUSH_SECONDS="0.001") as (server, url):
        threads = [Thread(target=load, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(list(tmp_path.rglob("*.jsonl"))) > 50)
        server.kill()
        server.wait(20)
        stop.set()
        for thread in threads:
            thread.join(20)
    captured = events(tmp_path)
    assert len(captured) >= 50
    assert all(event.input is not None and len(event.input.data) == 10_004 for event in captured)


def test_event_ids_are_random_uuids() -> None:
    """Ids are unique UUIDs of version 4 in Python's format."""
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for id_ in ids:
        assert str(uuid.UUID(id_)) == id_
        assert (uuid.UUID(id_).version, uuid.UUID(id_).variant) == (4, uuid.RFC_4122)
    integers = [int(id_.replace("-", ""), 16) for id_ in ids]
    constant_bits = [bit for bit in range(128) if len({value >> bit & 1 for value in integers}) == 1]
    assert constant_bits == [62, 63, 76, 77, 78, 79]


def test_forked_processes_generate_different_ids() -> None:
    """A forked process has its own random numbers."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    other = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert uuid.UUID(other) != uuid.UUID(new_id())
