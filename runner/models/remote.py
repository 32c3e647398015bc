"""Models behind a wire: rows become requests, requests are tried until they are answered, answers become scores.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cached_property, partial
from threading import Event, Lock
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator
from pydantic.dataclasses import dataclass

from runner.domain import PROBE, Calls, Payload, plural
from runner.errors import EndpointError, ModelAnswerError, RecordError, snippet
from runner.models.library import Headers
from runner.records.expressions import compiled
from runner.records.fields import Fields
from runner.records.payloads import Format, encoding
from runner.records.templates import Template

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_ADVICE = 0.1, 10.0, 60.0
"""Seconds before the second try; each further pause is twice as long, up to the longest; the most an endpoint gets."""

WAKE_SECONDS = 0.5
"""How often a waiting thread looks for an interrupt, which not every system wakes it for."""

PASSING = frozenset({429, 500, 502, 503, 504})
"""The statuses of an answer after which another try may go better."""

FUTILE = {
    401: "check the credentials it is given",
    403: "check the credentials it is given, and what they allow",
    404: "check its address",
    405: "check its address: what is there takes no POST",
    407: "check the proxy's credentials",
}
"""Refusals that have nothing to do with what a request holds, and what to do about them."""

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger("shapwatch")


def _number_as_text(value: Any) -> Any:
    """Return the number of a column as YAML has it as the text it stands for."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Count = Annotated[int, Field(strict=True, gt=0, lt=2**40)]
Few = Annotated[int, Field(strict=True, gt=0, le=1_000)]
Seconds = Annotated[FiniteFloat, Field(gt=0, le=86_400)]
Rate = Annotated[FiniteFloat, Field(ge=1e-3, le=1e6)]
Score = Annotated[str, BeforeValidator(_number_as_text)]


class Refused(EndpointError):
    """An endpoint refuses a request for what it holds."""


class Miscounted(ModelAnswerError):
    """An answer has scores for more or fewer records than were sent."""


class Stopped(Exception):
    """Another request has failed, or somebody has interrupted: this one is not worth its answer any more."""


class Answer(NamedTuple):
    """What came of one try.

    Attributes:
        status: of the answer, None where there was none.
        text: its body, or what went wrong.
        passing: whether another try may go better.
        retry_after: seconds that the endpoint asks to wait.
    """

    status: int | None
    text: str
    passing: bool
    retry_after: float = 0.0


Call = Callable[[bytes, str, str], Answer]
"""Sends a body once; further arguments are the media type to answer in and the inference id."""


class Request(NamedTuple):
    """The texts of some records, and how many features they have."""

    records: pl.Series
    width: int


def now() -> float:
    """Return the time of a monotonic clock, in seconds."""
    return time.monotonic()


def pause(seconds: float, stopped: Event) -> None:
    """Wait.

    Raises:
        Stopped: as soon as work stops.
    """
    if stopped.wait(max(0.0, seconds)):
        raise Stopped


class Wire:
    """Carries requests to one endpoint, over all threads: counts them, paces them, tries them again, gives up.

    Attributes:
        calls: what has been sent.
        one_by_one: whether the endpoint has refused a batch, so that it gets one record a request.
        outputs: L as its answers have it, None before the first.
    """

    def __init__(self, where: str, attempts: int, max_failures: int, max_requests_per_second: float | None) -> None:
        self.calls = Calls()
        self.one_by_one = False
        self.outputs: int | None = None
        self._where = where
        self._attempts = attempts
        self._max_failures = max_failures
        self._gap = 1 / max_requests_per_second if max_requests_per_second else 0.0
        self._free_at = 0.0
        self._failures = 0
        self._last = Answer(None, "", passing=False)
        self._lock = Lock()

    def send(self, call: Call, body: bytes, rows: int, accept: str, stopped: Event) -> Answer:
        """Return the answer to a request, tried again as long as what is wrong may pass.

        Raises:
            EndpointError: when it does not pass, or so much has failed in a row that nothing more is sent.
            Stopped: as soon as work stops.
        """
        inference_id = self._begin(rows, len(body))
        answer = self._last
        for attempt in range(self._attempts):
            if attempt:
                pause(max(min(answer.retry_after, LONGEST_ADVICE), _back_off(attempt)), stopped)
            self._wait_turn(stopped)
            self._count(Calls(retries=int(attempt > 0)))
            answer = call(body, accept, inference_id)
            self._judge(answer)
            if not answer.passing:
                return answer
        problem = f"{snippet(answer.text)} (tried {plural(self._attempts, 'time')})"
        raise EndpointError(self._where, answer.status, problem, "look after the endpoint, or raise model.attempts")

    def fall_back(self, refusal: Exception) -> None:
        """Note that a batch was refused; from now on there is one record a request."""
        with self._lock:
            self.calls += Calls(fallbacks=1)
            known, self.one_by_one = self.one_by_one, True
        if not known:
            logger.warning("fallback to per-record requests because of %s", refusal)

    def _begin(self, rows: int, size: int) -> str:
        """Return the inference id of a new request."""
        with self._lock:
            self.calls += Calls(requests=1, rows=rows, bytes=size)
            return f"{PROBE}-{self.calls.requests}"

    def _count(self, calls: Calls) -> None:
        with self._lock:
            self.calls += calls

    def _wait_turn(self, stopped: Event) -> None:
        with self._lock:
            turn = max(now(), self._free_at)
            self._free_at = turn + self._gap
        pause(turn - now(), stopped)
        self._check_open()

    def _judge(self, answer: Answer) -> None:
        """Note how a try went; an endpoint that has been given up stays so."""
        with self._lock:
            if self._failures < self._max_failures:
                self._failures, self._last = (self._failures + 1 if answer.passing else 0), answer
        if answer.passing:
            self._check_open()

    def _check_open(self) -> None:
        if self._failures >= self._max_failures:
            problem = f"{snippet(self._last.text)}; {self._failures} tries in a row failed, so nothing more is sent"
            remedy = "look after the endpoint, or raise model.max_failures"
            raise EndpointError(self._where, self._last.status, problem, remedy)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Remote:
    """A model behind a wire.

    Attributes:
        content_type, accept_type: the media types of requests and answers.
        content_template, record_template: how rows become requests.
        headers: the names of the features, None for `column_0`, `column_1`, …
        score: where the scores stand in an answer.
        label_headers: the names of the L outputs, None for `label0`, `label1`, …
        timeout_seconds: how long to wait for a connection, or for the next byte of an answer.
        attempts: how often a request is tried.
        concurrency: requests under way at a time.
        max_payload_bytes, max_request_rows: the most that one request holds.
        max_requests_per_second: the most tries that are made in a second, None for any number.
        max_failures: after so many failed tries in a row nothing more is sent.
        price_per_1k_calls: what 1,000 requests cost, for planning.
    """

    content_type: Format
    accept_type: Format
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None
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

    @model_validator(mode="after")
    def _fit(self) -> Self:
        """Refuse what cannot work together."""
        Template(self.content_type, self.content_template, self.record_template, self.headers)
        if self.score is not None and not (self.score.isdecimal() and self.score.isascii()):
            compiled(self.score)
        if self.score is not None and self.score.isdecimal() != (self.accept_type == "text/csv"):
            kind = "the number of a column" if self.accept_type == "text/csv" else "a JMESPath"
            raise ValueError(f"score: answers of model.accept_type={self.accept_type} need {kind}, or null")
        return self

    @property
    def where(self) -> str:
        """The endpoint, as messages name it."""
        raise NotImplementedError

    @property
    def identity(self) -> None:
        """None: what runs behind a wire cannot be known from here."""
        return

    @property
    def sent(self) -> Calls:
        """What has been sent so far."""
        return self._wire.calls

    def planned(self, features: pl.DataFrame) -> Calls:
        """Return what `predict` sends when nothing is refused.

        Raises:
            EndpointError: when a row fits in no request.
        """
        requests = self._requests(features)
        return Calls(len(requests), features.height, sum(len(self._body(request)) for request in requests))

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL; no row gives no score for each of the L outputs that are known, or for one.

        Raises:
            EndpointError: when the endpoint cannot be reached, refuses a record or fails, or a row fits in no request.
            ModelAnswerError: when an answer does not hold L scores for each record.
        """
        work = partial(self._scores, self._call)
        answers = in_order(work, self._requests(features), self.concurrency)
        return self._table([scores for answer in answers for scores in answer])

    def reply(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which the endpoint answers one request in a media type.

        Raises:
            ValueError: when a request carries one record, and there are several.
            EndpointError: when the endpoint cannot be reached, refuses or fails.
        """
        if self._template.one_by_one and features.height > 1:
            raise ValueError(f"a request carries one record (model.content_template), not {features.height}")
        return self._answered(self._call, Request(self._records(features), features.width), accept, Event())

    def _connect(self) -> Call:
        """Return what sends a body once; it is closed when the model is gone."""
        raise NotImplementedError

    @cached_property
    def _call(self) -> Call:
        return self._connect()

    @cached_property
    def _wire(self) -> Wire:
        return Wire(self.where, self.attempts, self.max_failures, self.max_requests_per_second)

    @cached_property
    def _template(self) -> Template:
        return Template(self.content_type, self.content_template, self.record_template, self.headers)

    @cached_property
    def _fields(self) -> Fields:
        return Fields(None, self.score, self.headers, self.content_type, self.accept_type)

    def _records(self, features: pl.DataFrame) -> pl.Series:
        try:
            return self._template.records(features)
        except ValueError as error:
            raise EndpointError(self.where, None, f"no request can be made, {error}", "nothing was sent") from error

    def _requests(self, features: pl.DataFrame) -> list[Request]:
        """Return the rows as requests, in order, as many in each as the limits allow."""
        most = 1 if self._template.one_by_one or self._wire.one_by_one else self.max_request_rows
        records, width = self._records(features), features.width
        separated_N = records.str.len_bytes().to_numpy().astype(np.int64) + 1
        room = self.max_payload_bytes - self._template.frame_bytes(most, width) + 1
        if (separated_N > room).any():
            i = int((separated_N > room).argmax())
            problem = f"record {i} alone makes a request of more than {self.max_payload_bytes:,} bytes"
            raise EndpointError(self.where, None, problem, "raise model.max_payload_bytes; nothing was sent")
        return [Request(records[first:last], width) for first, last in spans(separated_N, room, most)]

    def _body(self, request: Request) -> bytes:
        return self._template.around(*request).encode()

    def _scores(self, call: Call, request: Request, stopped: Event) -> list[list[float]]:
        """Return the scores of each record; those of a batch that is refused are asked for one by one."""
        count = len(request.records)
        if count == 1 or not self._wire.one_by_one:
            try:
                return self._read(self._answered(call, request, self.accept_type, stopped), count)
            except (Refused, Miscounted) as refusal:
                if count == 1:
                    raise
                self._wire.fall_back(refusal)
        singles = [Request(request.records[i : i + 1], request.width) for i in range(count)]
        return [scores for single in singles for scores in self._scores(call, single, stopped)]

    def _answered(self, call: Call, request: Request, accept: str, stopped: Event) -> str:
        """Return the body of a good answer."""
        status, text, *_ = self._wire.send(call, self._body(request), len(request.records), accept, stopped)
        if status is not None and 200 <= status < 300:
            return text
        if status in FUTILE:
            raise EndpointError(self.where, status, snippet(text), FUTILE[status])
        kind = Refused if status is not None and 400 <= status < 500 else EndpointError
        raise kind(
            self.where,
            status,
            snippet(text),
            "compare what it expects with model.content_template and model.record_template",
        )

    def _read(self, text: str, count: int) -> list[list[float]]:
        """Return the scores of each record of an answer."""
        try:
            return self._fields.response_scores(Payload(self.accept_type, text, encoding(self.accept_type)), count)
        except RecordError as error:
            kind = Miscounted if error.kind == "row_count" else ModelAnswerError
            raise kind(f"{self.where}: {error}; compare model.accept_type and model.score with its answers") from error

    def _table(self, scores_NL: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Return scores as an array, all of them with the L outputs that are known, or that the first one has."""
        known = len(self.label_headers) if self.label_headers else self._wire.outputs
        L = known or len(next(iter(scores_NL), [0.0]))
        for n, scores in enumerate(scores_NL):
            if len(scores) != L:
                expected = "as model.label_headers names" if self.label_headers else "as before"
                got = f"{plural(len(scores), 'score')} for record {n}"
                raise ModelAnswerError(f"{self.where} answered with {got}, expected {L}, {expected}: check model.score")
        self._wire.outputs = L if scores_NL else known
        return np.array(scores_NL, dtype=np.float64).reshape(len(scores_NL), L)


def spans(sizes_N: NDArray[np.int64], room: int, most: int) -> list[tuple[int, int]]:
    """Return the first and last (exclusive) of consecutive items that share `room`, at most so many together.

    >>> spans(np.array([3, 3, 3, 9, 1]), room=9, most=2)
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends_N = np.cumsum(sizes_N)
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(sizes_N):
        taken = ends_N[first] - sizes_N[first]
        last = min(first + most, int(np.searchsorted(ends_N, taken + room, side="right")))
        found.append((first, last))
        first = last
    return found


def in_order(work: Callable[[Item, Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return what `work` makes of each item, in order, several at a time.

    The first error, or an interrupt, sets the event that `work` gets, and cancels what has not begun.
    """
    stopped = Event()

    def one(item: Item) -> Result:
        try:
            return work(item, stopped)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(threads, "shapwatch-call") as pool:
        futures = [pool.submit(one, item) for item in items]
        try:
            while wait(futures, WAKE_SECONDS, FIRST_EXCEPTION).not_done and not stopped.is_set():
                pass
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, Stopped):
            raise error
    return [future.result() for future in futures]


def _back_off(retry: int) -> float:
    """Return the seconds before the first retry, the second, and so on."""
    return float(min(FIRST_PAUSE * 2 ** min(retry - 1, 30), LONGEST_PAUSE))
