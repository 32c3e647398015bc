"""Requests that arrive together are answered by one call of the model.

A call for one row costs nearly as much as one for a hundred, so while the model is busy the requests that come in wait
for each other. Rows travel together only where their columns have the same types, so that nobody's values change
theirs for company, and every request gets the answer, or the error, that it would have got alone.
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
from runner.serving.refusals import Refusal
from runner.serving.requests import Records, Types

MOST_ROWS = 4096
"""Requests are joined up to that many rows."""

FEW_ROWS = 512
"""So many rows an immediate model answers right here: changing threads would take longer."""

LINEWISE = ("application/jsonlines", "text/csv")
"""The forms in which an answer to several requests can be cut into theirs, line by line."""

UNFIT = (ModelInputError, ArtifactError, SettingsError)
"""What a model that works raises for records it cannot take: other values, or other features, than its own."""

FAILED = "the model failed; the server's log says how"

Answer = str | Refusal

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request that waits for its answer."""

    records: Records
    accept: str
    answer: asyncio.Future[str]


Answers = list[tuple[Waiting, Answer]]


class Batches:
    """Asks the model for all requests at once that came while it was busy.

    Nothing that a user supplies runs where the server listens: a model is asked in a thread of its own, one that does
    not keep the process from ending, unless it is `immediate`.

    Attributes:
        model: answers them.
        names: returns the names of that many features.
        immediate: whether the model's answer is a matter of microseconds and of arithmetic alone.
        answered: how many requests got an answer that is no refusal.
    """

    def __init__(self, model: Model, names: Callable[[int], Sequence[str]], immediate: bool = False) -> None:
        self.model = model
        self.names = names
        self.answered = 0
        self._waiting: list[Waiting] = []
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = Thread(target=_work, args=(self._asked,), name="model", daemon=True)
        self._work: asyncio.Task[None] | None = None
        self._immediate = immediate

    async def reply(self, records: Records, accept: str) -> str:
        """Return the body with which the model answers.

        Raises:
            Refusal: 406 when the model cannot answer in that media type, 400 when it cannot take the records, 500 when
                it fails; that is logged.
        """
        loop = asyncio.get_running_loop()
        waiting = Waiting(records, accept, loop.create_future())
        self._waiting.append(waiting)
        if self._work is None:
            self._work = loop.create_task(self._answer_all())
        return await waiting.answer

    async def _answer_all(self) -> None:
        """Answer batch by batch, until nobody waits."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            few = self._immediate and sum(len(waiting.records.rows) for waiting in batch) <= FEW_ROWS
            for waiting, answer in self._answers(batch) if few else await self._elsewhere(batch):
                self._settle(waiting.answer, answer)
        self._work = None

    async def _elsewhere(self, batch: Sequence[Waiting]) -> Answers:
        """Return the answers that the model's thread gets."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()

        def ask() -> None:
            answers = self._answers(batch)
            with suppress(RuntimeError):  # the loop has ended without them
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

    def _answers(self, batch: Sequence[Waiting]) -> Answers:
        return [pair for group in _groups(batch) for pair in zip(group, self._together(group), strict=True)]

    def _together(self, group: Sequence[Waiting]) -> list[Answer]:
        """Return the answers to requests of the same types; if they cannot be had together, one by one."""
        if len(group) > 1:
            with suppress(Exception, SystemExit):
                return [*self._joint(group)]
        return [self._alone(waiting) for waiting in group]

    def _joint(self, group: Sequence[Waiting]) -> Iterator[str]:
        rows = [row for waiting in group for row in waiting.records.rows]
        body = self.model.encode_response(self._frame(rows, group[0].records.types), group[0].accept)
        *lines, rest = body.split("\n")
        if rest or len(lines) != len(rows):
            raise ValueError(f"{len(lines)} lines for {len(rows)} records")
        left = iter(lines)
        return ("".join([f"{line}\n" for line in islice(left, len(waiting.records.rows))]) for waiting in group)

    def _alone(self, waiting: Waiting) -> Answer:
        try:
            return self._reply(self._frame(*waiting.records), waiting.accept)
        except Refusal as refusal:
            return refusal
        except UNFIT as error:
            return Refusal(400, error.problem if isinstance(error, ArtifactError) else str(error))
        except (Exception, SystemExit) as error:
            logger.exception("the model failed")
            return Refusal(500, str(error) if isinstance(error, ShapwatchError) else FAILED)

    def _reply(self, features: pl.DataFrame, accept: str) -> str:
        try:
            return self.model.encode_response(features, accept)
        except ValueError as error:
            self.model.predict(features)  # a model that cannot even do that says so itself
            raise Refusal(406, str(error)) from error

    def _frame(self, rows: Sequence[Sequence[Scalar]], types: Types) -> pl.DataFrame:
        return pl.DataFrame(rows, dict(zip(self.names(len(types)), types, strict=True)), orient="row")


def _work(asked: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        asked.get()()


def _groups(batch: Iterable[Waiting]) -> Iterator[list[Waiting]]:
    """Yield the requests that can be answered by one call."""
    alike: defaultdict[object, list[Waiting]] = defaultdict(list)
    for waiting in batch:
        alike[(waiting.accept, waiting.records.types) if waiting.accept in LINEWISE else waiting].append(waiting)
    for group in alike.values():
        yield from _bounded(group)


def _bounded(group: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """Yield a group in parts of no more than `MOST_ROWS` rows, unless a single request has more."""
    part: list[Waiting] = []
    rows = 0
    for waiting in group:
        rows += len(waiting.records.rows)
        if part and rows > MOST_ROWS:
            yield part
            part, rows = [], len(waiting.records.rows)
        part.append(waiting)
    yield part
