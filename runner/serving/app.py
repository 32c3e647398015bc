"""The ASGI app of a served model: what a SageMaker endpoint answers, and what a model's container answers.

Source: `InvokeEndpoint` of SageMaker's runtime, and "Use your own inference code with hosting services".
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from runner.records.fields import Fields
from runner.serving.batching import Batches
from runner.serving.data_capture import CUSTOM_ATTRIBUTES, INFERENCE_ID
from runner.serving.ids import new_id
from runner.serving.refusals import Refusal
from runner.serving.requests import FORMATS, Requests

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from runner.serving.data_capture import DataCapture

MOST_BYTES = 6_291_456
"""The largest body that SageMaker's runtime takes."""

LARGE_BYTES = 2**16
"""Larger bodies take long to read, and are read where nobody waits for it."""

TARGET_VARIANT = b"x-amzn-sagemaker-target-variant"
MARKS = {INFERENCE_ID: ("InferenceId", 1, 64), CUSTOM_ATTRIBUTES: ("CustomAttributes", 0, 1024)}
"""Headers that are written down: what the runtime calls them, their least and greatest length."""
PLAIN = re.compile(rb"[\t\x20-\x7e]*")

logger = logging.getLogger("shapwatch")

Headers = Mapping[bytes, bytes]
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]
"""A response: its status, its headers, its body."""


class Application(Router):
    """The app that serves a model; refusals are answered where they arise, so nothing stands around its routes.

    Attributes:
        capture: the data capture around it, for those who ask how that is.
    """

    def __init__(self, batches: Batches, fields: Fields, endpoint: str, variant: str, token: str | None) -> None:
        """Serve a model.

        Args:
            batches: has the model answer.
            fields: where the features stand in requests; how requests and responses are laid out that do not say.
            endpoint: the name under which SageMaker's runtime knows the model.
            variant: the production variant that answers.
            token: what a request must bear, None to answer everybody.
        """
        container = Container(batches, Requests(fields), fields.response, token)
        runtime = Runtime(batches, Requests(fields), fields.response, token, endpoint, variant)
        routes = [
            Route("/endpoints/{endpoint}/invocations", runtime, methods=["POST"]),
            Route("/invocations", container, methods=["POST"]),
            Route("/ping", self._ping),
        ]
        super().__init__(routes, redirect_slashes=False)
        self._exact = {f"/endpoints/{endpoint}/invocations": runtime, "/invocations": container}
        self.capture: DataCapture | None = None
        self._secret = () if token is None else ("captured", "dropped")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the addresses that nearly everybody asks need no search."""
        if scope["type"] == "http" and scope["method"] == "POST" and (known := self._exact.get(scope["path"])):
            await known(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _ping(self, _: Request) -> Response:
        """Say that the server is alive, and what it captures; where a token is asked for, how much is a secret."""
        status = {} if self.capture is None else self.capture.status
        return JSONResponse({name: value for name, value in status.items() if name not in self._secret})


@dataclass(frozen=True)
class Container:
    """Answers invocations as a model's container does: with a status and a plain sentence where it refuses.

    Attributes:
        batches: has the model answer.
        requests: reads the bodies.
        usual: the media type of the answer when any will do.
        token: what a request must bear, None to answer everybody.
    """

    batches: Batches
    requests: Requests
    usual: str
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an invocation."""
        headers = dict(scope["headers"])
        try:
            self._check(scope, headers)
            body = await _received(headers, receive)
            if body is None:
                return
            media_type, answer = await self._answer(headers, body)
            status, told, sent = 200, [(b"content-type", media_type.encode()), *self._marks(headers)], answer.encode()
        except Refusal as refusal:
            status, told, sent = self._refused(refusal)
        except Exception:
            logger.exception("the server failed")
            status, told, sent = self._refused(Refusal(500, "the server failed; its log says how"))
        told.append((b"content-length", b"%d" % len(sent)))
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": sent})

    async def _answer(self, headers: Headers, body: bytes) -> tuple[str, str]:
        """Return the media type and the body of the answer."""
        content_type = headers.get(b"content-type")
        if len(body) < LARGE_BYTES:
            records = self.requests.read(content_type, body)
        else:
            records = await asyncio.to_thread(self.requests.read, content_type, body)
        *others, last = _acceptable(headers.get(b"accept", b""), self.usual)
        for media_type in others:
            try:
                return media_type, await self.batches.reply(records, media_type)
            except Refusal as refusal:
                if refusal.status != 406:
                    raise
        return last, await self.batches.reply(records, last)

    def _check(self, scope: Scope, headers: Headers) -> None:  # noqa: ARG002  the runtime looks at the path
        """Refuse who may not ask, and marks that could not be written down."""
        if self.token is not None:
            bearer = headers.get(b"authorization", b"")
            if not hmac.compare_digest(bearer, f"Bearer {self.token}".encode()):
                raise Refusal(401, "expected the header Authorization: Bearer <token>", "AccessDeniedException")
        for header, (name, least, most) in MARKS.items():
            value = headers.get(header)
            if value is not None and not (least <= len(value) <= most and PLAIN.fullmatch(value)):
                problem = f"{name} has {len(value)} characters, expected {least} to {most}, printable and of ASCII"
                raise Refusal(400, problem, "ValidationError")

    def _marks(self, headers: Headers) -> list[tuple[bytes, bytes]]:  # noqa: ARG002  the runtime echoes some
        return []

    def _refused(self, refusal: Refusal) -> Answered:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return refusal.status, headers, refusal.sentence.encode()


@dataclass(frozen=True)
class Runtime(Container):
    """Answers invocations as SageMaker's runtime does, so that boto3 understands, also what is refused.

    Attributes:
        endpoint: the one endpoint there is.
        variant: its one production variant.
    """

    endpoint: str
    variant: str

    def _check(self, scope: Scope, headers: Headers) -> None:
        super()._check(scope, headers)
        if (name := scope.get("path_params", {}).get("endpoint", self.endpoint)) != self.endpoint:
            raise Refusal(400, f"Endpoint {name} not found; this server has {self.endpoint}", "ValidationError")
        variant = headers.get(TARGET_VARIANT, b"").decode("latin-1")
        if variant not in {"", self.variant}:
            problem = f"Variant {variant} not found; endpoint {self.endpoint} has {self.variant}"
            raise Refusal(400, problem, "ValidationError")

    def _marks(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        echoed = headers.get(CUSTOM_ATTRIBUTES)
        marks = [
            (b"x-amzn-requestid", new_id().encode()),
            (b"x-amzn-invoked-production-variant", self.variant.encode()),
        ]
        return marks if echoed is None else [*marks, (CUSTOM_ATTRIBUTES, echoed)]

    def _refused(self, refusal: Refusal) -> Answered:
        status, kind, document = self._told(refusal)
        headers = [
            (b"content-type", b"application/json"),
            (b"x-amzn-requestid", new_id().encode()),
            (b"x-amzn-errortype", kind.encode()),
        ]
        return status, headers, orjson.dumps(document)

    def _told(self, refusal: Refusal) -> tuple[int, str, Mapping[str, object]]:
        """Return the status, the kind and the document of an error: the runtime's own, or the model's."""
        if refusal.kind is not None:
            return (403 if refusal.status == 401 else refusal.status), refusal.kind, {"Message": refusal.sentence}
        whose = "client" if refusal.status < 500 else "server"
        return 424, "ModelError", {
            "Message": f'Received {whose} error ({refusal.status}) from primary with message "{refusal.sentence}"',
            "OriginalStatusCode": refusal.status,
            "OriginalMessage": refusal.sentence,
            "LogStreamArn": f"arn:aws:logs:::log-group:/aws/sagemaker/Endpoints/{self.endpoint}",
        }  # fmt: skip


async def _received(headers: Headers, receive: Receive) -> bytes | None:
    """Return the body of a request, None when its sender has gone.

    Raises:
        Refusal: 413, as soon as it is known to be too large.
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


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise Refusal(413, f"HTTP content length exceeded {MOST_BYTES} bytes.", "413")


@lru_cache(maxsize=256)
def _acceptable(accept: bytes, usual: str) -> tuple[str, ...]:
    """Return the media types that a request takes, in its order, the usual one first where it leaves the choice.

    Raises:
        Refusal: 406, when it takes none that a model may answer in.
    """
    asked = [part.partition(";")[0].strip().lower() for part in accept.decode("latin-1").split(",")]
    ranges = [part for part in asked if part] or ["*/*"]
    forms = {form: ("*/*", f"{form.partition('/')[0]}/*", form) for form in (usual, *FORMATS)}
    found = dict.fromkeys(form for range_ in ranges for form, fitting in forms.items() if range_ in fitting)
    if not found:
        raise Refusal(406, f"the model answers in {', '.join(FORMATS)}, not in {', '.join(ranges)}")
    return tuple(found)
