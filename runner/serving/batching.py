"""Dynamic batching: requests that arrive while the model is busy are answered by one model call.

A call for one row costs nearly as much as a call for a hundred. Requests are joined only if their columns have the same
types, so each request gets the same response or error as from a separate call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from threading import Thread

import polars as pl

from runner.errors import ArtifactError, ModelInputError, SettingsError, ShapwatchError
from runner.protocols import Model
from runner.records.payloads import Scalar
from runner.serving.requests import RequestError, RequestRecords, Types, encode_response

MAX_BATCH_ROWS = 4096
"""Maximum rows of joined requests."""

MAX_INLINE_ROWS = 512
"""Maximum rows for which a fast model is called in the event loop, because a thread switch takes longer."""

LINE_FORMATS = ("application/jsonlines", "text/csv")
"""Media types of responses with one line per record, which can be split by request."""

INVALID_RECORDS = (ModelInputError, ArtifactError, SettingsError)
"""Errors that a working model raises for invalid records, for example if their features are not those of the model."""

FAILED = "the model failed; see the server's log"

ResponseOrError = str | RequestError

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True, eq=False)
class PendingRequest:
    """A request without a response yet."""

    records: RequestRecords
    accept: str
    response: asyncio.Future[str]


Responses = list[tuple[PendingRequest, ResponseOrError]]


class RequestBatcher:
    """Component that joins pending requests into batches for the model.

    The model may run code of users, which never runs in the event loop: the batcher calls the model in a daemon thread,
    unless the model is fast.

    Attributes:
        model: the model.
        names: function that returns the feature names for a number of features.
        answered: the number of requests answered without an error.
    """

    def __init__(self, model: Model, names: Callable[[int], Sequence[str]], is_fast: bool = False) -> None:
        """Create a batcher.

        Args:
            model: the model.
            names: function that returns the feature names for a number of features.
            is_fast: whether a model call takes only microseconds of arithmetic.
        """
        self.model = model
        self.names = names
        self.answered = 0
        self._pending: list[PendingRequest] = []
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=_run_tasks, args=(self._tasks,), name="model", daemon=True)
        self._work: asyncio.Task[None] | None = None
        self._is_fast = is_fast

    async def respond(self, records: RequestRecords, accept: str) -> str:
        """Return the body of the model's response.

        Raises:
            RequestError: 406 for an unsupported media type, 400 for invalid records, 500 if the model fails (logged).
        """
        loop = asyncio.get_running_loop()
        request = PendingRequest(records, accept, loop.create_future())
        self._pending.append(request)
        if self._work is None:
            self._work = loop.create_task(self._respond_to_all())
        return await request.response

    async def _respond_to_all(self) -> None:
        """Answer batches until no request is pending."""
        while self._pending:
            batch, self._pending = self._pending, []
            is_inline = self._is_fast and sum(len(request.records.rows) for request in batch) <= MAX_INLINE_ROWS
            for request, response in self._responses(batch) if is_inline else await self._in_thread(batch):
                self._complete(request.response, response)
        self._work = None

    async def _in_thread(self, batch: Sequence[PendingRequest]) -> Responses:
        """Return the responses, computed in the model's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Responses] = loop.create_future()

        def task() -> None:
            responses = self._responses(batch)
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(future.set_result, responses)

        if not self._thread.is_alive():
            self._thread.start()
        self._tasks.put(task)
        return await future

    def _complete(self, future: asyncio.Future[str], response: ResponseOrError) -> None:
        if future.done():
            return
        if isinstance(response, str):
            self.answered += 1
            future.set_result(response)
        else:
            future.set_exception(response)

    def _responses(self, batch: Sequence[PendingRequest]) -> Responses:
        return [pair for group in _groups(batch) for pair in zip(group, self._respond_to_group(group), strict=True)]

    def _respond_to_group(self, group: Sequence[PendingRequest]) -> list[ResponseOrError]:
        """Return the responses to requests of the same types; if the joint call fails, make one call per request."""
        if len(group) > 1:
            with suppress(Exception, SystemExit):
                return [*self._joint_responses(group)]
        return [self._respond_to_one(request) for request in group]

    def _joint_responses(self, group: Sequence[PendingRequest]) -> Iterator[str]:
        rows = [row for request in group for row in request.records.rows]
        body = encode_response(self.model, self._frame(rows, group[0].records.types), group[0].accept)
        *lines, rest = body.split("\n")
        if rest or len(lines) != len(rows):
            raise ValueError(f"{len(lines)} lines for {len(rows)} records")
        remaining = iter(lines)
        return ("".join([f"{line}\n" for line in islice(remaining, len(request.records.rows))]) for request in group)

    def _respond_to_one(self, request: PendingRequest) -> ResponseOrError:
        try:
            return self._encoded_response(self._frame(*request.records), request.accept)
        except RequestError as error:
            return error
        except INVALID_RECORDS as error:
            return RequestError(400, error.problem if isinstance(error, ArtifactError) else str(error))
        except (Exception, SystemExit) as error:
            logger.exception("the model failed")
            return RequestError(500, str(error) if isinstance(error, ShapwatchError) else FAILED)

    def _encoded_response(self, features: pl.DataFrame, accept: str) -> str:
        try:
            return encode_response(self.model, features, accept)
        except ValueError as error:
            self.model.predict(features)  # raises the model's own error for invalid records
            raise RequestError(406, str(error)) from error

    def _frame(self, rows: Sequence[Sequence[Scalar]], types: Types) -> pl.DataFrame:
        return pl.DataFrame(rows, dict(zip(self.names(len(types)), types, strict=True)), orient="row")


def _run_tasks(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        tasks.get()()


def _groups(batch: Iterable[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Yield groups of requests that one model call can answer."""
    groups: defaultdict[object, list[PendingRequest]] = defaultdict(list)
    for request in batch:
        groups[(request.accept, request.records.types) if request.accept in LINE_FORMATS else request].append(request)
    for group in groups.values():
        yield from _bounded(group)


def _bounded(group: Sequence[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Split a group into parts of up to `MAX_BATCH_ROWS` rows; a larger request is its own part."""
    part: list[PendingRequest] = []
    rows = 0
    for request in group:
        rows += len(request.records.rows)
        if part and rows > MAX_BATCH_ROWS:
            yield part
            part, rows = [], len(request.records.rows)
        part.append(request)
    yield part
