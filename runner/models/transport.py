"""Requests to an endpoint: counting, rate limit, deadlines, retries with backoff, and a circuit breaker."""

from __future__ import annotations

import ctypes
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from runner.domain.attributions import Calls
from runner.domain.numbers import plural
from runner.errors import EndpointError, ModelAnswerError, ShapwatchError, snippet
from runner.models.response import Response
from runner.probes import probe_id

FIRST_BACKOFF, MAX_BACKOFF, MAX_RETRY_AFTER = 0.1, 10.0, 60.0
"""Seconds before the first retry (doubled for each further one), their maximum, and the maximum for Retry-After."""

WAKE_SECONDS = 0.5
"""Seconds between two checks for an interrupt, because on some systems an interrupt does not wake a waiting thread."""

DEADLINE_TIMEOUTS = 2
"""Time within which an attempt must be complete, as a multiple of `model.timeout_seconds`."""
FIRST_ANSWERS = 3
"""Number of attempts after which an invalid response is final, until the endpoint has sent a first valid response.

For a batch, only valid responses to batches count, because some endpoints accept only single records.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger("shapwatch")


class Stopped(Exception):
    """Raised in worker threads once another request failed or the run was interrupted."""


Call = Callable[[bytes, str, str], Response]
"""A function that makes one attempt; its arguments are the body, the accepted media type and the inference id."""


def now() -> float:
    """Return the seconds of a monotonic clock."""
    return time.monotonic()


def pause(seconds: float, stopped: Event) -> None:
    """Wait for a number of seconds.

    Raises:
        Stopped: as soon as the event is set.
    """
    if stopped.wait(max(0.0, seconds)):
        raise Stopped


class Transport:
    """The connection to one endpoint, shared by all threads: counts, rate limit, retries and failure limit.

    Attributes:
        calls: the calls made so far.
        one_by_one: whether each request contains one record, because the endpoint does not accept several.
        outputs: number of outputs in the responses, None before the first response.
    """

    def __init__(
        self, where: str, attempts: int, max_failures: int, max_requests_per_second: float | None, seconds: float
    ) -> None:
        """Prepare requests.

        Args:
            where: the endpoint, for messages.
            attempts: maximum number of attempts per request.
            max_failures: number of consecutive failed attempts after which no more requests are sent.
            max_requests_per_second: maximum number of attempts per second, None for no limit.
            seconds: time within which an attempt must be complete.
        """
        self.calls = Calls()
        self.one_by_one = False
        self.outputs: int | None = None
        self._where = where
        self._attempts = attempts
        self._max_failures = max_failures
        self._interval_seconds = 1 / max_requests_per_second if max_requests_per_second else 0.0
        self._seconds = seconds
        self._next_turn = 0.0
        self._failures = 0
        self._last_response = Response(None, "", retryable=False)
        self._max_rows_answered = 0
        self._lock = Lock()

    def send(
        self, call: Call, body: bytes, rows: int, accept: str, stopped: Event, read: Callable[[Response], Result]
    ) -> Result:
        """Return what `read` returns for the response to a request; retryable errors and invalid responses are retried.

        Raises:
            EndpointError: if every attempt failed, or too many attempts in a row failed.
            ModelAnswerError: if the last response is invalid.
            Stopped: as soon as the event is set.
        """
        inference_id = self._start_request(rows, len(body))
        error: ShapwatchError | None = None
        retry_after = 0.0
        for attempt in range(self._attempts):
            if attempt:
                pause(max(min(retry_after, MAX_RETRY_AFTER), _backoff_seconds(attempt)), stopped)
            self._wait_turn(stopped)
            self._count(Calls(retries=int(attempt > 0)))
            try:
                response = within(self._seconds, call, body, accept, inference_id)
                self._record(response)
                if not response.retryable:
                    result = read(response)
                    self._max_rows_answered = max(self._max_rows_answered, rows)
                    return result
                error, retry_after = self._failure(response), response.retry_after
            except ModelAnswerError as invalid:
                error, retry_after = invalid, 0.0
                if self._max_rows_answered < rows and attempt + 1 >= FIRST_ANSWERS:
                    break
        assert error  # noqa: S101
        raise error

    def _failure(self, response: Response) -> EndpointError:
        problem = f"{snippet(response.text)} (after {plural(self._attempts, 'attempt')})"
        return EndpointError(
            self._where, response.status, problem, "check the endpoint's health, or increase model.attempts"
        )

    @property
    def accepts_batches(self) -> bool:
        """Whether the endpoint has accepted a batch of several records."""
        return self._max_rows_answered > 1

    def count_fallback(self) -> None:
        """Count a batch whose records are sent in smaller requests."""
        self._count(Calls(fallbacks=1))

    def use_single_records(self, rows: int, error: Exception) -> None:
        """Send all later records one by one, unless the endpoint accepts batches of this size.

        Called after each record of a batch was accepted alone, but not the batch.
        """
        with self._lock:
            already, self.one_by_one = self.one_by_one, self.one_by_one or rows > self._max_rows_answered
        if not already:
            logger.warning("sending one record per request after an error: %s", error)

    def _start_request(self, rows: int, size: int) -> str:
        """Count a new request and return its inference id."""
        with self._lock:
            self.calls += Calls(requests=1, rows=rows, bytes=size)
            return probe_id(self.calls.requests)

    def _count(self, calls: Calls) -> None:
        with self._lock:
            self.calls += calls

    def _wait_turn(self, stopped: Event) -> None:
        with self._lock:
            turn = max(now(), self._next_turn)
            self._next_turn = turn + self._interval_seconds
        pause(turn - now(), stopped)
        self._check_open()

    def _record(self, response: Response) -> None:
        """Count consecutive failures; once the count reaches the limit, no response resets it."""
        with self._lock:
            if self._failures < self._max_failures:
                self._failures, self._last_response = (self._failures + 1 if response.retryable else 0), response
        if response.retryable:
            self._check_open()

    def _check_open(self) -> None:
        if self._failures >= self._max_failures:
            failures = f"{self._failures} attempts in a row failed, so no more requests are sent"
            problem = f"{snippet(self._last_response.text)}; {failures}"
            remedy = "check the endpoint's health, or increase model.max_failures"
            raise EndpointError(self._where, self._last_response.status, problem, remedy)


def within(seconds: float, call: Callable[..., Response], *args: object) -> Response:
    """Return the outcome of one attempt, or a retryable failure if it takes too long.

    A library's own timeouts apply to single reads, so they do not end a response that arrives byte by byte. The attempt
    therefore runs in a thread of its own, which is stopped at the deadline, or once it receives more data.
    """
    future: Future[Response] = Future()
    thread = Thread(target=_complete, args=(future, call, *args), name="shapwatch-attempt", daemon=True)
    thread.start()
    if not wait([future], seconds).done:
        _interrupt(thread)
        return Response(None, f"no complete response within {seconds:g} s", retryable=True)
    thread.join()
    return future.result()


def _interrupt(thread: Thread) -> None:
    """Raise `Stopped` in a thread as soon as it executes Python code; an endless response would occupy it for ever."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))


def in_order(work: Callable[[Item, Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return the results of `work` for each item, in order, computed on several threads.

    The first error or an interrupt sets the event passed to `work`. Calls in progress are then abandoned: their threads
    are daemons and do not delay the exit of the program.
    """
    stopped = Event()
    futures: list[Future[Result]] = [Future() for _ in items]
    pending = deque(zip(items, futures, strict=True))

    def run_pending() -> None:
        with suppress(IndexError):
            while not stopped.is_set():
                item, future = pending.popleft()
                _complete(future, work, item, stopped)
                if future.exception():
                    stopped.set()

    pool = [Thread(target=run_pending, name="shapwatch-call", daemon=True) for _ in range(min(threads, len(items)))]
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


def _complete(future: Future[Result], work: Callable[..., Result], *args: object) -> None:
    """Run `work`, and set its result or its error on the future."""
    try:
        future.set_result(work(*args))
    except BaseException as error:  # noqa: BLE001  raised again by the future
        future.set_exception(error)


def _raise_first(futures: Sequence[Future[Any]]) -> None:
    """Raise the first error, except Stopped."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Stopped):
            raise error


def _backoff_seconds(retry: int) -> float:
    """Return the seconds to wait before a retry, numbered from 1."""
    return float(min(FIRST_BACKOFF * 2 ** min(retry - 1, 30), MAX_BACKOFF))
