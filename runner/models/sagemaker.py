"""A model behind a SageMaker endpoint, or behind a server with the API of the SageMaker runtime."""

from __future__ import annotations

import re
import weakref
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from runner.errors import EndpointError, ShapwatchError
from runner.models.base import installed
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
from runner.types import NO_OTHER_KEYS
from runner.urls import is_loopback, is_plain_url, redact_urls, without_secrets

THROTTLED, DENIED = 429, 403
"""HTTP status codes assigned to errors of throttling and of credentials, which AWS also sends with status 400."""
CREDENTIALS = r"Token|Signature|AccessDenied|UnrecognizedClient|NotAuthorized|OptInRequired|RequestExpired"
"""Pattern of AWS's error codes for missing, invalid and expired credentials."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class SageMaker(Remote):
    """A model behind a SageMaker endpoint; credentials come from boto3.

    Attributes:
        kind: `sagemaker`.
        endpoint_name: name of the endpoint.
        region: AWS region of the endpoint, None for the region of the environment.
        endpoint_url: address of the runtime, None for AWS.
        target_variant: production variant to call, None for the endpoint's own traffic distribution.
        inference_component: inference component to call, None if the endpoint has none.
    """

    kind: Literal["sagemaker"]
    endpoint_name: str
    region: str | None
    endpoint_url: str | None
    target_variant: str | None
    inference_component: str | None

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if self.endpoint_url is not None and ("?" in self.endpoint_url or not is_plain_url(self.endpoint_url)):
            expected = "an address such as http://127.0.0.1:8080, without credentials or query, or null"
            raise ValueError(f"endpoint_url: expected {expected}")
        return self

    @property
    def where(self) -> str:
        """The endpoint, and the address of the runtime unless it is AWS."""
        address = f" at {without_secrets(self.endpoint_url)}" if self.endpoint_url else ""
        return f"SageMaker endpoint {self.endpoint_name}{address}"

    def _connect(self) -> Call:
        client = self._client()
        weakref.finalize(self, client.close)
        send = partial(_send, client._endpoint.http_session)
        client.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", send)
        parameters = {
            "EndpointName": self.endpoint_name,
            "ContentType": self.content_type,
            "TargetVariant": self.target_variant,
            "InferenceComponentName": self.inference_component,
        }
        return partial(_invoke, client, self.where, {key: value for key, value in parameters.items() if value})

    def _client(self) -> Any:
        with installed("sagemaker"):
            import boto3  # type: ignore[import-untyped]
            from botocore.config import Config  # type: ignore[import-untyped]
            from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
        config = Config(
            connect_timeout=self.timeout_seconds,
            read_timeout=self.timeout_seconds,
            max_pool_connections=self.concurrency,
            retries={"total_max_attempts": 1, "mode": "standard"},
            proxies={} if is_loopback(urlsplit(self.endpoint_url or "").hostname or "") else None,
        )
        try:
            return boto3.Session().client(
                "sagemaker-runtime", region_name=self.region, endpoint_url=self.endpoint_url, config=config
            )
        except (BotoCoreError, ValueError) as error:
            problem = redact_urls(str(error).rstrip("."))
            raise EndpointError(self.where, None, problem, "check model.region and model.endpoint_url") from error


def _invoke(
    client: Any, where: str, parameters: dict[str, str], body: bytes, accept: str, inference_id: str
) -> Response:
    """Send one invocation and return its outcome.

    Raises:
        EndpointError: if the request cannot be sent, for example without credentials.
    """
    from botocore.exceptions import (
        ClientError,
        ConnectionError,  # noqa: A004  botocore's own
        HTTPClientError,
        IncompleteReadError,
    )

    try:
        response = client.invoke_endpoint(Body=body, Accept=accept, InferenceId=inference_id, **parameters)
        headers = response["ResponseMetadata"]["HTTPHeaders"]
        with closing(response["Body"]) as stream:
            chunks, coding = stream.iter_chunks(CHUNK_BYTES), headers.get("content-encoding", "")
            return Response(200, body_text(where, chunks, coding, headers.get("content-type", "")), retryable=False)
    except ClientError as error:
        return _error_response(where, error.response)
    except (HTTPClientError, ConnectionError, IncompleteReadError, IncompleteBody) as error:
        return Response(None, redact_urls(str(error)), retryable=True)
    except ShapwatchError:
        raise
    except Exception as error:
        problem = redact_urls(f"{type(error).__name__}: {error}".rstrip("."))
        raise EndpointError(where, None, problem, "check the configuration and credentials of boto3") from error


def _send(session: Any, request: Any, **_: object) -> Any:
    """Send a request, and return the response.

    The body of an error is read here, up to a maximum size, because botocore reads bodies of any size.
    """
    from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]
    from botocore.exceptions import HTTPClientError
    from urllib3.exceptions import HTTPError

    response = session.send(request)
    if response.status_code < 300:
        return response
    try:
        with closing(response.raw) as raw:
            text = error_text(raw.stream(CHUNK_BYTES), response.headers.get("content-encoding", ""))
    except HTTPError as error:
        raise HTTPClientError(error=error) from error
    body = SimpleNamespace(stream=lambda: [text.encode()])
    return AWSResponse(response.url, response.status_code, response.headers, body)


def _error_response(where: str, response: dict[str, Any]) -> Response:
    """Return an error of the runtime or of the model container as a response.

    Raises:
        EndpointError: if the endpoint does not exist in the account and region.
    """
    problem, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, text = str(problem.get("Code", "")), str(problem.get("Message") or problem.get("Code", ""))
    status = int(response.get("OriginalStatusCode") or metadata.get("HTTPStatusCode") or 500)
    if code == "ValidationError" and "not found" in text:
        raise EndpointError(
            where, status, text.rstrip("."), "check model.endpoint_name, model.target_variant and model.region"
        )
    if "Throttl" in code:
        status = THROTTLED
    elif re.search(CREDENTIALS, code):
        status = DENIED
    retry_after = retry_seconds(str(metadata.get("HTTPHeaders", {}).get("retry-after", "")), datetime.now(UTC))
    retryable = status in RETRYABLE or status >= 500
    return Response(status, str(response.get("OriginalMessage") or text), retryable, retry_after)
