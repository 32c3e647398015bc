"""Executions over any stretch of the past, one for each window; those that are done already are left alone."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runner.domain.executions import Outcome, Status, Window
from runner.domain.schedules import ExecutionRecord, ScheduledTime
from runner.domain.text import plural
from runner.errors import NO_DATA, SettingsError
from runner.protocols import Track
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.pulse import HEARTBEATS_PER_LEASE
from runner.scheduling.daemon.result import Result
from runner.scheduling.durations import text as duration_text

if TYPE_CHECKING:
    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger.ledger import Ledger

DONE = {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
INTERRUPTED = Result(Status.STOPPED, failure_reason="the backfill was interrupted; the same command goes on with it")
LAST_SECONDS = 10.0
PAUSE = 0.05
MOST_TOLD = 10
"""Failures that are told in full."""


@dataclass(frozen=True)
class Backfill:
    """A stretch of the past, cut into windows.

    Attributes:
        ledger: opens it.
        supervisor: runs executions of a ledger.
        declaration: the monitor that is executed.
        start, end, step: the stretch and how long a window is; the last one may be shorter.
        redo: whether to execute again what is done.
        lease_seconds: how often the ledger must hear of us.
        clock: the time in UTC.
    """

    ledger: Callable[[], AbstractContextManager[Ledger]]
    supervisor: Callable[[Ledger], Supervisor]
    declaration: Declaration
    start: datetime
    end: datetime
    step: timedelta
    redo: bool
    lease_seconds: float
    clock: Callable[[], datetime]
    track: Track

    def run(self) -> Outcome:
        """Execute what is missing, and return how many windows ended how; it succeeds when none failed.

        Raises:
            SettingsError: when the stretch is not over yet.
        """
        self._check_end()
        windows = self.windows()
        with self.ledger() as ledger:
            supervisor = self.supervisor(ledger)
            try:
                work = Work(ledger, supervisor, self)
                ended = list(self.track(work.through(windows), "windows", len(windows)))
            finally:
                supervisor.stop_all(INTERRUPTED, LAST_SECONDS)
        failures = [entry for entry, _ in ended if entry.status not in DONE and entry.failure_reason != NO_DATA]
        return Outcome(_summary(ended, failures), not failures)

    def _check_end(self) -> None:
        if self.end > (now := self.clock()):
            problem = "has not come yet; a window is executed once it is over, so that nothing is missing in it"
            raise SettingsError([f"stage.end={self.end:%FT%TZ}: {problem}; now is {now:%FT%TZ}"])

    def windows(self) -> list[Window]:
        """Return the windows, the oldest first."""
        count = -((self.start - self.end) // self.step)
        starts = [self.start + i * self.step for i in range(count)]
        return [Window(start, min(start + self.step, self.end)) for start in starts]


class Work:
    """The windows of a backfill under way."""

    def __init__(self, ledger: Ledger, supervisor: Supervisor, backfill: Backfill) -> None:
        """Prepare."""
        self._ledger, self._supervisor, self._backfill = ledger, supervisor, backfill
        self._beaten = float("-inf")

    def through(self, windows: Sequence[Window]) -> Iterator[tuple[ExecutionRecord, bool]]:
        """Yield the execution of each window when it has ended, and whether it had done so before."""
        todo, under_way = deque(windows), set[int]()
        while todo or under_way:
            self._beat()
            while todo and self._supervisor.free > 0 and len(under_way) < self._supervisor.workers:
                entry = self._entered(todo.popleft())
                if entry.status in DONE and not self._backfill.redo:
                    yield entry, True
                else:
                    self._start(entry)
                    under_way.add(entry.id)
            self._supervisor.tend(under_way)
            for entry in map(self._ledger.entry, sorted(under_way)):
                if entry.status.terminal and entry.id not in self._supervisor.running:
                    under_way.remove(entry.id)
                    yield entry, False
                elif entry.status == Status.PENDING and self._supervisor.free > 0:
                    self._supervisor.start(entry)
            time.sleep(PAUSE)

    def _entered(self, window: Window) -> ExecutionRecord:
        """Return the execution over a window.

        Raises:
            SettingsError: when the one at its scheduled time looks at another window.
        """
        now, declaration = self._backfill.clock(), self._backfill.declaration
        due = ScheduledTime(window.end, window, now)
        (entry,) = self._ledger.enter(
            declaration.name,
            declaration.endpoint,
            declaration.snapshot,
            0,
            declaration.timetable.max_runtime,
            [due],
            now,
        )
        if entry.window != window:
            place = f"the execution of {entry.schedule} scheduled at {entry.scheduled:%FT%TZ}"
            problem = f"{place} looks at {entry.window}, so there is none over {window}; give another monitor.name"
            raise SettingsError([f"stage.step={duration_text(self._backfill.step)}: {problem}"])
        return entry

    def _start(self, entry: ExecutionRecord) -> None:
        if entry.status.terminal:
            declaration, now = self._backfill.declaration, self._backfill.clock()
            self._ledger.redo(entry.id, declaration.snapshot, declaration.timetable.max_runtime, now)
        self._supervisor.start(self._ledger.entry(entry.id))

    def _beat(self) -> None:
        if time.monotonic() - self._beaten < self._backfill.lease_seconds / HEARTBEATS_PER_LEASE:
            return
        self._ledger.keep_alive(self._supervisor.owner, self._backfill.clock())
        self._beaten = time.monotonic()


def _summary(ended: Sequence[tuple[ExecutionRecord, bool]], failures: Sequence[ExecutionRecord]) -> str:
    before = sum(was for _, was in ended)
    counts = Counter("no data" if entry.failure_reason == NO_DATA else str(entry.status) for entry, _ in ended)
    told = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    done = f", {before:,} of them done before" if before else ""
    lines = [f"{plural(len(ended), 'window')}: {told}{done}"]
    lines += [entry.told for entry in failures[:MOST_TOLD]]
    if len(failures) > MOST_TOLD:
        lines.append(f"and {len(failures) - MOST_TOLD:,} more; stage=schedule stage.action=executions lists them")
    return "\n  ".join(lines)
