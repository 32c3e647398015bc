"""Signals as a daemon hears them: counted in the handler, acted upon where it waits.

A handler may come at any moment, also while a lock is held that it would need, so it takes none; a pipe wakes who
waits. Threads that ask take one, so that who is woken finds that they have asked.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from threading import Lock
from types import FrameType, TracebackType
from typing import Self

ENDING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """SIGTERM and SIGINT ask to end, a second one to hurry; SIGHUP is told of."""

    def __init__(self, hung_up: Callable[[], object]) -> None:
        """Prepare; nothing is heard before it is entered, in the main thread.

        Args:
            hung_up: is called in `wait` after a SIGHUP.
        """
        self.stop_requests = 0
        self._hung_up, self._hangups = hung_up, 0
        self._asking = Lock()
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._end) for number in ENDING}
        self._handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
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
        """Ask to end, as a signal does; from any thread. Once it is asked the pipe may be gone."""
        with self._asking:
            os.write(self._write, b"\0")
            self.stop_requests += 1

    def wait(self, seconds: float) -> bool:
        """Return whether somebody has asked to end, after so many seconds or as soon as a signal comes."""
        if not self.stop_requests and select.select([self._read], [], [], seconds)[0]:
            with self._asking:
                os.read(self._read, 4096)
        while self._hangups:
            self._hangups -= 1
            self._hung_up()
        return self.stop_requests > 0

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hangups += 1
