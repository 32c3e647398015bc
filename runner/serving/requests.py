"""Conversion of request bodies to rows with one type per column, and of model outputs to response bodies.

Parsing a body of some megabytes can take a second, and the parsers do not release the interpreter lock meanwhile. In
another process it delays no other request. The process starts with the first large request and ends with the server.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import signal
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from threading import Timer
from types import NoneType
from typing import IO, NamedTuple, cast, get_args

import orjson
import polars as pl

from runner.domain.numbers import plural
from runner.errors import RecordError, snippet
from runner.protocols import Model, ResponseEncoder
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar, check_count, encode_scores, parse_body
from runner.subprocesses import environment

FORMATS: tuple[Format, ...] = get_args(Format)
ANY_FORMAT = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
"""The media types of requests and responses, for messages."""
MAX_FEATURES = 10_000
"""Maximum number of values of a record; a table with many more columns takes seconds and gigabytes."""
MAX_CACHED_TYPES = 512
"""Maximum number of columns whose types are cached."""
CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
READ_SECONDS = 30.0
"""Seconds after which the process is killed if it has not read a body."""
HEADER = struct.Struct("<qq")
"""Numbers before each message: the size of the content type (-1: none) or the status, and the size of the content."""
FAILED = "the request cannot be read; see the server's log"

logger = logging.getLogger("shapwatch")

Types = tuple[type[pl.DataType] | None, ...]
Kinds = tuple[type, ...]

COLUMN_TYPES: dict[frozenset[type], type[pl.DataType]] = {
    frozenset(): pl.Null,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
    frozenset({str}): pl.String,
    frozenset({bool}): pl.Boolean,
}
"""Column types, by the types of the values other than null."""


class RequestError(Exception):
    """An error response to a request.

    Attributes:
        status: the HTTP status of a model container.
        message: the message for the client.
        kind: the error code of SageMaker's runtime for its own errors, None for errors of the model.
    """

    def __init__(self, status: int, message: str, kind: str | None = None) -> None:
        self.status, self.message, self.kind = status, message, kind
        super().__init__(message)


class ClientDisconnected(Exception):
    """The client has disconnected, so that the request has no response."""


class RequestRecords(NamedTuple):
    """The rows of a request, and the types of their columns."""

    rows: list[list[Scalar]]
    types: Types


@dataclass(frozen=True)
class RequestReader:
    """Parser of request bodies; `fields.content_type` is the default content type.

    Attributes:
        fields: the positions of the feature values.
    """

    fields: Fields

    def read(self, content_type: bytes | None, body: bytes) -> RequestRecords:
        """Return the records of a request.

        Raises:
            RequestError: 415 for an unsupported media type, 400 for an invalid body.
        """
        format_ = self.fields.content_type if content_type is None else _format(content_type)
        try:
            check_count(body)
            rows = self.fields.rows(parse_body(body.decode(), format_))
        except (RecordError, UnicodeDecodeError) as error:
            raise RequestError(400, f"the request cannot be read: {error}") from error
        if not rows:
            raise RequestError(400, "the request's body is empty, expected at least one record")
        return self.with_types(rows)

    def with_types(self, rows: list[list[Scalar]]) -> RequestRecords:
        """Return rows with the types of their columns.

        Raises:
            RequestError: 400 for rows of different lengths, or for columns with values of different types.
        """
        self._check_widths({len(row) for row in rows})
        kinds = {_kinds(row) for row in rows}
        is_cached = len(kinds) == 1 and len(rows[0]) <= MAX_CACHED_TYPES
        types = _types(*kinds) if is_cached else tuple(map(_type, zip(*kinds, strict=True)))
        if None in types:
            name = self.fields.name(types.index(None))
            raise RequestError(
                400,
                f"feature {name!r} has values of different types, expected only numbers, only strings or only booleans",
            )
        return RequestRecords(rows, types)

    def _check_widths(self, widths: set[int]) -> None:
        headers = self.fields.headers
        expected = {len(headers)} if headers else widths
        if len(widths) > 1 or widths != expected:
            others = {1: "", 2: f"{min(widths)} and "}.get(len(widths), f"{min(widths)} to ")
            expected_count = f"{len(headers)} (data.headers)" if headers else "the same number in each record"
            problem = f"the records have {others}{plural(max(widths), 'value')}, expected {expected_count}"
            raise RequestError(400, problem)
        if max(widths) > MAX_FEATURES:
            raise RequestError(400, f"a record has {plural(max(widths), 'value')}, expected at most {MAX_FEATURES:,}")


def as_table(records: RequestRecords, names: Callable[[int], Sequence[str]]) -> pl.DataFrame:
    """Return records as a table; `names` returns the names of a number of features."""
    schema = dict(zip(names(len(records.types)), records.types, strict=True))
    return pl.DataFrame(records.rows, schema, orient="row")


@lru_cache(maxsize=256)
def _format(content_type: bytes) -> Format:
    """Return the format for a content type; its charset, if any, must be a subset of UTF-8."""
    header = content_type.decode("latin-1")
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    charsets = [
        value.strip('" ') for name, _, value in (part.partition("=") for part in parameters) if name == "charset"
    ]
    for format_ in FORMATS:
        if format_ == media_type and all(charset in CHARSETS for charset in charsets):
            return format_
    raise RequestError(415, f"unsupported content type {snippet(repr(header))}; expected {ANY_FORMAT}, in UTF-8")


def _kinds(row: Sequence[Scalar]) -> Kinds:
    """Return the types of values; an integer beyond 64 bits counts as a float, as in JSON parsers."""
    return tuple([float if type(v) is int and not -(2**63) <= v < 2**63 else type(v) for v in row])


@lru_cache(maxsize=1024)
def _types(kinds: Kinds) -> Types:
    """Return the column types of rows that all have the same value types."""
    return tuple(_type([kind]) for kind in kinds)


def _type(kinds: Iterable[type]) -> type[pl.DataType] | None:
    """Return the column type for some value types, or None if they differ."""
    return COLUMN_TYPES.get(frozenset(kinds) - {NoneType})


def encode_response(model: Model, features: pl.DataFrame, accept: str) -> str:
    """Return the response body of the model's endpoint: in the model's own format, or with one `score` per record.

    The `score` of a model with several outputs is a list.

    Raises:
        ValueError: if the media type is not supported.
        RecordError: if the response is too large.
    """
    if isinstance(model, ResponseEncoder):
        return model.encode_response(features, accept)
    return encode_scores(
        model.predict(features), accept, lambda scores: {"score": scores if len(scores) > 1 else scores[0]}
    )


class LargeRequestReader:
    """Reader of request bodies that uses another process."""

    def __init__(self, fields: Fields) -> None:
        """Create a reader; `fields` are the positions of the features in requests."""
        self._fields = fields
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    async def read(self, content_type: bytes | None, body: bytes) -> pl.DataFrame:
        """Return the records of a request as a table.

        Raises:
            RequestError: 415 for an unsupported media type, 400 for an invalid body, 500 if the process fails.
        """
        async with self._turn:
            exchange = asyncio.ensure_future(asyncio.to_thread(self._exchange, content_type, body))
            try:
                status, content = await asyncio.shield(exchange)
            finally:  # the turn of a cancelled request ends with its exchange
                await asyncio.wait([exchange])
        if status != 200:
            raise RequestError(status, content.decode())
        return await asyncio.to_thread(pl.read_ipc, content)

    def close(self) -> None:
        """End the process, also while it reads a body."""
        if self._process is not None:
            self._process.kill()

    def _exchange(self, content_type: bytes | None, body: bytes) -> tuple[int, bytes]:
        """Return the status and the content of the process's answer."""
        if self._process is None or self._process.poll() is not None:
            self._process = _start(self._fields)
            weakref.finalize(self, _end, self._process)
        process = self._process
        requests, responses = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        timer = Timer(READ_SECONDS, process.kill)
        timer.start()
        try:
            requests.write(HEADER.pack(-1 if content_type is None else len(content_type), len(body)))
            requests.write((content_type or b"") + body)
            requests.flush()
            status, size = HEADER.unpack(_exactly(responses, HEADER.size))
            return status, _exactly(responses, size)
        except (OSError, EOFError):
            _end(process)
            logger.error("the process that reads large requests has ended (exit code %s)", process.returncode)
            return 500, FAILED.encode()
        finally:
            timer.cancel()


def _start(fields: Fields) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "runner.serving.requests", orjson.dumps(asdict(fields)).decode()]
    return subprocess.Popen(  # noqa: S603  our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.kill()
    process.wait()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return bytes from a stream.

    Raises:
        EOFError: if the stream ends before.
    """
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _answer(reader: RequestReader, content_type: bytes | None, body: bytes) -> tuple[int, bytes]:
    """Return the status, and the table in Arrow's IPC format or a message."""
    try:
        table = as_table(reader.read(content_type, body), reader.fields.names)
    except RequestError as error:
        return error.status, error.message.encode()
    file = io.BytesIO()
    table.write_ipc(file)
    return 200, file.getvalue()


def main() -> None:
    """Answer requests on standard input until it ends: `python -m runner.serving.requests FIELDS`."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # a collection visits millions of values, and finds no cycles
    options = orjson.loads(sys.argv[1])
    headers = options.pop("headers")
    reader = RequestReader(Fields(**options, headers=None if headers is None else tuple(headers)))
    requests, responses = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(HEADER.size):
        type_size, size = HEADER.unpack(header)
        content_type = None if type_size < 0 else _exactly(requests, type_size)
        status, content = _answer(reader, content_type, _exactly(requests, size))
        responses.write(HEADER.pack(status, len(content)))
        responses.write(content)
        responses.flush()


if __name__ == "__main__":
    main()
