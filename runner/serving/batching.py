"""Dynamic batching: requests that arrive while the model is busy are answered by one model call.

A call for one row costs nearly as much as a call for a hundred. Requests are joined only if their columns have the same
types, so each request gets the response, or the error, of a separate call.
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
from runner.serving.requests import Refusal, RequestRecords, Types
from runner.serving.responses import encode_response

MAX_BATCH_ROWS = 4096
"""Maximum rows of joined requests."""

MAX_INLINE_ROWS = 512
"""Maximum rows for which a fast model is called in the event loop, because a thread switch takes longer."""

LINE_FORMATS = ("application/jsonlines", "text/csv")
"""Media types of responses with one line per record, which can be split by request."""

INVALID_RECORDS = (ModelInputError, ArtifactError, SettingsError)
"""Errors of a working model for invalid records, for example other features than its own."""

FAILED = "the model failed; see the server's log"

Answer = str | Refusal

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True, eq=False)
class PendingRequest:
    """A request that waits for its response."""

    records: RequestRecords
    accept: str
    answer: asyncio.Future[str]


Answers = list[tuple[PendingRequest, Answer]]


class RequestBatcher:
    """Joins pending requests into batches for the model.

    Code of users never runs in the event loop: the model is called in its own daemon thread, unless it is fast.

    Attributes:
        model: the model.
        names: returns the feature names for a number of features.
        is_fast: whether a model call takes only microseconds of arithmetic.
        answered: the number of requests answered without an error.
    """

    def __init__(self, model: Model, names: Callable[[int], Sequence[str]], is_fast: bool = False) -> None:
        self.model = model
        self.names = names
        self.answered = 0
        self._waiting: list[PendingRequest] = []
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=_work, args=(self._asked,), name="model", daemon=True)
        self._work: asyncio.Task[None] | None = None
        self._is_fast = is_fast

    async def reply(self, records: RequestRecords, accept: str) -> str:
        """Return the body of the model's response.

        Raises:
            Refusal: 406 for an unsupported media type, 400 for invalid records, 500 if the model fails (logged).
        """
        loop = asyncio.get_running_loop()
        waiting = PendingRequest(records, accept, loop.create_future())
        self._waiting.append(waiting)
        if self._work is None:
            self._work = loop.create_task(self._answer_all())
        return await waiting.answer

    async def _answer_all(self) -> None:
        """Answer batches until no request is pending."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            few = self._is_fast and sum(len(waiting.records.rows) for waiting in batch) <= MAX_INLINE_ROWS
            for waiting, answer in self._answers(batch) if few else await self._in_thread(batch):
                self._settle(waiting.answer, answer)
        self._work = None

    async def _in_thread(self, batch: Sequence[PendingRequest]) -> Answers:
        """Return the responses, computed in the model's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()

        def ask() -> None:
            answers = self._answers(batch)
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(future.set_result, answers)

        if not self._thread.is_alive():
            self._thread.start()
        self._asked.put(ask)
        return await future

    def _settle(self, future: asyncio.Future[str], answer: Answer) -> None:
        if future.done():
            return
        if isinstance(answer, str):
            self.answered += 1
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _answers(self, batch: Sequence[PendingRequest]) -> Answers:
        return [pair for group in _groups(batch) for pair in zip(group, self._together(group), strict=True)]

    def _together(self, group: Sequence[PendingRequest]) -> list[Answer]:
        """Return the responses to requests of the same types; if the joint call fails, call the model for each."""
        if len(group) > 1:
            with suppress(Exception, SystemExit):
                return [*self._joint(group)]
        return [self._alone(waiting) for waiting in group]

    def _joint(self, group: Sequence[PendingRequest]) -> Iterator[str]:
        rows = [row for waiting in group for row in waiting.records.rows]
        body = encode_response(self.model, self._frame(rows, group[0].records.types), group[0].accept)
        *lines, rest = body.split("\n")
        if rest or len(lines) != len(rows):
            raise ValueError(f"{len(lines)} lines for {len(rows)} records")
        remaining = iter(lines)
        return ("".join([f"{line}\n" for line in islice(remaining, len(waiting.records.rows))]) for waiting in group)

    def _alone(self, waiting: PendingRequest) -> Answer:
        try:
            return self._reply(self._frame(*waiting.records), waiting.accept)
        except Refusal as refusal:
            return refusal
        except INVALID_RECORDS as error:
            return Refusal(400, error.problem if isinstance(error, ArtifactError) else str(error))
        except (Exception, SystemExit) as error:
            logger.exception("the model failed")
            return Refusal(500, str(error) if isinstance(error, ShapwatchError) else FAILED)

    def _reply(self, features: pl.DataFrame, accept: str) -> str:
        try:
            return encode_response(self.model, features, accept)
        except ValueError as error:
            self.model.predict(features)  # raises the model's own error for invalid records
            raise Refusal(406, str(error)) from error

    def _frame(self, rows: Sequence[Sequence[Scalar]], types: Types) -> pl.DataFrame:
        return pl.DataFrame(rows, dict(zip(self.names(len(types)), types, strict=True)), orient="row")


def _work(asked: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        asked.get()()


def _groups(batch: Iterable[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Yield groups of requests that one model call can answer."""
    groups: defaultdict[object, list[PendingRequest]] = defaultdict(list)
    for waiting in batch:
        groups[(waiting.accept, waiting.records.types) if waiting.accept in LINE_FORMATS else waiting].append(waiting)
    for group in groups.values():
        yield from _bounded(group)


def _bounded(group: Sequence[PendingRequest]) -> Iterator[list[PendingRequest]]:
    """Split a group into parts of up to `MAX_BATCH_ROWS` rows; a larger request is its own part."""
    part: list[PendingRequest] = []
    rows = 0
    for waiting in group:
        rows += len(waiting.records.rows)
        if part and rows > MAX_BATCH_ROWS:
            yield part
            part, rows = [], len(waiting.records.rows)
        part.append(waiting)
    yield part
