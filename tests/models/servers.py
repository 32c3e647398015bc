"""HTTP servers on free loopback ports that respond, or fail, as a test defines."""

from __future__ import annotations

import socket
import struct
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from threading import Event, Lock, Thread
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import pytest

from runner.domain.records import Payload
from runner.models.http import Http
from runner.models.linear import LinearModel
from runner.models.sagemaker import SageMaker
from runner.protocols import Model
from runner.records.fields import Fields
from runner.records.payloads import encoding
from runner.serving.requests import encode_response

DEFAULTS: dict[str, Any] = {
    "content_type": "application/jsonlines",
    "accept_type": "application/jsonlines",
    "content_template": None,
    "record_template": None,
    "headers": None,
    "score": "score",
    "label_headers": None,
    "timeout_seconds": 20,
    "attempts": 8,
    "concurrency": 4,
    "max_payload_bytes": 6291456,
    "max_request_rows": 500,
    "max_requests_per_second": None,
    "max_failures": 20,
    "price_per_1k_calls": None,
}
"""Settings of a remote model."""

NAMES = ["a", "b", "c"]
MODEL = LinearModel(
    kind="linear",
    link="logistic",
    intercept=(0.25,),
    coefficients={"a": (0.1,), "b": (-2.5,), "c": (1 / 3,)},
    label_headers=None,
    deploy=None,
)
FEATURES = pl.DataFrame(np.random.default_rng(7).normal(size=(203, 3)), NAMES)

Fault = Literal["reset", "stall", "truncate", "endless", "endless head", "drip", "drip head"]
"""A broken connection, a response without end, or a response that arrives byte by byte."""
STALL_SECONDS = 30.0


class ReceivedRequest(NamedTuple):
    """A received request; header names are in lower case."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int
    at: float


class Reply(NamedTuple):
    """A response of a server, whose body is a string or bytes; a fault breaks the connection or never ends it."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}
    fault: Fault | None = None


Responder = Callable[[ReceivedRequest], Reply]
"""A function that returns the response to a request."""


@dataclass
class RunningServer:
    """The URL of a running server, and the requests it has received, in order."""

    url: str
    seen: list[ReceivedRequest] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, responder: Responder, context: SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responder = responder
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.served = RunningServer(f"http{'s' if context else ''}://127.0.0.1:{self.server_port}")
        self.ending = Event()
        self.lock = Lock()
        self.sockets: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that disconnect."""

    def end(self) -> None:
        """Stop the server, its connections and its threads."""
        self.ending.set()
        self.shutdown()
        for connection in list(self.sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            number = len(self.server.served.seen)
            seen = ReceivedRequest(
                number, self.command, self.path, headers, body, self.client_address[1], time.monotonic()
            )
            self.server.served.seen.append(seen)
        self._send(self.server.responder(seen))

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""

    def _send(self, reply: Reply) -> None:
        if reply.fault == "stall":
            self.server.ending.wait(STALL_SECONDS)
        if reply.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = self.close_connection or reply.fault is not None
        if reply.fault in {"stall", "reset"}:
            return
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        headers = {"Content-Length": str(len(body))} | dict(reply.headers)
        lines = [f"HTTP/1.1 {reply.status} {'OK' if reply.status == 200 else 'No'}"]
        head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
        if reply.fault in {"endless", "endless head", "drip", "drip head"}:
            self._send_without_end(reply.fault, head.encode(), body)
            return
        self.wfile.write(head.encode() + (body[: len(body) // 2] if reply.fault == "truncate" else body))

    def _send_without_end(self, fault: Fault, head: bytes, body: bytes) -> None:
        """Send the body, or a header, again and again until the client disconnects."""
        repeated = b"X-More: 1\r\n" if "head" in fault else body
        self.wfile.write(head[:-2] if "head" in fault else head)
        with suppress(OSError):
            while not self.server.ending.wait(0.02 if "drip" in fault else 0):
                self.wfile.write(repeated)


@contextmanager
def serving(responder: Responder, context: SSLContext | None = None) -> Iterator[RunningServer]:
    """Run a server with a responder, over TLS if there is a context."""
    server = _Server(responder, context)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.served
    finally:
        server.end()
        thread.join()


def always(
    status: int, body: str | bytes, headers: Mapping[str, str] | None = None, fault: Fault | None = None
) -> Responder:
    """Return a responder with one fixed response."""
    return lambda _: Reply(status, body, headers or {}, fault)


def scoring(model: Model, names: list[str], fields: Fields | None = None) -> Responder:
    """Return a responder with a model's scores, in the requested media type."""
    request_fields = fields or Fields("features", None)

    def respond(seen: ReceivedRequest) -> Reply:
        payload = Payload(seen.headers["content-type"], seen.body.decode(), encoding(seen.headers["content-type"]))
        rows = request_fields.request_rows(payload)
        features = pl.DataFrame(rows, names, orient="row", infer_schema_length=None)
        try:
            return Reply(200, encode_response(model, features, seen.headers["accept"]))
        except ValueError as error:
            return Reply(406, str(error))

    return respond


SCORING = scoring(MODEL, NAMES)
"""A responder with the scores of MODEL."""


def http(url: str, **settings: Any) -> Http:
    """Return a model behind a URL."""
    return Http(**(DEFAULTS | {"kind": "http", "url": url, "token_env": None} | settings))


def sagemaker(url: str, **settings: Any) -> SageMaker:
    """Return a model behind a SageMaker endpoint; the runtime is at a URL."""
    own = {"kind": "sagemaker", "endpoint_name": "churn", "region": "us-east-1", "endpoint_url": url}
    return SageMaker(**(DEFAULTS | own | {"target_variant": None, "inference_component": None} | settings))


def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials for boto3, and hide all other AWS settings of this machine."""
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush-hush"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def remote_model(kind: Literal["http", "sagemaker"], model: Model, names: list[str]) -> Iterator[Http | SageMaker]:
    """Serve a model, and yield a remote model of a kind that calls it; `sagemaker` needs `credentials`."""
    with serving(scoring(model, names)) as served:
        yield sagemaker(served.url) if kind == "sagemaker" else http(served.url)


def lasting_model(kind: Literal["http", "sagemaker"], model: Model, names: list[str]) -> Http | SageMaker:
    """Return a remote model as `remote_model` does; its server stops when the model is deleted."""
    stack = ExitStack()
    remote = stack.enter_context(remote_model(kind, model, names))
    weakref.finalize(remote, stack.close)
    return remote
