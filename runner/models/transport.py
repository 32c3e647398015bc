"""The wire to an endpoint: requests are counted, paced, tried until they are answered, and given up in the end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, TypeVar

from runner.domain.attributions import Calls
from runner.domain.records import PROBE
from runner.domain.text import plural
from runner.errors import EndpointError, snippet

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_ADVICE = 0.1, 10.0, 60.0
"""Seconds before the second try; each further pause is twice as long, up to the longest; the most an endpoint gets."""

WAKE_SECONDS = 0.5
"""How often a waiting thread looks for an interrupt, which not every system wakes it for."""

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses of an answer after which another try may go better."""

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger("shapwatch")


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


class Transport:
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


def in_order(work: Callable[[Item, Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return what `work` makes of each item, in order, several at a time.

    The first error, or an interrupt, sets the event that `work` gets. Nobody waits for what is under way then: its
    threads are daemons, so that not even the end of the program does.
    """
    stopped = Event()
    futures: list[Future[Result]] = [Future() for _ in items]
    waiting = deque(zip(items, futures, strict=True))

    def take() -> None:
        with suppress(IndexError):
            while not stopped.is_set():
                item, future = waiting.popleft()
                _settle(future, work, item, stopped)

    pool = [Thread(target=take, name="shapwatch-call", daemon=True) for _ in range(min(threads, len(items)))]
    try:
        for thread in pool:
            thread.start()
        while wait(futures, WAKE_SECONDS, FIRST_EXCEPTION).not_done and not stopped.is_set():
            pass
        _raise_first(futures)
    finally:
        stopped.set()
    for thread in pool:
        thread.join()
    return [future.result() for future in futures]


def _settle(future: Future[Result], work: Callable[[Item, Event], Result], item: Item, stopped: Event) -> None:
    """Do the work of one item; its error is known before it stops the others."""
    try:
        future.set_result(work(item, stopped))
    except BaseException as error:  # noqa: BLE001  whoever waits for the future gets it
        future.set_exception(error)
        stopped.set()


def _raise_first(futures: Sequence[Future[Any]]) -> None:
    """Raise the first error there is, but for those of work that others stopped."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Stopped):
            raise error


def _back_off(retry: int) -> float:
    """Return the seconds before the first retry, the second, and so on."""
    return float(min(FIRST_PAUSE * 2 ** min(retry - 1, 30), LONGEST_PAUSE))
