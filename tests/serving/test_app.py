"""The app: responses and errors of the endpoint API and of the container API."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from starlette.types import Message, Receive, Scope, Send

from runner.models.linear_learner import LinearLearner
from runner.probes import probe_id
from runner.protocols import Model
from runner.records.fields import Fields
from runner.serving import batching
from runner.serving.batching import RequestBatcher
from runner.serving.data_capture import DataCapture
from runner.serving.requests import encode_response
from runner.serving.server import MAX_BODY_BYTES, Application
from tests.builders import DEMO_MODEL, PUBLISHED
from tests.conftest import DEMO
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.processes import wait_until
from tests.serving.served import events, serving

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
CONTAINER, RUNTIME = "/invocations", "/endpoints/churn/invocations"
BOTH = pytest.mark.parametrize("path", [CONTAINER, RUNTIME])
TRAFFIC = [json.loads(line)["features"] for line in (DEMO / "traffic.jsonl").read_text().splitlines()]
SCORES: list[float] = DEMO_MODEL.predict(pl.DataFrame(TRAFFIC, orient="row"))[:, 0].tolist()


def app_of(model: Model, token: str | None = None, **fields: Any) -> Application:
    """Return the app that serves a model as the endpoint churn."""
    request_fields = Fields("features", "score", **fields)
    return Application(RequestBatcher(model, request_fields.names), request_fields, "churn", "AllTraffic", token)


@pytest.fixture(scope="module")
def demo() -> Iterator[httpx.Client]:
    """The quickstart's model, served."""
    with serving(app_of(DEMO_MODEL)) as url, httpx.Client(base_url=url) as client:
        yield client


def lines(rows: list[Any]) -> str:
    """Return rows as JSON Lines."""
    return "\n".join(json.dumps({"features": row}) for row in rows)


def container_error(response: httpx.Response) -> tuple[int, Any]:
    """Return the status and the message of the container, also from an error document of the runtime."""
    if response.headers["content-type"] == JSON:
        document = response.json()
        return document.get("OriginalStatusCode", response.status_code), document.get(
            "OriginalMessage", document["Message"]
        )
    return response.status_code, response.text


@BOTH
def test_responses_equal_the_model(demo: httpx.Client, path: str) -> None:
    """The body and the media type equal the model's, for single records and mini-batches."""
    for rows in (TRAFFIC[:1], TRAFFIC[:2], TRAFFIC, TRAFFIC * 10):
        response = demo.post(path, content=lines(rows), headers={"content-type": LINES})
        assert (response.status_code, response.headers["content-type"]) == (200, LINES)
        assert response.text == DEMO_MODEL.encode_response(pl.DataFrame(rows, orient="row"), LINES)


@BOTH
def test_responses_equal_the_published_ones(adult: Path, path: str) -> None:
    """The responses to the notebook's requests equal the published bytes."""
    artifact = adult / "ll-adult-prediction-model.tar.gz"
    model = LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)
    one, two = (adult / "test-dataset.jsonl").read_text().splitlines()[:2]
    first, second = PUBLISHED.values()
    with serving(app_of(model)) as url, httpx.Client(base_url=url) as client:
        post = partial(client.post, path, headers={"content-type": LINES, "accept": LINES})
        assert post(content=one).content == f"{first}\n".encode()
        assert post(content=f"{one}\n{two}").content == f"{first}\n{second}\n".encode()
        json_response = client.post(path, content=one, headers={"content-type": LINES, "accept": JSON})
        assert json_response.text == '{"predictions": [{"score": 0.9899773597717285, "predicted_label": 1}]}'


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, CSV),
        ("*/*", CSV),
        ("", CSV),
        (LINES, LINES),
        ("Application/JSONLines", LINES),
        (JSON, JSON),
        ("text/*", CSV),
        ("text/html, application/json;q=0.9, text/csv", JSON),
        ("image/png, */*;q=0.1", CSV),
    ],
)
def test_accept_selects_the_media_type(accept: str | None, expected: str) -> None:
    """The response has the first accepted media type, or the default if any is accepted."""
    with serving(app_of(DEMO_MODEL, accept_type=CSV)) as url, httpx.Client(base_url=url) as client:
        client.headers.pop("accept")
        response = client.post(
            CONTAINER, content=lines(TRAFFIC[:1]), headers={} if accept is None else {"accept": accept}
        )
    assert response.headers["content-type"] == expected
    assert response.text == DEMO_MODEL.encode_response(pl.DataFrame(TRAFFIC[:1], orient="row"), expected)


@pytest.mark.parametrize(("name", "status"), [("accept", 406), ("content-type", 415)])
def test_long_headers_are_not_repeated(demo: httpx.Client, name: str, status: int) -> None:
    """The message contains the beginning."""
    response = demo.post(CONTAINER, content=lines(TRAFFIC[:1]), headers={name: "a/b," * 15_000})
    assert response.status_code == status
    assert len(response.text) < 1000


class LinesFormula(Formula):
    """A formula that responds in JSON Lines only."""

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return a line per record."""
        if accept != LINES:
            raise ValueError(f"a formula responds in {LINES}, not {accept!r}")
        return encode_response(Formula(self.function), features, accept)


def test_accept_skips_unsupported_media_types(golden: Golden) -> None:
    """If the model supports none of the accepted media types, the status is 406."""
    with serving(app_of(LinesFormula(additive))) as url, httpx.Client(base_url=url) as client:
        post = partial(client.post, CONTAINER, content='{"features":[1.5]}')
        response = post(headers={"accept": f"{CSV}, {JSON}, {LINES}"})
        assert (response.headers["content-type"], response.text) == (LINES, '{"score":1.5}\n')
        rejected = post(headers={"accept": f"{JSON}, {CSV}"})
        assert rejected.status_code == 406
        golden(rejected.text)


@BOTH
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        pytest.param('{"features":[1', {}, 400, id="no JSON"),
        pytest.param("", {}, 400, id="empty"),
        pytest.param('{"features":["a"]}', {}, 400, id="other width"),
        pytest.param(lines([["a", *TRAFFIC[0][1:]]]), {}, 400, id="string"),
        pytest.param(lines(TRAFFIC[:1]), {"content-type": "image/png"}, 415, id="content type"),
        pytest.param(lines(TRAFFIC[:1]), {"accept": "text/html"}, 406, id="accept"),
        pytest.param("x" * (MAX_BODY_BYTES + 1), {}, 413, id="too large"),
    ],
)
def test_invalid_requests_are_rejected(
    demo: httpx.Client, path: str, content: str, headers: dict[str, str], status: int, golden: Golden
) -> None:
    """The container responds with a status and a message, the runtime with a ModelError."""
    response = demo.post(path, content=content, headers=headers)
    assert container_error(response)[0] == status
    golden(container_error(response)[1])
    if path == RUNTIME and status != 413:
        document = response.json()
        assert response.status_code == 424
        assert response.headers["x-amzn-errortype"] == "ModelError"
        assert list(document) == ["Message", "OriginalStatusCode", "OriginalMessage", "LogStreamArn"]
        assert document["Message"] == (
            f'Received client error ({status}) from primary with message "{document["OriginalMessage"]}"'
        )
    else:
        assert response.status_code == status


@BOTH
def test_failing_model_is_answered_with_500(path: str, golden: Golden) -> None:
    """The response does not contain the exception, and the server keeps running."""

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        if features[0, 0] < 0:
            raise RuntimeError("innermost")
        return additive(features)

    with serving(app_of(Formula(scores))) as url, httpx.Client(base_url=url) as client:
        failed = client.post(path, content='{"features":[-1.5]}')
        assert container_error(failed)[0] == 500
        assert "innermost" not in failed.text
        golden(container_error(failed)[1])
        assert failed.status_code == (424 if path == RUNTIME else 500)
        assert client.post(path, content='{"features":[1.5]}').text == '{"score":1.5}\n'


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/endpoints/other/invocations", {}, id="endpoint"),
        pytest.param(RUNTIME, {"target-variant": "B"}, id="variant"),
        pytest.param(RUNTIME, {"inference-id": ""}, id="empty id"),
        pytest.param(RUNTIME, {"inference-id": "x" * 65}, id="long id"),
        pytest.param(RUNTIME, {"inference-id": b"\xff"}, id="id beyond ASCII"),
        pytest.param(RUNTIME, {"custom-attributes": "x" * 1025}, id="long attributes"),
    ],
)
def test_runtime_validates_endpoint_variant_and_headers(
    demo: httpx.Client, path: str, headers: dict[str, str], golden: Golden
) -> None:
    """Errors of SageMaker's runtime itself are ValidationErrors."""
    sent_headers = {f"x-amzn-sagemaker-{name}": value for name, value in headers.items()}
    response = demo.post(path, content=lines(TRAFFIC[:1]), headers=sent_headers)
    assert (response.status_code, response.headers["x-amzn-errortype"]) == (400, "ValidationError")
    golden(response.json()["Message"])
    if path == RUNTIME and "target-variant" not in headers:
        rejected = demo.post(CONTAINER, content=lines(TRAFFIC[:1]), headers=sent_headers)
        assert (rejected.status_code, rejected.text) == (400, response.json()["Message"])


def test_runtime_adds_response_headers(demo: httpx.Client) -> None:
    """The runtime names the variant, echoes the custom attributes and adds a request id."""
    marks = {"x-amzn-sagemaker-custom-attributes": "trace=1", "x-amzn-sagemaker-inference-id": "x" * 64}
    responses = [demo.post(RUNTIME, content=content, headers=marks) for content in (lines(TRAFFIC[:1]), "")]
    assert [response.status_code for response in responses] == [200, 424]
    assert len({uuid.UUID(response.headers["x-amzn-requestid"], version=4) for response in responses}) == 2
    assert responses[0].headers["x-amzn-invoked-production-variant"] == "AllTraffic"
    assert responses[0].headers["x-amzn-sagemaker-custom-attributes"] == "trace=1"
    assert "x-amzn-sagemaker-custom-attributes" not in demo.post(RUNTIME, content=lines(TRAFFIC[:1])).headers


@BOTH
def test_only_monitors_may_use_their_prefix(demo: httpx.Client, path: str, golden: Golden) -> None:
    """An inference id with the prefix needs the signature of a monitor with the same key."""
    header = "x-amzn-sagemaker-inference-id"
    post = partial(demo.post, path, content=lines(TRAFFIC[:1]))
    assert post(headers={header: probe_id(3)}).status_code == 200
    rejected = post(headers={header: "shapwatch-probe-3"})
    assert rejected.status_code == 400
    golden(container_error(rejected)[1])


@BOTH
def test_large_bodies_are_rejected_early(demo: httpx.Client, path: str) -> None:
    """A too large content-length is rejected before the body arrives, chunks as soon as they exceed the limit."""
    with socket.create_connection((demo.base_url.host, demo.base_url.port or 0), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {2**40}\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 413"
    largest = demo.post(path, content=b" " * MAX_BODY_BYTES)
    assert container_error(largest)[0] == 400
    assert container_error(largest) == container_error(demo.post(path, content=b""))
    chunks = (b" " * 2**20 for _ in range(7))
    assert demo.post(path, content=chunks).status_code == 413


def test_chunked_bodies_are_joined(demo: httpx.Client) -> None:
    """Chunks are joined; a client that disconnects before the last one is ignored."""
    body = lines(TRAFFIC).encode()
    chunks = (body[i : i + 1000] for i in range(0, len(body), 1000))
    assert demo.post(CONTAINER, content=chunks).text.count("\n") == len(TRAFFIC)
    with socket.create_connection((demo.base_url.host, demo.base_url.port or 0)) as connection:
        connection.sendall(f"POST {CONTAINER} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc".encode())
    assert demo.post(CONTAINER, content=lines(TRAFFIC[:1])).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CONTAINER, 405), ("GET", RUNTIME, 405), ("POST", "/ping", 405), ("GET", "/", 404), ("POST", "/x", 404)],
)
def test_other_paths_and_methods_are_rejected(demo: httpx.Client, method: str, path: str, status: int) -> None:
    """The status is 404 for other paths and 405 for other methods."""
    assert demo.request(method, path).status_code == status


def test_ping_has_status_200(demo: httpx.Client) -> None:
    """The response to /ping has the status 200."""
    response = demo.get("/ping")
    assert (response.status_code, response.json()) == (200, {})


def test_ping_is_503_while_a_model_call_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is 200 again when the call has ended."""
    monkeypatch.setattr(batching, "MODEL_SECONDS", 0.1)
    ended = Event()

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        assert ended.wait(20)
        return additive(features)

    with serving(app_of(Formula(scores))) as url, httpx.Client(base_url=url) as client:
        assert client.get("/ping").status_code == 200
        assert client.post(CONTAINER, content='{"features":[1.5]}').status_code == 500
        response = client.get("/ping")
        assert (response.status_code, list(response.json())) == (503, ["problem"])
        ended.set()
        wait_until(lambda: client.get("/ping").status_code == 200)


def test_disconnected_clients_do_not_reach_the_model(tmp_path: Path) -> None:
    """Their requests are skipped and not captured; the capture states whether a response was delivered."""
    started, ended = Event(), Event()

    def scores(features: pl.DataFrame) -> NDArray[np.float64]:
        started.set()
        assert ended.wait(20)
        return additive(features)

    model = Formula(scores)
    app = app_of(model)
    left: list[int] = []

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        async def note_disconnect() -> Message:
            message = await receive()
            left.extend([1] if message["type"] == "http.disconnect" else [])
            return message

        await app(scope, note_disconnect, send)

    capture = DataCapture(observed, str(tmp_path), json_content_types=[LINES], min_free_bytes=0)
    small, large = '{"features":[1.5]}', lines([[2.5]] * 10_000)
    with serving(capture) as url, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        address = httpx.URL(url).host, httpx.URL(url).port

        def send(body: str) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(address))
            head = f"POST {CONTAINER} HTTP/1.1\r\nhost: x\r\ncontent-type: {LINES}\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            return connection

        clients = [send(small)]
        assert started.wait(20)
        clients += [send(body) for body in (small, large, small)]
        waiting = pool.submit(
            httpx.post, url + CONTAINER, content='{"features":[3.5]}', headers={"content-type": LINES}
        )
        for client in clients:
            client.close()
        wait_until(lambda: len(left) == len(clients))
        ended.set()
        assert waiting.result().text == '{"score":3.5}\n'
    assert model.batches == [1, 1]
    delivered = {event.input.data: event.delivered for event in events(tmp_path) if event.input}
    assert delivered == {small: False, '{"features":[3.5]}': True}


@pytest.mark.parametrize("token", [None, "sesame"])
def test_ping_reports_the_capture_status(tmp_path: Path, token: str | None) -> None:
    """The counts are included only if no token is required."""
    app = app_of(DEMO_MODEL, token)
    app.capture = DataCapture(app, str(tmp_path), json_content_types=[LINES], min_free_bytes=0)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with serving(app.capture) as url, httpx.Client(base_url=url) as client:
        assert client.post(RUNTIME, content=lines(TRAFFIC[:2]), headers={"content-type": LINES, **headers}).is_success
        assert not client.post(RUNTIME, content="", headers=headers).is_success
        status = client.get("/ping").json()
    assert status["CaptureStatus"] == "Started"
    assert ({"captured", "dropped"} <= status.keys()) == (token is None)
    (event,) = events(tmp_path)
    assert event.input
    assert event.input.data == lines(TRAFFIC[:2])


PAGE: dict[str, str] = {"origin": "http://page.example", "sec-fetch-site": "cross-site"}


@BOTH
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(PAGE, id="fetch without a type"),
        pytest.param({**PAGE, "host": "page.example"}, id="own domain name"),
        pytest.param({"host": "page.example:8080"}, id="domain name only"),
        pytest.param({"host": "127.0.0.1.page.example"}, id="domain name with an address"),
        pytest.param({"host": "PAGE.EXAMPLE."}, id="absolute domain name"),
        pytest.param({"origin": "null"}, id="sandboxed page"),
        pytest.param({"sec-fetch-site": "same-origin"}, id="same origin"),
        pytest.param({**PAGE, "content-type": LINES}, id="with a type"),
    ],
)
def test_web_pages_cannot_send_requests(demo: httpx.Client, path: str, headers: dict[str, str]) -> None:
    """Without a token, requests of browsers and to domain names have the status 403."""
    response = demo.post(path, content=lines(TRAFFIC[:1]), headers=headers)
    assert response.status_code == 403
    assert "stage.token_env" in container_error(response)[1]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_forms_are_not_read(demo: httpx.Client, content_type: str) -> None:
    """The content types that a page may send without permission are not supported."""
    response = demo.post(CONTAINER, content=lines(TRAFFIC[:1]), headers={"content-type": content_type})
    assert response.status_code == 415


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:80", "[::1]:80", "192.168.0.7", "model", "host.docker.internal"]
)
def test_programs_may_use_addresses_and_local_names(demo: httpx.Client, host: str) -> None:
    """Names that nobody can own on the internet are accepted."""
    headers = {"host": host, "sec-fetch-site": "none", "sec-fetch-mode": "cors"}
    assert demo.post(CONTAINER, content=lines(TRAFFIC[:1]), headers=headers).status_code == 200
    assert demo.get("/ping", headers=headers).status_code == 200


def test_status_is_hidden_from_web_pages(demo: httpx.Client, golden: Golden) -> None:
    """The status of capture is not readable under the domain name of a page."""
    response = demo.get("/ping", headers={"host": "page.example"})
    assert response.status_code == 403
    golden(response.text)


@pytest.mark.parametrize("headers", [PAGE, {"host": "model.example.com"}])
def test_clients_with_the_token_may_use_any_name(headers: dict[str, str]) -> None:
    """A page does not know the token."""
    with serving(app_of(DEMO_MODEL, "sesame")) as url, httpx.Client(base_url=url) as client:
        response = client.post(
            CONTAINER, content=lines(TRAFFIC[:1]), headers={"authorization": "Bearer sesame", **headers}
        )
        assert client.get("/ping", headers=headers).status_code == 200
    assert response.status_code == 200


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer Sesame", "Bearer sesamé", "Basic sesame", "sesame"]
)
def test_requests_without_the_token_are_rejected(authorization: str | None) -> None:
    """The error does not contain the token."""
    with serving(app_of(DEMO_MODEL, "sesame")) as url, httpx.Client(base_url=url) as client:
        headers = {} if authorization is None else {b"authorization": authorization.encode()}
        runtime, container = (
            client.post(path, content=lines(TRAFFIC[:1]), headers=headers) for path in (RUNTIME, CONTAINER)
        )
        assert client.get("/ping").status_code == 200
    assert (runtime.status_code, runtime.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert (container.status_code, container.headers["www-authenticate"]) == (401, "Bearer")
    assert container.text == runtime.json()["Message"]
    assert "Authorization" in container.text
    assert "sesame" not in container.text


@BOTH
def test_requests_with_the_token_are_answered(path: str) -> None:
    """The token may contain any characters."""
    with serving(app_of(DEMO_MODEL, "sésame")) as url, httpx.Client(base_url=url) as client:
        headers = {b"authorization": "Bearer sésame".encode()}
        assert client.post(path, content=lines(TRAFFIC[:1]), headers=headers).status_code == 200


def test_concurrent_requests_get_their_own_responses(demo: httpx.Client) -> None:
    """Hundreds of concurrent requests each get the response to their own records."""

    def respond(row: list[float]) -> str:
        return demo.post(RUNTIME, content=lines([row])).text

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(respond, TRAFFIC))
    assert [json.loads(response)["score"] for response in responses] == pytest.approx(SCORES, abs=1e-15)
