"""An object store for tests: moto's S3 server with one bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
CONFLICTING = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class Bucket:
    """A bucket.

    Attributes:
        endpoint: URL of the server.
        client: boto3 client, to prepare and check objects.
    """

    name: str
    endpoint: str
    client: Any

    @property
    def url(self) -> str:
        """The URL of the bucket."""
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> str:
        """Write an object, and return its URL."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        """Return the content of an object."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def fill(self, keys: Iterator[str]) -> None:
        """Write many objects of one byte directly into the server, a hundred times faster than over HTTP."""
        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(self.name, key, b"x")


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, name: str = "captures") -> Iterator[Bucket]:
    """Yield an empty bucket in an otherwise empty store, and set the environment for it."""
    endpoint = _server()
    s3_backends.reset()
    use_endpoint(monkeypatch, endpoint)
    login = {
        "region_name": ENVIRONMENT["AWS_REGION"],
        "aws_access_key_id": ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    }
    with closing(boto3.client("s3", endpoint_url=endpoint, **login)) as client:
        client.create_bucket(Bucket=name)
        yield Bucket(name, endpoint, client)


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the environment variables for an S3 server."""
    for variable in CONFLICTING:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(variable, value)


@cache
def _server() -> str:
    """Return the URL of a server on a free port. It ends with this process, because stopping takes 0.5 s."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
