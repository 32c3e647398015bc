"""Dynamic batching: requests that arrive while the model is busy are answered by one model call.

A call for one row costs nearly as much as a call for a hundred. Requests are joined only if their columns have the same
types, so each request gets the same response or error as from a separate call.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from threading import Lock, Thread

import polars as pl

from runner.domain.numbers import plural
from runner.errors import ArtifactError, ModelInputError, RecordError, SettingsError, ShapwatchError, snippet
from runner.protocols import Model
from runner.serving.requests import ClientDisconnected, RequestError, RequestRecords, as_table, encode_response

CHECK_SECONDS = 1.0
"""Seconds between two checks whether the model's thread runs."""

MAX_BATCH_ROWS = 4096
"""Maximum rows of joined requests."""

MAX_INLINE_VALUES = 8192
"""Maximum number of values for which a fast model is called in the event loop, because a thread switch takes longer."""

LINE_FORMATS = ("application/jsonlines", "text/csv")
"""Media types of responses with one line per record, which can be split by request."""

INVALID_RECORDS = (ModelInputError, ArtifactError, SettingsError, RecordError)
"""Errors that a working model raises for invalid or too many records, for example with features of another model."""

MODEL_SECONDS = 60.0
"""Seconds that a model call may take, as in SageMaker; then its requests fail, and another thread takes over."""

MAX_KINDS = 100
"""Maximum number of kinds of failures of the model whose occurrences are counted."""

FAILED = "the model failed; see the server's log"

ResponseOrError = str | RequestError

logger = logging.getLogger("shapwatch")


NO_RECORDS = RequestRecords([], ())
BEGINNING = Lock()
"""Lock of the decision whether a request reaches the model, or is withdrawn."""


@dataclass(eq=False, slots=True)
class PendingRequest:
    """A request without a response yet; the records of a large one are a table."""

    records: RequestRecords | pl.DataFrame
    accept: str
    response: asyncio.Future[str]
    _begun: bool = False

    def begin(self) -> bool:
        """Return whether the request still needs a response; from now on it cannot be withdrawn."""
        with BEGINNING:
            self._begun = not self.response.done()
            return self._begun

    def withdraw(self) -> None:
        """Forget the request of a disconnected client, unless the model has begun."""
        with BEGINNING:
            if not self._begun and not self.response.done():
                self.records = NO_RECORDS
                self.response.set_exception(ClientDisconnected())

    @property
    def height(self) -> int:
        """The number of records."""
        return len(self.records) if isinstance(self.records, pl.DataFrame) else len(self.records.rows)

    @property
    def width(self) -> int:
        """The number of features."""
        return self.records.width if isinstance(self.records, pl.DataFrame) else len(self.records.types)


Responses = list[tuple[PendingRequest, ResponseOrError]]


class RequestBatcher:
    """Component that joins pending requests into batches for the model.

    The model may run code of users, which never runs in the event loop: the batcher calls the model in a daemon thread,
    unless the model is fast. A call that does not end costs its own requests only: they fail after `MODEL_SECONDS`, and
    a new thread answers the next ones.

    Attributes:
        model: the model.
        names: function that returns the feature names for a number of features.
        answered: the number of requests answered without an error.
        is_fast: whether a model call takes only microseconds of arithmetic.
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
        self._thread: ModelThread | None = None
        self._hanging: list[ModelThread] = []
        self._work: asyncio.Task[None] | None = None
        self._failures: Counter[str] = Counter()
        self.is_fast = is_fast

    @property
    def problem(self) -> str | None:
        """The reason why the server is unhealthy: a model call that does not end; None without one."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if not self._hanging:
            return None
        calls = plural(len(self._hanging), "model call")
        return f"{calls} running for more than {MODEL_SECONDS:g} s; check the model, and restart the server"

    async def respond(
        self, records: RequestRecords | pl.DataFrame, accept: str, gone: asyncio.Future[None] | None = None
    ) -> str:
        """Return the body of the model's response.

        Args:
            records: the records of the request.
            accept: the media type of the response.
            gone: future that completes when the client disconnects.

        Raises:
            RequestError: 406 for an unsupported media type, 400 for invalid records, 500 if the model fails (logged).
            ClientDisconnected: if the client disconnects before the model is called.
        """
        loop = asyncio.get_running_loop()
        request = PendingRequest(records, accept, loop.create_future())
        if gone is not None:
            gone.add_done_callback(lambda _: request.withdraw())
        self._pending.append(request)
        if self._work is None:
            self._work = loop.create_task(self._respond_to_all())
        return await request.response

    async def _respond_to_all(self) -> None:
        """Answer batches until no request is pending."""
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                await self._respond_to_batch(batch)
            except Exception:  # for example, the process may start no more threads
                logger.exception("the model cannot be called")
                self._complete_all([(request, RequestError(500, FAILED)) for request in batch])
        self._work = None

    async def _respond_to_batch(self, batch: Sequence[PendingRequest]) -> None:
        if self.is_fast and sum(request.height * request.width for request in batch) <= MAX_INLINE_VALUES:
            for responses in self._responses(batch):
                self._complete_all(responses)
        else:
            await self._respond_in_thread(batch)

    async def _respond_in_thread(self, batch: Sequence[PendingRequest]) -> None:
        """Answer requests in the model's thread; replace the thread if a call does not end."""
        loop = asyncio.get_running_loop()
        end: asyncio.Future[None] = loop.create_future()
        if self._thread is None or not self._thread.is_alive():
            self._thread = ModelThread()
        thread = self._thread

        def task() -> None:
            with suppress(RuntimeError):  # the event loop has ended
                for responses in self._responses(batch):
                    loop.call_soon_threadsafe(self._complete_all, responses)
                    thread.note_progress()
                loop.call_soon_threadsafe(end.set_result, None)

        thread.run(task)
        while not end.done() and thread.is_alive() and (remaining := MODEL_SECONDS - thread.idle_seconds) > 0:
            await asyncio.wait([end], timeout=min(remaining, CHECK_SECONDS))
        if not end.done():
            self._abandon(thread)
            self._complete_all([(request, RequestError(500, FAILED)) for request in batch])

    def _abandon(self, thread: ModelThread) -> None:
        logger.error("a model call has not ended within %g s: its requests fail, a new thread starts", MODEL_SECONDS)
        self._hanging.append(thread)
        self._thread = None
        thread.close()

    def _complete_all(self, responses: Responses) -> None:
        for request, response in responses:
            self._complete(request.response, response)

    def _complete(self, future: asyncio.Future[str], response: ResponseOrError) -> None:
        if future.done():
            return
        if isinstance(response, str):
            self.answered += 1
            future.set_result(response)
        else:
            future.set_exception(response)

    def _responses(self, batch: Sequence[PendingRequest]) -> Iterator[Responses]:
        """Yield the responses of each model call; if the call for a group fails, make one call per request."""
        for group in _groups(batch):
            remaining = [request for request in group if request.begin()] if len(group) > 1 else []
            if len(remaining) > 1 and (responses := self._joint_responses(remaining)):
                yield responses
            else:
                yield from ([(request, self._respond_to_one(request))] for request in group if request.begin())

    def _joint_responses(self, group: Sequence[PendingRequest]) -> Responses:
        """Return the responses to requests of the same types from one model call; nothing if it fails."""
        parts = [request.records for request in group if isinstance(request.records, RequestRecords)]
        rows = [row for records in parts for row in records.rows]
        with suppress(BaseException):
            body = encode_response(self.model, self._table(RequestRecords(rows, parts[0].types)), group[0].accept)
            *lines, rest = body.split("\n")
            if not rest and len(lines) == len(rows):
                remaining = iter(lines)
                return [
                    (request, "".join([f"{line}\n" for line in islice(remaining, request.height)])) for request in group
                ]
        return []

    def _respond_to_one(self, request: PendingRequest) -> ResponseOrError:
        try:
            return self._encoded_response(self._table(request.records), request.accept)
        except RequestError as error:
            return error
        except INVALID_RECORDS as error:
            return RequestError(400, error.problem if isinstance(error, ArtifactError) else str(error))
        except BaseException as error:  # noqa: BLE001  for example a panic of native code
            self._log_failure(error)
            return RequestError(500, str(error) if isinstance(error, ShapwatchError) else FAILED)

    def _log_failure(self, error: BaseException) -> None:
        """Log an error with its traceback the first time, then in one line at 2, 4, 8, … occurrences."""
        cause = error
        while cause.__cause__:
            cause = cause.__cause__
        last = traceback.extract_tb(cause.__traceback__, limit=-1)
        kind = " in ".join([type(cause).__name__, *(f"{frame.name}, line {frame.lineno}" for frame in last)])
        if len(self._failures) == MAX_KINDS:
            self._failures.clear()
        self._failures[kind] += 1
        count = self._failures[kind]
        if count == 1:
            logger.exception("the model failed")
        elif count & (count - 1) == 0:
            logger.error("the model failed %s times with %s, last: %s", f"{count:,}", kind, snippet(error))

    def _encoded_response(self, features: pl.DataFrame, accept: str) -> str:
        try:
            return encode_response(self.model, features, accept)
        except ValueError as error:
            self.model.predict(features)  # raises the model's own error for invalid records
            raise RequestError(406, str(error)) from error

    def _table(self, records: RequestRecords | pl.DataFrame) -> pl.DataFrame:
        return records if isinstance(records, pl.DataFrame) else as_table(records, self.names)


class ModelThread:
    """A daemon thread that runs tasks one after another, and knows when the current one has last made progress."""

    def __init__(self) -> None:
        """Start the thread."""
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._last_progress = time.monotonic()
        self._thread = Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def idle_seconds(self) -> float:
        """The seconds since the last progress."""
        return time.monotonic() - self._last_progress

    def note_progress(self) -> None:
        """Note that a model call has ended, or that the first one starts."""
        self._last_progress = time.monotonic()

    def is_alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread.is_alive()

    def run(self, task: Callable[[], None]) -> None:
        """Run a task after the earlier ones."""
        self.note_progress()
        self._tasks.put(task)

    def close(self) -> None:
        """End the thread after the current task."""
        self._tasks.put(None)

    def _run(self) -> None:
        while task := self._tasks.get():
            task()


def _groups(batch: Iterable[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Yield groups of requests that one model call can answer."""
    groups: defaultdict[object, list[PendingRequest]] = defaultdict(list)
    for request in batch:
        key: object = request
        if request.accept in LINE_FORMATS and isinstance(request.records, RequestRecords):
            key = request.accept, request.records.types
        groups[key].append(request)
    for group in groups.values():
        yield from _bounded(group)


def _bounded(group: Sequence[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Split a group into parts of up to `MAX_BATCH_ROWS` rows; a larger request is its own part."""
    part: list[PendingRequest] = []
    rows = 0
    for request in group:
        rows += request.height
        if part and rows > MAX_BATCH_ROWS:
            yield part
            part, rows = [], request.height
        part.append(request)
    yield part
