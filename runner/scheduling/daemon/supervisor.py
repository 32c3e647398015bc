"""Runs executions that the ledger holds: claims them, watches their processes, and writes down how they ended."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError, os_error_message
from runner.scheduling.daemon.process import Child
from runner.scheduling.daemon.pulse import HeartbeatMonitor
from runner.scheduling.daemon.result import RUN_AGAIN, STOPPED_BY_HAND, Result, failed, lost, overran, told

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Ledger

SCARCE = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""What keeps a process from being started, and may be over soon."""
PATIENCE = 1.0
"""Seconds between two tries to write down a result."""

logger = logging.getLogger("shapwatch.supervision")


@dataclass
class Running:
    """An execution under way; `order` is what becomes of it when it has been told to end."""

    entry: ExecutionRecord
    child: Child
    order: Result | None = None


class Supervisor:
    """Up to so many executions at once, each in a thread that waits for its process."""

    def __init__(
        self,
        ledger: Ledger,
        launch: Callable[[ExecutionRecord], Child],
        owner: str,
        workers: int,
        grace_seconds: float,
        pulse: HeartbeatMonitor,
        clock: Callable[[], datetime],
    ) -> None:
        """Prepare.

        Args:
            ledger: where results are written down.
            launch: starts the process of an execution; what keeps it from that is an OSError or a ShapwatchError.
            owner: the name under which executions are claimed; no other process has it.
            workers: how many run at once.
            grace_seconds: that a process has to end after SIGTERM.
            pulse: tells whose owner is gone.
            clock: the time in UTC.
        """
        self.owner = owner
        self.running: dict[int, Running] = {}
        self._ledger, self._launch, self._pulse, self._clock = ledger, launch, pulse, clock
        self.workers, self._grace_seconds = workers, grace_seconds
        self._lock = Lock()
        self._abandoned = Event()

    @property
    def free(self) -> int:
        """How many more may be started."""
        return self.workers - len(self.running)

    def start(self, entry: ExecutionRecord) -> bool:
        """Claim a pending execution and run it; return whether it is ours."""
        if not self._ledger.begin(entry.id, self.owner, self._clock(), self._pulse.lease_seconds):
            return False
        entry = replace(entry, status=Status.IN_PROGRESS, owner=self.owner, attempts=entry.attempts + 1)
        ids = {"execution": entry.id, "schedule": entry.schedule}
        logger.info("%s is executed, attempt %d", entry.window, entry.attempts, extra=ids)
        try:
            child = self._launch(entry)
        except OSError as error:
            logger.error("%s: cannot be started: %s", entry.window, error, extra=ids)
            if error.errno not in SCARCE:  # what is, is let go in the next round, and tried again
                self._move(entry, Result(Status.FAILED, failure_reason=os_error_message(error)))
            return True
        running = self.running[entry.id] = Running(entry, child)
        Thread(target=self._see_through, args=(running,), name=f"execution-{entry.id}").start()
        return True

    def stop(self, entry_id: int, result: Result) -> None:
        """End an execution; `result` is what becomes of it, unless it has one of its own by then."""
        with self._lock:
            running = self.running.get(entry_id)
            if running is None or running.order:
                return
            running.order = result
        Thread(target=running.child.stop, args=(self._grace_seconds,), daemon=True).start()

    def stop_all(self, result: Result, patience: float) -> None:
        """End all executions; those whose end cannot be written down within so many seconds are left as they are."""
        for entry_id in list(self.running):
            self.stop(entry_id, result)
        if not self.wait(self._grace_seconds + patience):
            self._abandoned.set()
        self.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Return whether nothing is running any more, after so many seconds at most."""
        until = None if seconds is None else time.monotonic() + seconds
        while self.running:
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def abandon(self) -> None:
        """End all executions without a word in the ledger: somebody else may have taken them over."""
        self._abandoned.set()
        self.stop_all(RUN_AGAIN, 0)
        self._abandoned.clear()

    def reap(self, some: Collection[int] | None = None) -> None:
        """End what somebody asked to end; let executions whose owner is gone be run again, not too often.

        Args:
            some: those that are looked after, None for all.
        """
        ours = set(self.running)  # before the ledger is asked: what ends in between is no orphan
        under_way = [entry for entry in self._ledger.running() if some is None or entry.id in some]
        silent = self._pulse.silent(under_way)
        for entry in under_way:
            if entry.id in ours:
                if entry.status == Status.STOPPING:
                    self.stop(entry.id, STOPPED_BY_HAND)
            elif entry.owner == self.owner or entry in silent:
                ids = {"execution": entry.id, "schedule": entry.schedule}
                logger.warning("%s: the process that executed it, %s, is gone", entry.window, entry.owner, extra=ids)
                self._move(entry, lost(entry))

    def _see_through(self, running: Running) -> None:
        entry = running.entry
        try:
            end = running.child.wait(entry.max_runtime)
            if end is None:
                self.stop(entry.id, overran(entry))
                end = running.child.wait()
                assert end  # noqa: S101  it waits as long as it takes
            if not self._abandoned.is_set():
                self._write_down(entry, told(end) or running.order or failed(end))
        finally:
            del self.running[entry.id]

    def _write_down(self, entry: ExecutionRecord, result: Result) -> None:
        """Write a result into the ledger, however long that takes."""
        ids = {"execution": entry.id, "schedule": entry.schedule}
        ended = replace(
            entry, status=result.status, exit_message=result.exit_message, failure_reason=result.failure_reason
        )
        logger.info("%s", ended.summary, extra=ids)
        while not self._abandoned.is_set():
            try:
                if not self._move(entry, result):
                    logger.warning("%s: somebody else has taken it over", entry.window, extra=ids)
                return
            except LedgerError as error:
                logger.warning("%s: %s; trying again", entry.window, error, extra=ids)
                time.sleep(PATIENCE)

    def _move(self, entry: ExecutionRecord, result: Result) -> bool:
        owner = entry.owner or ""
        if result is RUN_AGAIN:
            if self._ledger.hand_back(entry.id, owner, self._clock()):
                return True
            result = STOPPED_BY_HAND  # somebody had asked for that
        return self._ledger.settle(
            entry.id,
            owner,
            result.status,
            self._clock(),
            exit_message=result.exit_message,
            failure_reason=result.failure_reason,
            output=result.output,
            peak_memory=result.peak_memory,
        )
