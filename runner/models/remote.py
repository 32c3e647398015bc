"""Remote models: encode rows as requests, send them with retries, decode responses as scores.

A local endpoint is a process that serves a model on a free port; it is called as a remote model.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, partial
from threading import Event, Thread, Timer
from typing import IO, Annotated, NamedTuple, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat
from pydantic.dataclasses import dataclass

from runner import guard, subprocesses
from runner.domain.attributions import Calls
from runner.domain.numbers import Count, plural
from runner.domain.records import Payload
from runner.errors import EndpointError, ModelAnswerError, RecordError, RequestRejected, snippet
from runner.models.base import Headers
from runner.models.response import Response
from runner.models.transport import DEADLINE_TIMEOUTS, Call, Transport, in_order
from runner.protocols import Model, RemoteModel
from runner.records.fields import Fields, PayloadFormat
from runner.records.payloads import encoding, parse_body
from runner.records.tables import MAX_COLUMNS
from runner.types import NO_OTHER_KEYS, Rate, Score, Seconds

NON_RETRYABLE = {
    401: "check the credentials",
    403: "check the credentials and their permissions",
    404: "check the address",
    405: "check the address: it does not accept POST",
    407: "check the proxy credentials",
}
"""HTTP status codes of errors that do not depend on the records of a request, with their remedies."""

Result = TypeVar("Result")
Few = Annotated[int, Field(strict=True, gt=0, le=1_000)]
START_SECONDS = 120
"""Seconds that the process of a local endpoint may take to start."""
STOP_SECONDS = 10
"""Seconds that the process may take to exit after SIGTERM before it is killed."""
MAX_LINES_PER_RECORD = 100
"""Maximum number of lines per record in a response of JSON Lines or CSV; with more lines, it is not parsed."""
MAX_PROBLEM_CHARS = 1_000
"""Maximum number of characters of the process output in an error."""
MAX_LINE_CHARS = 1 << 16
"""Maximum number of characters of a line of output; a longer line counts as several lines."""
LAST_LINES = 20
"""Number of lines of output in an error."""


class Request(NamedTuple):
    """Encoded records, their number of features, and the index of the first one among all records to predict."""

    records: pl.Series
    width: int
    first: int = 0

    def part(self, start: int, end: int) -> Request:
        """Return a request with some of the records."""
        return Request(self.records[start:end], self.width, self.first + start)


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Remote(PayloadFormat, ABC):
    """A model served by another process.

    Attributes:
        label_headers: names of the L outputs, None for `label0`, `label1`, …
        timeout_seconds: seconds to wait for a connection, or for the next byte of a response. A complete attempt may
            take twice as long.
        attempts: maximum number of attempts per request.
        concurrency: maximum number of concurrent requests.
        max_payload_bytes, max_request_rows: maximum size of one request, in bytes and in rows.
        max_requests_per_second: maximum number of attempts per second, None for no limit.
        max_failures: number of consecutive failed attempts after which no more requests are sent.
        price_per_1k_calls: price of 1,000 requests, for stage=plan.
    """

    score: Score | None
    label_headers: Headers | None
    timeout_seconds: Seconds
    attempts: Few
    concurrency: Few
    max_payload_bytes: Count
    max_request_rows: Count
    max_requests_per_second: Rate | None
    max_failures: Count
    price_per_1k_calls: Annotated[FiniteFloat, Field(ge=0)] | None

    @property
    @abstractmethod
    def where(self) -> str:
        """The name of the endpoint in messages."""

    @property
    def identity(self) -> None:
        """None: the served model cannot be identified."""
        return

    @property
    def calls_made(self) -> Calls:
        """The calls made so far."""
        return self._transport.calls

    def planned_calls(self, features: pl.DataFrame) -> Calls:
        """Return the calls that `predict` makes if no request fails.

        Raises:
            EndpointError: if a row exceeds the maximum size of a request.
        """
        requests = self._requests(features)
        return Calls(len(requests), features.height, sum(len(self._body(request)) for request in requests))

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL; without rows, L is the known number of outputs, or 1 if it is unknown.

        Raises:
            EndpointError: if the endpoint is unreachable, rejects a record or fails, or a row exceeds the request size.
            ModelAnswerError: if a response does not contain L scores per record.
        """
        work = partial(self._scores, self._call)
        batches = in_order(work, self._requests(features), self.concurrency)
        return self._table([scores for batch in batches for scores in batch])

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the response body of the endpoint to one request with all records.

        Raises:
            ValueError: if requests contain one record each, and there are several records.
            EndpointError: if the endpoint is unreachable, rejects the request or fails.
        """
        if self.template.one_by_one and features.height > 1:
            raise ValueError(f"expected one record per request (model.content_template), not {features.height}")
        request = Request(self._records(features), features.width)
        return self._send(self._call, request, accept, Event(), self._successful_body)

    @abstractmethod
    def _connect(self) -> Call:
        """Return a function that makes one attempt; its connections are closed when the model is garbage-collected."""

    @cached_property
    def _call(self) -> Call:
        return self._connect()

    @cached_property
    def _transport(self) -> Transport:
        seconds = DEADLINE_TIMEOUTS * self.timeout_seconds
        return Transport(self.where, self.attempts, self.max_failures, self.max_requests_per_second, seconds)

    @cached_property
    def _fields(self) -> Fields:
        return Fields(None, self.score, self.headers, self.content_type, self.accept_type)

    def _records(self, features: pl.DataFrame) -> pl.Series:
        try:
            return self.template.records(features)
        except ValueError as error:
            problem = f"cannot encode a request: {error}"
            raise RequestRejected(self.where, None, problem, "no request was sent") from error

    def _requests(self, features: pl.DataFrame) -> list[Request]:
        """Return the encoded rows as requests, in order, each as large as the limits allow."""
        max_rows = 1 if self.template.one_by_one or self._transport.one_by_one else self.max_request_rows
        records, width = self._records(features), features.width
        sizes_N = records.str.len_bytes().to_numpy().astype(np.int64) + 1  # with separators
        max_bytes = self.max_payload_bytes - self.template.frame_bytes(max_rows, width) + 1
        if (sizes_N > max_bytes).any():
            i = int((sizes_N > max_bytes).argmax())
            problem = (
                f"a request with record {i} alone exceeds {self.max_payload_bytes:,} bytes, so no request was sent"
            )
            raise RequestRejected(self.where, None, problem, "increase model.max_payload_bytes", i)
        return [Request(records, width).part(*span) for span in spans(sizes_N, max_bytes, max_rows)]

    def _body(self, request: Request) -> bytes:
        return self.template.around(request.records, request.width).encode()

    def _scores(self, call: Call, request: Request, stopped: Event) -> list[list[float]]:
        """Return the scores of each record; if a batch has no valid response, send its records in smaller requests.

        If the endpoint accepts batches, a rejected one is halved: it contains a rejected record, or is too large.
        Otherwise its records are sent one by one.
        """
        count = len(request.records)
        rejection: RequestRejected | ModelAnswerError | None = None
        if count == 1 or not self._transport.one_by_one:
            try:
                return self._send(call, request, self.accept_type, stopped, partial(self._response_scores, count))
            except RequestRejected as error:
                if count == 1:
                    error.record = request.first
                    raise
                rejection = error
            except ModelAnswerError as error:
                if count == 1:
                    raise
                rejection = error
        size = 1
        if rejection:
            self._transport.count_fallback()
            if isinstance(rejection, RequestRejected) and self._transport.accepts_batches:
                size = (count + 1) // 2
        parts = [request.part(start, start + size) for start in range(0, count, size)]
        scores = [row for part in parts for row in self._scores(call, part, stopped)]
        if rejection:
            self._transport.use_single_records(count, rejection)
        return scores

    def _send(
        self, call: Call, request: Request, accept: str, stopped: Event, read: Callable[[Response], Result]
    ) -> Result:
        return self._transport.send(call, self._body(request), len(request.records), accept, stopped, read)

    def _successful_body(self, response: Response) -> str:
        """Return the body of a successful response."""
        status, text = response.status, response.text
        if response.is_success:
            return text
        if status is not None and 400 <= status < 500 and status not in NON_RETRYABLE:
            raise RequestRejected(
                self.where, status, snippet(text), "check that model.content_template matches the format it expects"
            )
        raise EndpointError(self.where, status, snippet(text), NON_RETRYABLE.get(status or 0, "check the address"))

    def _response_scores(self, count: int, response: Response) -> list[list[float]]:
        rows = self._read(self._successful_body(response), count)
        if (most := max(map(len, rows), default=0)) > MAX_COLUMNS:
            problem = f"{self.where} returned {most:,} scores for a record; at most {MAX_COLUMNS:,} are supported"
            raise ModelAnswerError(f"{problem}: check model.score")
        return rows

    def _read(self, text: str, count: int) -> list[list[float]]:
        """Return the scores of each record in a response."""
        try:
            if self.accept_type != "application/json" and (lines := text.count("\n")) > MAX_LINES_PER_RECORD * count:
                raise RecordError(
                    "row_count", f"{plural(count, 'record')} in the request, {lines:,} lines in the response"
                )
            return self._fields.response_scores(Payload(self.accept_type, text, encoding(self.accept_type)), count)
        except RecordError as error:
            if error.kind == "row_count" and (rows := self._unflattened(text, count)):
                return rows
            if (redacted := self._redacted(text)) != text:
                return self._read(redacted, count)
            remedy = "check that model.accept_type and model.score match its responses"
            raise ModelAnswerError(f"{self.where}: {error}; {remedy}") from error

    def _unflattened(self, text: str, count: int) -> list[list[float]] | None:
        """Return the scores of each record if a JSON response has them in one flat list, else None."""
        L = len(self.label_headers or ())
        if L < 2 or self.accept_type != "application/json":
            return None
        with suppress(RecordError):
            found = self._fields.located_scores(parse_body(text, self.accept_type), count * L)
            if all(type(value) in {int, float} for value in found):
                return [[float(value) for value in found[i : i + L]] for i in range(0, count * L, L)]
        return None

    def _redacted(self, text: str) -> str:
        """Return the response text without secrets, for messages."""
        return text

    def _table(self, scores_NL: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Return scores_NL; each record must have L scores. If L is unknown, the first record defines it."""
        known = len(self.label_headers) if self.label_headers else self._transport.outputs
        L = known or len(next(iter(scores_NL), [0.0]))
        for n, scores in enumerate(scores_NL):
            if len(scores) != L:
                origin = "the number of model.label_headers" if self.label_headers else "as in earlier records"
                got = f"{plural(len(scores), 'score')} for record {n}"
                raise ModelAnswerError(f"{self.where} returned {got}; expected {L}, {origin}: check model.score")
        self._transport.outputs = L if scores_NL else known
        return np.array(scores_NL, dtype=np.float64).reshape(len(scores_NL), L)


class DryRunModel:
    """A stand-in for a remote model, which counts calls instead of making them.

    Attributes:
        calls_made: the calls counted so far.
    """

    label_headers = None
    identity = None

    def __init__(self, model: RemoteModel, outputs: int) -> None:
        """Create a stand-in for a model with a number of outputs."""
        self.calls_made = Calls()
        self.planned_calls = model.planned_calls
        self._outputs = outputs

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return 0.5 for every score, and count the calls that the remote model would receive."""
        self.calls_made += self.planned_calls(features)
        return np.full((features.height, self._outputs), 0.5)


def spans(sizes_N: NDArray[np.int64], max_bytes: int, max_rows: int) -> list[tuple[int, int]]:
    """Return (start, end) of consecutive groups with a total size of at most `max_bytes` and at most `max_rows` items.

    >>> spans(np.array([3, 3, 3, 9, 1]), max_bytes=9, max_rows=2)
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends_N = np.cumsum(sizes_N)
    groups: list[tuple[int, int]] = []
    start = 0
    while start < len(sizes_N):
        size_before = ends_N[start] - sizes_N[start]
        end = min(start + max_rows, int(np.searchsorted(ends_N, size_before + max_bytes, side="right")))
        groups.append((start, end))
        start = end
    return groups


class LocalEndpoint:
    """A model served by a child process, which starts at the first use and stops at the end of the context.

    The child ends when its standard input closes, so neither it nor anything it started outlives this process, even
    after SIGKILL.
    """

    def __init__(self, model: Model, settings: str, connect: Callable[[str], Remote]) -> None:
        """Prepare an endpoint.

        Args:
            model: the served model; its label headers and identity are copied.
            settings: configuration of the serving process as YAML.
            connect: function that returns the remote model at a URL.
        """
        self.label_headers, self.identity = model.label_headers, model.identity
        self._settings = settings
        self._connect = connect
        self._process: subprocess.Popen[str] | None = None
        self._relay: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            guard.end_members(self._process.pid)
            self._process.kill()
            self._process.wait()
        if self._relay:
            self._relay.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    @property
    def calls_made(self) -> Calls:
        """The calls made to the endpoint so far."""
        return self._endpoint.calls_made

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL.

        Raises:
            EndpointError: if the endpoint does not start or does not respond.
        """
        return self._endpoint.predict(features)

    def planned_calls(self, features: pl.DataFrame) -> Calls:
        """Return the calls that `predict` would make."""
        return self._endpoint.planned_calls(features)

    @cached_property
    def _endpoint(self) -> Remote:
        with tempfile.TemporaryDirectory(prefix="shapwatch-") as folder:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                subprocesses.command(folder, self._settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="backslashreplace",
                env=subprocesses.environment(),
                start_new_session=True,
            )
            return self._connect(self._url(self._process))

    def _url(self, process: subprocess.Popen[str]) -> str:
        """Return the URL of the process; forward its later output to standard error.

        Raises:
            EndpointError: if the process exits before it serves; the message quotes its output.
        """
        assert process.stdout  # noqa: S101
        watchdog = Timer(START_SECONDS, process.kill)
        watchdog.start()
        output: deque[str] = deque(maxlen=LAST_LINES)
        try:
            for line in _lines(process.stdout):
                if line.startswith("serving "):
                    self._relay = Thread(target=_forward, args=(process.stdout,), daemon=True)
                    self._relay.start()
                    return line.split()[-1]
                output.append(line)
        finally:
            watchdog.cancel()
        message = " ".join("".join(output).rpartition("error: ")[2].split())
        problem = f"the process exited before serving: {message[:MAX_PROBLEM_CHARS]}"
        raise EndpointError("the local endpoint", None, problem, "set model.deploy=null to predict in this process")


def _forward(stream: IO[str]) -> None:
    for line in _lines(stream):
        with suppress(OSError, ValueError):  # the process would wait if its output was no longer read
            sys.stderr.write(line)


def _lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a stream, in parts if they are long, so that no output exhausts the memory."""
    while line := stream.readline(MAX_LINE_CHARS):
        yield line
