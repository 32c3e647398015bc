"""A model behind a URL that accepts records by POST and returns scores."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from runner.errors import EndpointError
from runner.models.remote import Remote
from runner.models.response import (
    CHUNK_BYTES,
    RETRYABLE,
    IncompleteBody,
    Response,
    body_text,
    error_text,
    retry_seconds,
)
from runner.models.transport import Call
from runner.types import NO_OTHER_KEYS, Variable
from runner.urls import bearer_token, is_loopback, is_plain_url, query_secrets, redact, without_secrets

if TYPE_CHECKING:
    import httpx

INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
EVENT_ID = "Ce-Id"
"""Header from which KServe and Seldon loggers take the record id."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Http(Remote):
    """A model behind a URL, called over HTTP/1.1 with persistent connections.

    Certificates are verified. Proxies come from the environment, except for loopback addresses. Redirects are not
    followed, and cookies are not stored.

    Attributes:
        kind: `http`.
        url: the address that accepts records.
        token_env: name of the environment variable with a bearer token, None for no token.
    """

    kind: Literal["http"]
    url: str
    token_env: Variable | None

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if not is_plain_url(self.url):
            expected = "an address such as http://127.0.0.1:8080/invocations, without credentials"
            raise ValueError(
                f"url: expected {expected}; for a token, set model.token_env to the name of an environment variable"
            )
        return self

    @property
    def where(self) -> str:
        """The URL, without its query."""
        return without_secrets(self.url)

    def _connect(self) -> Call:
        client = open_client(self.url, self.content_type, self._token, self.timeout_seconds, self.concurrency)
        weakref.finalize(self, client.close)
        return partial(post, client, self.url, self._redacted)

    def _redacted(self, text: str) -> str:
        return redact(text, self._token, *query_secrets(self.url))

    @cached_property
    def _token(self) -> str:
        """The bearer token, an empty string if `token_env` is None.

        Raises:
            EndpointError: if the environment variable has no valid token.
        """
        if self.token_env is None:
            return ""
        try:
            return bearer_token(os.environ.get(self.token_env, ""))
        except ValueError as error:
            problem = f"the environment variable {self.token_env} {error}"
            raise EndpointError(self.where, None, problem, "set it to a token, or set model.token_env=null") from error


def open_client(url: str, content_type: str, token: str | None, timeout: float, connections: int) -> httpx.Client:
    """Return a client of an endpoint, which stores no cookies, and uses no proxy for a loopback address.

    Args:
        url: address of the endpoint.
        content_type: media type of the requests.
        token: bearer token, empty or None for none.
        timeout: seconds to wait for a connection, or for the next byte.
        connections: maximum number of connections that stay open.

    Raises:
        EndpointError: if the address of a proxy in the environment is invalid.
    """
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # httpx logs every request at level INFO
    headers = {"Content-Type": content_type, "Accept-Encoding": "gzip"}
    host = urlsplit(url)
    try:
        return httpx.Client(
            headers=headers | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            mounts={f"all://{host.netloc}": None} if is_loopback(host.hostname or "") else None,
        )
    except (ValueError, httpx.InvalidURL) as error:
        problem = "the address of a proxy in the environment is invalid"
        remedy = "correct or unset HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        raise EndpointError(without_secrets(url), None, problem, remedy) from error


def post(
    client: httpx.Client, url: str, redact: Callable[[str], str], body: bytes, accept: str, inference_id: str
) -> Response:
    """Send one POST request and return its outcome; secrets are removed from errors, but not from scores.

    Raises:
        EndpointError: if the response is too large.
        ModelAnswerError: if its content coding or charset is not supported.
    """
    import httpx

    where = without_secrets(url)
    headers = {"Accept": accept, INFERENCE_ID: inference_id, EVENT_ID: inference_id}
    try:
        with client.stream("POST", url, content=body, headers=headers) as response:
            return _outcome(response, where, redact)
    except (httpx.RequestError, httpx.InvalidURL, IncompleteBody) as error:
        retryable = not isinstance(error, httpx.InvalidURL)
        return Response(None, redact(str(error) or type(error).__name__), retryable)


def _outcome(response: httpx.Response, where: str, redact: Callable[[str], str]) -> Response:
    """Return the outcome of an attempt whose response is still to be read."""
    status, headers = response.status_code, response.headers
    chunks, coding = response.iter_raw(CHUNK_BYTES), headers.get("Content-Encoding", "")
    if response.is_success:
        return Response(status, body_text(where, chunks, coding, headers.get("Content-Type", "")), retryable=False)
    if response.has_redirect_location:
        text = f"redirects to {without_secrets(headers['Location'])} are not followed"
    else:
        text = error_text(chunks, coding)
    retry_after = retry_seconds(headers.get("Retry-After", ""), datetime.now(UTC))
    return Response(status, redact(text), status in RETRYABLE, retry_after)
