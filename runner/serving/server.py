"""The HTTP server of a served model, and its ASGI app with the APIs of a SageMaker endpoint and a model container.

The server reports when it is ready. It stops on a signal, or when the process that started it ends.

Source: `InvokeEndpoint` of SageMaker's runtime, and "Use your own inference code with hosting services".
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from runner.domain.numbers import plural
from runner.domain.records import PROBE
from runner.errors import snippet
from runner.probes import KEY_VARIABLE, is_claimed
from runner.records.fields import Fields
from runner.records.payloads import has_more_values
from runner.serving.batching import RequestBatcher
from runner.serving.connections import Connections, HttpProtocol
from runner.serving.data_capture import CUSTOM_ATTRIBUTES, INFERENCE_ID, new_id
from runner.serving.requests import (
    ANY_FORMAT,
    FORMATS,
    ClientDisconnected,
    LargeRequestReader,
    RequestError,
    RequestReader,
    RequestRecords,
)
from runner.urls import is_public_name

if TYPE_CHECKING:
    import polars as pl
    from starlette.types import ASGIApp, Receive, Scope, Send

    from runner.serving.data_capture import DataCapture


MAX_BODY_BYTES = 6_291_456
"""Largest body that SageMaker's runtime accepts, in bytes."""

LARGE_BYTES = 2**15
"""Size in bytes from which a body is parsed in another process, so that other requests are not delayed."""
LARGE_VALUES = 2**12
"""Number of values above which a smaller body is parsed there too."""

MAX_RANGES = 100
"""Maximum number of media ranges in a header Accept; further ones are ignored."""

TARGET_VARIANT = b"x-amzn-sagemaker-target-variant"
RECORDED_HEADERS = {INFERENCE_ID: ("InferenceId", 1, 64), CUSTOM_ATTRIBUTES: ("CustomAttributes", 0, 1024)}
"""Headers that data capture records: their names in the runtime's API, minimum and maximum length."""
PRINTABLE_ASCII = re.compile(rb"[\t\x20-\x7e]*")

FROM_WEB_PAGE = (
    "requests from web pages or to a domain name need a token; call the server by its address from another program, "
    "or set the environment variable in stage.token_env for the server and its clients"
)

STOPPING = "the server is stopping; send the request again"

logger = logging.getLogger("shapwatch")

Headers = Mapping[bytes, bytes]
RawResponse = tuple[int, list[tuple[bytes, bytes]], bytes]
"""The status, the headers and the body of a response."""
STANDARD_INPUT = 0
TICKS_PER_CHECK = 5
"""Number of ticks of 0.1 s between two checks for slow clients."""
GC_THRESHOLD = 50_000
"""Number of new objects that starts a garbage collection; the default of 700 would cost a fifth of the time."""
SHUTDOWN_SECONDS = 8
"""Seconds that open requests may take after a stop signal; Docker kills a container after 10 s."""
FORCE_AFTER_SECONDS = 0.5
"""Seconds after a stop signal from which another one ends the open requests at once."""


class Application(Router):
    """The app that serves a model. Its endpoints turn errors into responses themselves, without middleware.

    Attributes:
        capture: the data capture that wraps the app, for the status in /ping; None without data capture.
    """

    def __init__(self, batches: RequestBatcher, fields: Fields, endpoint: str, variant: str, token: str | None) -> None:
        """Create the routes.

        Args:
            batches: batcher that sends requests to the model.
            fields: the positions of the features in requests, and the default media types.
            endpoint: the name of the endpoint in SageMaker's runtime.
            variant: the name of the production variant.
            token: the bearer token that requests need, None to accept all requests.
        """
        requests, large_requests = RequestReader(fields), LargeRequestReader(fields)
        container = ContainerApi(batches, requests, large_requests, fields.accept_type, token)
        runtime = RuntimeApi(batches, requests, large_requests, fields.accept_type, token, endpoint, variant)
        routes = [
            Route("/endpoints/{endpoint}/invocations", runtime, methods=["POST"]),
            Route("/invocations", container, methods=["POST"]),
            Route("/ping", self._ping),
        ]
        self._batches = batches
        self._large_requests = large_requests
        super().__init__(routes, redirect_slashes=False, lifespan=self._lifespan)
        self._exact = {f"/endpoints/{endpoint}/invocations": runtime, "/invocations": container}
        self.capture: DataCapture | None = None
        self._needs_token = token is not None
        self._hidden_status = ("captured", "dropped") if self._needs_token else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request; common paths skip the router."""
        if scope["type"] == "http" and scope["method"] == "POST" and (endpoint := self._exact.get(scope["path"])):
            await endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Router) -> AsyncIterator[None]:
        """Let no request that is still being read delay the end of the server."""
        yield
        self._large_requests.close()

    async def _ping(self, request: Request) -> Response:
        """Return the status of data capture, and 503 while a model call does not end; a token hides the counts."""
        if not self._needs_token and is_public_name(request.headers.get("host", "")):
            return PlainTextResponse(FROM_WEB_PAGE, 403)
        status = {} if self.capture is None else self.capture.status
        document = {name: value for name, value in status.items() if name not in self._hidden_status}
        if problem := self._batches.problem:
            return JSONResponse({**document, "problem": problem}, 503)
        return JSONResponse(document)


@dataclass(frozen=True)
class ContainerApi:
    """The API of a model container; an error is a status with a plain-text message.

    Attributes:
        batches: batcher that sends requests to the model.
        requests, large_requests: readers of small and large request bodies.
        default: the media type of responses to requests that accept any media type.
        token: the bearer token that requests need, None to accept all requests.
    """

    batches: RequestBatcher
    requests: RequestReader
    large_requests: LargeRequestReader
    default: str
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to an invocation."""
        headers = dict(scope["headers"])
        try:
            self._check(scope, headers)
            body = await _read_body(headers, receive)
            if body is None:
                return
            media_type, response = await self._respond_while_connected(headers, body, receive)
            sent_headers = [(b"content-type", media_type.encode()), *self._extra_headers(headers)]
            status, sent = 200, response.encode()
        except ClientDisconnected:
            return
        except RequestError as error:
            status, sent_headers, sent = self._error(error)
        except asyncio.CancelledError:
            status, sent_headers, sent = self._error(RequestError(503, STOPPING, "ServiceUnavailable"))
        except Exception:
            logger.exception("the server failed")
            status, sent_headers, sent = self._error(RequestError(500, "the server failed; see its log"))
        sent_headers.append((b"content-length", b"%d" % len(sent)))
        await send({"type": "http.response.start", "status": status, "headers": sent_headers})
        await send({"type": "http.response.body", "body": sent})

    async def _respond_while_connected(self, headers: Headers, body: bytes, receive: Receive) -> tuple[str, str]:
        """Return the media type and the body of the response.

        Raises:
            ClientDisconnected: if the client disconnects before the model is called.
        """
        if self.batches.is_fast and not _is_large(body):
            return await self._respond(headers, self.requests.read(headers.get(b"content-type"), body))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            return await self._respond(headers, await self._read(headers.get(b"content-type"), body, gone), gone)
        finally:
            gone.cancel()

    async def _read(
        self, content_type: bytes | None, body: bytes, gone: asyncio.Future[None]
    ) -> RequestRecords | pl.DataFrame:
        """Return the records of a request; another process reads a large body."""
        if not _is_large(body):
            return self.requests.read(content_type, body)
        table = asyncio.ensure_future(self.large_requests.read(content_type, body))
        first: list[asyncio.Future[Any]] = [table, gone]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not table.done():
            table.cancel()
            raise ClientDisconnected
        return table.result()

    async def _respond(
        self, headers: Headers, records: RequestRecords | pl.DataFrame, gone: asyncio.Future[None] | None = None
    ) -> tuple[str, str]:
        """Return the media type and the body of the response."""
        *preferred, last = _acceptable(headers.get(b"accept", b""), self.default)
        for media_type in preferred:
            try:
                return media_type, await self.batches.respond(records, media_type, gone)
            except RequestError as error:
                if error.status != 406:
                    raise
        return last, await self.batches.respond(records, last, gone)

    def _check(self, scope: Scope, headers: Headers) -> None:  # noqa: ARG002  RuntimeApi checks the path
        """Check the token and the recorded headers."""
        if self.token is None:
            _check_origin(headers)
        else:
            bearer = headers.get(b"authorization", b"")
            if not hmac.compare_digest(bearer, f"Bearer {self.token}".encode()):
                raise RequestError(401, "expected the header Authorization: Bearer <token>", "AccessDeniedException")
        for header, (name, minimum, maximum) in RECORDED_HEADERS.items():
            value = headers.get(header)
            if value is not None and not (minimum <= len(value) <= maximum and PRINTABLE_ASCII.fullmatch(value)):
                is_ascii = PRINTABLE_ASCII.fullmatch(value)
                found = plural(len(value), "byte") if is_ascii else "characters that are not printable ASCII"
                problem = f"{name} has {found}, expected {minimum} to {maximum} printable ASCII characters"
                raise RequestError(400, problem, "ValidationError")
        if is_claimed(headers.get(INFERENCE_ID, b"").decode("latin-1")):
            problem = f"only monitors may use an InferenceId that starts with {PROBE}"
            remedy = f"use another id; a monitor of another user or machine needs the same {KEY_VARIABLE} as the server"
            raise RequestError(400, f"{problem}; {remedy}", "ValidationError")

    def _extra_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:  # noqa: ARG002  RuntimeApi echoes some
        return []

    def _error(self, error: RequestError) -> RawResponse:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return error.status, headers, error.message.encode()


@dataclass(frozen=True)
class RuntimeApi(ContainerApi):
    """The API of SageMaker's runtime, with error documents that boto3 understands.

    Attributes:
        endpoint: the name of the only endpoint.
        variant: the name of its only production variant.
    """

    endpoint: str
    variant: str

    def _check(self, scope: Scope, headers: Headers) -> None:
        super()._check(scope, headers)
        if (name := scope.get("path_params", {}).get("endpoint", self.endpoint)) != self.endpoint:
            raise RequestError(400, f"Endpoint {name} not found; expected {self.endpoint}", "ValidationError")
        variant = headers.get(TARGET_VARIANT, b"").decode("latin-1")
        if variant not in {"", self.variant}:
            problem = f"Variant {variant} not found; endpoint {self.endpoint} has only {self.variant}"
            raise RequestError(400, problem, "ValidationError")

    def _extra_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        attributes = headers.get(CUSTOM_ATTRIBUTES)
        extra = [
            (b"x-amzn-requestid", new_id().encode()),
            (b"x-amzn-invoked-production-variant", self.variant.encode()),
        ]
        return extra if attributes is None else [*extra, (CUSTOM_ATTRIBUTES, attributes)]

    def _error(self, error: RequestError) -> RawResponse:
        status, kind, document = self._document(error)
        headers = [
            (b"content-type", b"application/json"),
            (b"x-amzn-requestid", new_id().encode()),
            (b"x-amzn-errortype", kind.encode()),
        ]
        return status, headers, orjson.dumps(document)

    def _document(self, error: RequestError) -> tuple[int, str, Mapping[str, object]]:
        """Return the status, the error code and the document of an error of the runtime or of the model."""
        if error.kind is not None:
            return (403 if error.status == 401 else error.status), error.kind, {"Message": error.message}
        origin = "client" if error.status < 500 else "server"
        return 424, "ModelError", {
            "Message": f'Received {origin} error ({error.status}) from primary with message "{error.message}"',
            "OriginalStatusCode": error.status,
            "OriginalMessage": error.message,
            "LogStreamArn": f"arn:aws:logs:::log-group:/aws/sagemaker/Endpoints/{self.endpoint}",
        }  # fmt: skip


def _check_origin(headers: Headers) -> None:
    """Reject requests that a web page sends through the browser of somebody on this machine.

    A page can send such requests with a type that needs no permission, and to its own domain name that points to this
    machine. Browsers then add `Origin` or `Sec-Fetch-Site`, and the name stays in `Host`.

    Raises:
        RequestError: 403 for a request of a browser, or to a domain name.
    """
    is_from_browser = b"origin" in headers or headers.get(b"sec-fetch-site", b"none") != b"none"
    if is_from_browser or is_public_name(headers.get(b"host", b"").decode("latin-1")):
        raise RequestError(403, FROM_WEB_PAGE, "AccessDeniedException")


async def _read_body(headers: Headers, receive: Receive) -> bytes | None:
    """Return the body of a request, or None if the client has disconnected.

    Raises:
        RequestError: 413 as soon as the body is known to be too large.
    """
    _check_size(int(headers.get(b"content-length", b"0")))
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        _check_size(size)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _is_large(body: bytes) -> bool:
    return len(body) >= LARGE_BYTES or has_more_values(body, LARGE_VALUES)


async def _disconnect(receive: Receive) -> None:
    """Wait until the client of a complete request disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise RequestError(413, f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.", "413")


@lru_cache(maxsize=256)
def _acceptable(accept: bytes, default: str) -> tuple[str, ...]:
    """Return the media types that a request accepts, in its order; in a range such as */*, the default comes first.

    Raises:
        RequestError: 406 if the request accepts no supported media type.
    """
    parts = accept.decode("latin-1").split(",", MAX_RANGES)[:MAX_RANGES]
    accepted = [part.partition(";")[0].strip().lower() for part in parts]
    ranges = [part for part in accepted if part] or ["*/*"]
    patterns = {
        media_type: ("*/*", f"{media_type.partition('/')[0]}/*", media_type) for media_type in (default, *FORMATS)
    }
    supported = dict.fromkeys(
        media_type for range_ in ranges for media_type in patterns if range_ in patterns[media_type]
    )
    if not supported:
        problem = f"unsupported media type {snippet(repr(', '.join(ranges)))}"
        raise RequestError(406, f"{problem}; the model responds in {ANY_FORMAT}")
    return tuple(supported)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free port.

    Raises:
        OSError: if the port is in use or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class Server(uvicorn.Server):
    """A uvicorn server that calls `ready` once it accepts requests, and runs until a signal or `stop`."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=HttpProtocol,
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        super().__init__(config)
        self.server_state: Connections = Connections()
        self._ready = ready
        self._signalled = float("-inf")

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; garbage collection is less frequent, and ignores objects created before the start."""
        before = gc.get_threshold()
        gc.set_threshold(GC_THRESHOLD, *before[1:])
        try:
            with self._handling_signals():
                super().run(sockets)
        finally:
            gc.unfreeze()
            gc.set_threshold(*before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, and call `ready`."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Close connections of slow clients twice a second; return whether to stop."""
        if counter % TICKS_PER_CHECK == 0:
            self.server_state.close_late()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, respond to the requests that are still open, and close all connections.

        The captures are written also if a second signal has ended the open requests.
        """
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()
        if tasks := list(self.server_state.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
        for connection in list(self.server_state.connections):
            cast(HttpProtocol, connection).transport.flush()
            connection.transport.abort()
        await asyncio.sleep(0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        """Stop after the open requests; a later signal ends them.

        A signal that follows immediately does not count: some programs send it to the process and to its group.
        """
        now = time.monotonic()
        if self._signalled == float("-inf"):
            self._signalled = now
        self.should_exit = True
        self.force_exit = now - self._signalled > FORCE_AFTER_SECONDS

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change nothing: `run` handles signals until the event loop has ended."""
        yield

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Handle signals so that they stop the server but not the process; outside the main thread, change nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stop the server once the open requests are answered, or after `SHUTDOWN_SECONDS`."""
        self.should_exit = True

    def stop_at_end_of_input(self) -> None:
        """Stop when standard input ends, because the parent process closed it or died."""
        threading.Thread(target=self._read_input, daemon=True).start()

    def _read_input(self) -> None:
        with suppress(OSError):
            while os.read(STANDARD_INPUT, 4096):
                pass
        self.stop()
