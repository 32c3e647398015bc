"""Signals of a daemon: a handler only counts them, and the daemon acts on them where it waits.

A handler may run while any lock is held, so it takes none; a pipe wakes the waiting thread. Threads that request a stop
take a lock, so that the woken thread finds the request.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from threading import Lock
from types import FrameType, TracebackType
from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Counts of SIGTERM and SIGINT, which request a stop, and of SIGHUP.

    Attributes:
        stop_requests: number of stop requests.
    """

    def __init__(self, on_sighup: Callable[[], object]) -> None:
        """Create counters; the handlers are installed on entry, in the main thread.

        Args:
            on_sighup: function that `wait` calls after a SIGHUP.
        """
        self.stop_requests = 0
        self._on_sighup, self._sighups = on_sighup, 0
        self._requesting = Lock()
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._count_stop) for number in STOP_SIGNALS}
        self._handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._count_sighup)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for end in (self._read, self._write):
            os.close(end)

    def request_stop(self) -> None:
        """Request a stop like a signal, from any thread."""
        with self._requesting:
            os.write(self._write, b"\0")
            self.stop_requests += 1

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds` or a signal, and return whether a stop was requested."""
        if not self.stop_requests and select.select([self._read], [], [], seconds)[0]:
            with self._requesting:
                os.read(self._read, 4096)
        while self._sighups:
            self._sighups -= 1
            self._on_sighup()
        return self.stop_requests > 0

    def _count_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1

    def _count_sighup(self, _number: int, _frame: FrameType | None) -> None:
        self._sighups += 1
