"""Runs executions over a past period, one per window, and skips completed windows unless stage.redo=true."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt, Le
from pydantic import AfterValidator

from runner.domain.executions import MAX_WINDOW, Alert, Execution, Outcome, Status, Window
from runner.domain.numbers import Integer, plural
from runner.domain.schedules import ExecutionRecord, ScheduledTime
from runner.errors import NO_DATA, LedgerError, SettingsError
from runner.protocols import Track
from runner.results import directory
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.supervisor import HEARTBEATS_PER_LEASE, Supervisor
from runner.scheduling.timetable import Duration, iso_duration
from runner.stages.monitor import FailOn, reaches
from runner.types import NO_OTHER_KEYS, Instant

if TYPE_CHECKING:
    from runner.scheduling.ledger import Ledger

DONE = {Status.COMPLETED, Status.COMPLETED_WITH_VIOLATIONS}
INTERRUPTED = Execution.stopped("the backfill was interrupted; run the same command to resume it")
RECORD_SECONDS = 10.0
"""Seconds after the grace period in which results are recorded while stopping."""
POLL_SECONDS = 0.05
"""Seconds between two checks of executions in other processes."""
MAX_WINDOWS = 100_000
"""Maximum number of windows of a backfill, equal to 11 years of hourly windows."""
MAX_LISTED = 10
"""Maximum number of failures, and of alerts, listed in the message."""


logger = logging.getLogger("shapwatch.backfill")


def _valid_step(step: timedelta) -> timedelta:
    if not timedelta(minutes=1) <= step <= MAX_WINDOW:
        raise ValueError(f"expected a duration from PT1M to P{MAX_WINDOW.days}D")
    return step


@dataclass(frozen=True)
class BackfillStage:
    """`stage=backfill`; conf/stage/backfill.yaml describes the keys."""

    kind: Literal["backfill"]
    start: Instant
    end: Instant
    step: Annotated[Duration, AfterValidator(_valid_step)]
    workers: Annotated[Integer, Gt(0), Le(1_000)]
    redo: bool
    fail_on: FailOn

    __pydantic_config__ = NO_OTHER_KEYS

    def __post_init__(self) -> None:
        """Check the period.

        Raises:
            ValueError: if it is empty or has too many windows.
        """
        if self.start >= self.end:
            raise ValueError(f"start: {self.start:%FT%TZ} is not before stage.end, {self.end:%FT%TZ}")
        if self.end - self.start > MAX_WINDOWS * self.step:
            raise ValueError(f"step: more than {MAX_WINDOWS:,} windows; use a longer step, or several backfills")

    def windows(self) -> list[Window]:
        """Return the windows, oldest first."""
        count = -((self.start - self.end) // self.step)
        starts = [self.start + i * self.step for i in range(count)]
        return [Window(start, min(start + self.step, self.end)) for start in starts]


@dataclass(frozen=True)
class Backfill:
    """Executions over a past period, divided into windows.

    Attributes:
        ledger: function that opens the ledger.
        supervisor: function that creates a supervisor for a ledger.
        declaration: monitor to execute.
        lease_seconds: seconds without heartbeat after which another process may take over.
        clock: function that returns the current time in UTC.
        stopwatch: function that returns monotonic seconds.
        track: progress display.
    """

    settings: BackfillStage
    ledger: Callable[[], AbstractContextManager[Ledger]]
    supervisor: Callable[[Ledger], Supervisor]
    declaration: Declaration
    lease_seconds: float
    clock: Callable[[], datetime]
    stopwatch: Callable[[], float]
    track: Track

    def run(self) -> Outcome:
        """Execute the windows, and return the number of windows per status.

        Completed windows are skipped unless stage.redo=true.
        The backfill succeeds if no execution failed or was stopped. A window without data is not a failure. Verdicts of
        windows that were completed before count for `stage.fail_on`, too.

        Raises:
            SettingsError: if the end of the period is in the future.
        """
        self._check_end()
        windows = self.settings.windows()
        with self.ledger() as ledger:
            supervisor = self.supervisor(ledger)
            try:
                run = BackfillRun(ledger, supervisor, self)
                ended = list(self.track(run.execute(windows), "windows", len(windows)))
            finally:
                supervisor.stop_all(INTERRUPTED, RECORD_SECONDS)
        failures = [
            execution for execution, _ in ended if execution.status not in DONE and execution.failure_reason != NO_DATA
        ]
        fail_on = self.settings.fail_on
        alerts = [each for each, _ in ended if each.status in DONE and each.output and reaches(each.output, fail_on)]
        message = "\n  ".join([*_summary(ended, failures), *_alerts(alerts, fail_on), *_index(ended)])
        return Outcome(message, succeeded=False) if failures else Alert(message) if alerts else Outcome(message)

    def _check_end(self) -> None:
        end = self.settings.end
        if end > (now := self.clock()):
            problem = f"is in the future (now {now:%FT%TZ}); a window can be executed only after its end"
            raise SettingsError([f"stage.end={end:%FT%TZ}: {problem}"])


class BackfillRun:
    """A running backfill."""

    def __init__(self, ledger: Ledger, supervisor: Supervisor, backfill: Backfill) -> None:
        self._ledger, self._supervisor, self._backfill = ledger, supervisor, backfill
        self._last_heartbeat = self._last_round = float("-inf")
        self._problem: str | None = None
        self._waiting = False

    def execute(self, windows: Sequence[Window]) -> Iterator[tuple[ExecutionRecord, bool]]:
        """Yield each ended execution, and whether it was completed before this backfill."""
        waiting, started = deque(windows), set[int]()
        while waiting or started:
            try:
                yield from self._round(waiting, started)
            except LedgerError as error:
                self._report(error)
            self._supervisor.wait_for_end(POLL_SECONDS)

    def _round(self, waiting: deque[Window], started: set[int]) -> Iterator[tuple[ExecutionRecord, bool]]:
        """Start executions while a worker is free, and yield the ended ones."""
        self._record_heartbeats()
        while waiting and self._supervisor.free > 0 and len(started) < self._supervisor.workers:
            if self._waits_for_baseline(waiting[0]):
                break
            execution = self._find_or_add(waiting[0])
            is_done = execution.status in DONE and execution.failure_reason != NO_DATA
            if is_done and not self._backfill.settings.redo:
                waiting.popleft()
                if execution.ended:
                    yield execution, True
                else:  # its process died before it had published the result
                    started.add(execution.id)
            else:
                self._start(execution)
                waiting.popleft()
                started.add(execution.id)
        self._supervisor.reap(started)
        for execution in map(self._ledger.executions.get, sorted(started)):
            if execution.ended and execution.id not in self._supervisor.running:
                started.remove(execution.id)
                yield execution, False
            elif execution.status == Status.PENDING and self._supervisor.free > 0:
                self._supervisor.start(execution)
        self._problem, self._last_round = None, self._backfill.stopwatch()

    def _report(self, error: LedgerError) -> None:
        """Log a new problem of the ledger.

        Raises:
            LedgerError: if the ledger has not answered for a lease.
        """
        if self._backfill.stopwatch() - self._last_round > self._backfill.lease_seconds:
            raise error
        if str(error) != self._problem:
            logger.warning("%s; trying again", error)
        self._problem = str(error)
        self._supervisor.pause_leases()

    def _waits_for_baseline(self, window: Window) -> bool:
        """Return whether the reference of a window is being computed; log the first time."""
        reference = directory.reference_path(Path(self._backfill.declaration.reference), window)
        waits = directory.is_being_written(reference)
        if waits and not self._waiting:
            logger.info("waiting for the baseline in %s, which is being computed", reference)
        self._waiting = waits
        return waits

    def _find_or_add(self, window: Window) -> ExecutionRecord:
        """Return the execution over a window; add it if missing.

        Raises:
            SettingsError: if the execution at its scheduled time has another window.
        """
        now, declaration = self._backfill.clock(), self._backfill.declaration
        due = ScheduledTime(window.end, window, now)
        schedule = replace(declaration.schedule(now), revision=0)
        (execution,) = self._ledger.executions.add(schedule, declaration.snapshot, [due], now)
        if execution.window != window:
            present = f"{execution.schedule} already has an execution scheduled at {execution.scheduled:%FT%TZ}"
            problem = f"{present}, over {execution.window} rather than {window}; choose another monitor.name"
            raise SettingsError([f"stage.step={iso_duration(self._backfill.settings.step)}: {problem}"])
        return execution

    def _start(self, execution: ExecutionRecord) -> None:
        if execution.status.terminal:
            declaration, now = self._backfill.declaration, self._backfill.clock()
            self._ledger.executions.reset(execution.id, declaration.snapshot, declaration.timetable.max_runtime, now)
        self._supervisor.start(self._ledger.executions.get(execution.id))

    def _record_heartbeats(self) -> None:
        now = self._backfill.stopwatch()
        if now - self._last_heartbeat < self._backfill.lease_seconds / HEARTBEATS_PER_LEASE:
            return
        self._supervisor.record_heartbeats()
        self._last_heartbeat = now


def _summary(ended: Sequence[tuple[ExecutionRecord, bool]], failures: Sequence[ExecutionRecord]) -> Iterator[str]:
    skipped = sum(completed_before for _, completed_before in ended)
    counts = Counter(
        "no data" if execution.failure_reason == NO_DATA else str(execution.status) for execution, _ in ended
    )
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    before = f" ({skipped:,} completed before)" if skipped else ""
    yield f"{plural(len(ended), 'window')}: {statuses}{before}"
    yield from _listed(failures)


def _alerts(alerts: Sequence[ExecutionRecord], fail_on: FailOn) -> Iterator[str]:
    if alerts:
        yield f"verdicts that reach stage.fail_on={fail_on}: {len(alerts):,}"
        yield from _listed(alerts)


def _index(ended: Sequence[tuple[ExecutionRecord, bool]]) -> Iterator[str]:
    """Yield the path of the page that lists all executions of the monitor, if it exists."""
    outputs = [execution.output for execution, _ in ended if execution.output]
    pages = {Path(output).parents[3] / directory.INDEX for output in outputs if len(Path(output).parents) > 3}
    yield from (str(page) for page in sorted(pages) if page.is_file())


def _listed(executions: Sequence[ExecutionRecord]) -> Iterator[str]:
    yield from (execution.summary for execution in executions[:MAX_LISTED])
    if len(executions) > MAX_LISTED:
        yield f"and {len(executions) - MAX_LISTED:,} more; list them with stage=schedule stage.action=executions"
