"""The supervisor claims executions, runs their processes, and records their results in the ledger."""

from __future__ import annotations

import errno
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, TypeVar

from runner.domain.executions import Execution, Status
from runner.domain.schedules import ExecutionRecord
from runner.errors import LedgerError, SettingsError, ShapwatchError, error_message
from runner.scheduling.daemon.process import Child, ProcessExit

if TYPE_CHECKING:
    from runner.scheduling.ledger.tables import ExecutionTable

HEARTBEATS_PER_LEASE = 6
"""Number of heartbeats of an execution within its lease."""
MAX_LOSSES = 10
"""Number of owners that may die during an execution before it fails; most of them die for another reason."""
MAX_STARTS = 3
"""Number of attempts to start the process of an execution."""
TEMPORARY = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
"""Errors of a process start after which another attempt may succeed."""
RETRY_SECONDS = 1.0
"""Seconds between two attempts to record a result."""

PUBLISH_SECONDS = 120.0
"""Maximum number of seconds to publish the result of a process that could not do so itself."""
PAUSE_SECONDS = 120.0
"""Seconds before another attempt to publish a result if its process could not be started, such as on a full disk."""

STOPPED_ON_REQUEST = Execution.stopped("stopped on request while it was running")
RUN_AGAIN = Execution("", status=Status.PENDING)
"""Marker for an execution that becomes pending again."""

Key = TypeVar("Key", bound=Hashable)

logger = logging.getLogger("shapwatch.supervision")


class HeartbeatMonitor:
    """Detector of dead processes.

    The heartbeat of a dead process no longer changes. The detector measures the time since the last change with its own
    stopwatch, so that the clocks of machines may differ.

    Attributes:
        lease_seconds: default number of seconds without a heartbeat after which an owner counts as dead; the lease in
            the record of an execution has precedence.
        stopwatch: function that returns monotonic seconds.
    """

    def __init__(self, lease_seconds: float, stopwatch: Callable[[], float]) -> None:
        """Create a monitor.

        Args:
            lease_seconds: default lease in seconds.
            stopwatch: function that returns monotonic seconds.
        """
        self.lease_seconds = lease_seconds
        self.stopwatch = stopwatch
        self._seen: dict[Hashable, tuple[datetime | None, float]] = {}
        self._last_call = stopwatch()

    def pause(self) -> None:
        """Do not count the time since the last call, in which other processes could not record heartbeats."""
        self._last_call = self.stopwatch()

    def silence(self, heartbeats: Mapping[Key, datetime | None]) -> dict[Key, float]:
        """Return for each process the seconds since its heartbeat changed; call this method regularly with all of them.

        If the last call was longer ago than a lease, this process was perhaps suspended together with the others, so
        only half a lease counts.
        """
        now = self.stopwatch()
        seconds = now - self._last_call
        if seconds > self.lease_seconds:
            seconds = self.lease_seconds / 2
        before, self._last_call = self._seen, now
        self._seen = {key: (heartbeat, 0.0) for key, heartbeat in heartbeats.items()}
        for key in heartbeats.keys() & before.keys():
            if before[key][0] == heartbeats[key]:
                self._seen[key] = (heartbeats[key], before[key][1] + seconds)
        return {key: self._seen[key][1] for key in heartbeats}

    def expired(self, running: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
        """Return executions whose owner is dead; call this method regularly with all running executions."""
        silence = self.silence({each.claim: each.heartbeat for each in running})
        return [each for each in running if silence[each.claim] >= (each.lease_seconds or self.lease_seconds)]


@dataclass
class RunningExecution:
    """A running execution.

    Attributes:
        execution: its record in the ledger.
        child: its process, or the process that publishes its failure.
        stop_result: result to record if the stopped process reports none; None before a stop.
    """

    execution: ExecutionRecord
    child: Child
    stop_result: Execution | None = None


class Supervisor:
    """Component that runs executions in parallel, each with a thread that waits for its process.

    Attributes:
        owner: unique name under which executions are claimed.
        workers: maximum number of parallel executions.
        running: running executions by id.
        report: function that receives each ended execution in its thread; by default it is logged.
    """

    def __init__(
        self,
        executions: ExecutionTable,
        launch: Callable[[ExecutionRecord], Child],
        owner: str,
        workers: int,
        grace_seconds: float,
        heartbeats: HeartbeatMonitor,
        clock: Callable[[], datetime],
    ) -> None:
        """Create a supervisor.

        Args:
            executions: table of the executions.
            launch: function that starts the process of an execution, or raises OSError or ShapwatchError. After OSError
                and SettingsError the execution has failed.
            owner: unique name under which executions are claimed.
            workers: maximum number of parallel executions.
            grace_seconds: seconds that a process may take to exit after SIGTERM before it is killed.
            heartbeats: monitor of other owners.
            clock: function that returns the current time in UTC.
        """
        self.owner, self.workers = owner, workers
        self.running: dict[int, RunningExecution] = {}
        self.report: Callable[[ExecutionRecord], None] = log_summary
        self._executions, self._launch, self._heartbeats, self._clock = executions, launch, heartbeats, clock
        self._grace_seconds = grace_seconds
        self._failed_starts = Counter[int]()
        self._paused_until = dict[int, float]()
        self._changed = Condition()
        self._abandoned = Event()

    @property
    def free(self) -> int:
        """Number of executions that may be started."""
        return self.workers - len(self.running)

    def start(self, execution: ExecutionRecord) -> bool:
        """Claim a pending execution and start its process; return whether the claim succeeded.

        Raises:
            LedgerError: if the ledger fails; the next call of `reap` makes a claimed execution pending again.
        """
        if execution.id in self.running:
            return False  # the process of a lost claim has not ended yet
        claim = self._executions.claim(execution.id, self.owner, self._clock(), self._heartbeats.lease_seconds)
        if claim is None:
            return False
        execution = replace(execution, status=Status.IN_PROGRESS, owner=claim.owner, attempts=claim.attempt)
        level = logging.DEBUG if claim.attempt == 1 else logging.INFO
        logger.log(level, "%s: starting attempt %d", execution.window, claim.attempt, extra=log_ids(execution))
        try:
            child = self._launch(execution)
        except (OSError, SettingsError) as error:
            logger.error("%s: cannot be started: %s", execution.window, error, extra=log_ids(execution))
            self._failed_starts[execution.id] += 1
            temporary = isinstance(error, OSError) and error.errno in TEMPORARY
            again = temporary and self._failed_starts[execution.id] < MAX_STARTS
            self._record_without_process(execution, RUN_AGAIN if again else Execution.failed(error_message(error)))
            return True
        del self._failed_starts[execution.id]
        running = self.running[execution.id] = RunningExecution(execution, child)
        Thread(target=self._supervise, args=(running,), name=f"execution-{execution.id}").start()
        return True

    def record_heartbeats(self) -> None:
        """Record heartbeats of the running executions; stop executions that another process has claimed.

        Raises:
            LedgerError: if the ledger fails.
        """
        running = list(self.running.values())
        held = self._executions.record_heartbeats([each.execution.claim for each in running], self._clock())
        for each in running:
            if each.execution.claim not in held:
                self.stop(each.execution.id, RUN_AGAIN)  # has no effect on an execution that has ended

    def stop(self, execution_id: int, result: Execution) -> None:
        """Stop an execution; `result` is recorded unless its process reports one before its end."""
        with self._changed:
            running = self.running.get(execution_id)
            if running is None or running.stop_result:
                return
            running.stop_result = result
        Thread(target=running.child.stop, args=(self._grace_seconds,), daemon=True).start()

    def stop_all(self, result: Execution, record_seconds: float) -> None:
        """Stop all executions; give up recording results `record_seconds` after the grace period."""
        for execution_id in list(self.running):
            self.stop(execution_id, result)
        if not self.wait(self._grace_seconds + record_seconds):
            self._abandoned.set()
        self.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no execution is running, at most `seconds`; return whether none is running."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.running, seconds)

    def wait_for_end(self, seconds: float) -> None:
        """Wait until an execution of this supervisor ends, at most `seconds`."""
        with self._changed:
            self._changed.wait(seconds)

    def hand_back(self) -> None:
        """Stop all executions, and make them pending again when the ledger is available; return immediately."""
        for execution_id in list(self.running):
            self.stop(execution_id, RUN_AGAIN)

    def pause_leases(self) -> None:
        """Do not count the time of a failed access to the ledger, in which owners could not record heartbeats."""
        self._heartbeats.pause()

    def reap(self, ids: Collection[int] | None = None) -> None:
        """Stop executions on request, and record that owners of executions have died.

        An execution with a dead owner becomes pending again. It becomes stopped if a stop was requested, and failed
        after the death of `MAX_LOSSES` owners. An execution of this supervisor without a process becomes pending again,
        because its start was interrupted. A recorded result that its process or owner could not publish is published.

        Args:
            ids: executions to check; None for all.
        """
        own = set(self.running)  # read before the query: an execution that ends meanwhile must not count as orphaned
        running = [each for each in self._executions.running() if ids is None or each.id in ids]
        expired = self._heartbeats.expired(running)
        for execution in running:
            if execution.id in own:
                if execution.status == Status.STOPPING:
                    self.stop(execution.id, STOPPED_ON_REQUEST)
            elif execution.status.terminal:
                if execution.owner == self.owner or execution in expired:
                    self._publish_again(execution)
            elif execution.owner == self.owner:
                self._record(execution, RUN_AGAIN)
            elif execution in expired:
                logger.warning("%s: its owner %s has died", execution.window, execution.owner, extra=log_ids(execution))
                self._record_without_process(execution, result_after_death(execution), lost=True)

    def _supervise(self, running: RunningExecution) -> None:
        execution = running.execution
        try:
            end = running.child.wait(execution.max_runtime)
            if end is None:
                self.stop(execution.id, result_after_timeout(execution))
                end = running.child.wait()
                assert end  # noqa: S101  the wait has no limit
            if not self._abandoned.is_set():
                self._record_end(running, end, running.stop_result)
        finally:
            self._remove(execution)

    def _remove(self, execution: ExecutionRecord) -> None:
        with self._changed:
            del self.running[execution.id]
            self._changed.notify_all()

    def _record_end(self, running: RunningExecution, end: ProcessExit, stop_result: Execution | None) -> None:
        """Record the result of an execution; retry while the ledger fails."""
        execution = running.execution
        result = end.result or stop_result or Execution.failed(end.reason)
        is_unheard = end.result is None and stop_result in {None, result_after_timeout(execution)}
        self.report(_ended(execution, result))
        while not self._abandoned.is_set():
            try:
                if is_unheard and self._executions.record_once(execution.claim, result, self._clock()):
                    self._publish(running, result, end.peak_memory)
                elif not self._record(execution, result, end.peak_memory) and not self._settle(execution, end):
                    logger.warning("%s: another process owns it now", execution.window, extra=log_ids(execution))
                return
            except LedgerError as error:
                logger.warning("%s: %s; trying again", execution.window, error, extra=log_ids(execution))
                self._abandoned.wait(RETRY_SECONDS)

    def _record(
        self, execution: ExecutionRecord, result: Execution, peak_memory: int | None = None, lost: bool = False
    ) -> bool:
        """Record a result, and return whether the claim was still valid."""
        now = self._clock()
        if result is RUN_AGAIN:
            if self._executions.release(execution.claim, now, lost):
                return True
            result = STOPPED_ON_REQUEST  # a stop was requested meanwhile
        return self._executions.finish(execution.claim, result, now, peak_memory)

    def _record_without_process(self, execution: ExecutionRecord, result: Execution, lost: bool = False) -> None:
        """Record the result of an execution whose process did not start or is lost, and publish a failure."""
        if result.status is not Status.FAILED:
            self._record(execution, result, lost=lost)
        elif self._executions.record_once(execution.claim, result, self._clock()):
            self._start_publishing(_ended(execution, result))

    def _publish_again(self, execution: ExecutionRecord) -> None:
        """Publish a recorded result whose process or owner has died; give up after the death of `MAX_LOSSES`."""
        if self._paused_until.get(execution.id, -math.inf) > self._heartbeats.stopwatch():
            return
        if execution.losses + 1 >= MAX_LOSSES:
            if self._executions.settle(execution.claim, "", self._clock()):
                logger.error("%s: perhaps not published to all sinks", execution.window, extra=log_ids(execution))
        elif self.free > 0:
            claim = self._executions.take_over(
                execution.claim, self.owner, self._clock(), self._heartbeats.lease_seconds
            )
            if claim:
                logger.warning("%s: publishing its result again", execution.window, extra=log_ids(execution))
                self._start_publishing(replace(execution, owner=claim.owner, attempts=claim.attempt))

    def _start_publishing(self, execution: ExecutionRecord) -> None:
        """Let a process publish a recorded result; do not wait for its end."""
        if child := self._launch_publication(execution):
            running = self.running[execution.id] = RunningExecution(execution, child)
            Thread(target=self._await_publication, args=(running,), name=f"execution-{execution.id}").start()

    def _publish(self, running: RunningExecution, result: Execution, peak_memory: int) -> None:
        """Let a new process publish the failure of an execution; `reap` repeats this if the process dies."""
        if child := self._launch_publication(_ended(running.execution, result)):
            with self._changed:
                running.child, running.stop_result = child, None
            self._finish_publication(running, peak_memory)

    def _launch_publication(self, execution: ExecutionRecord) -> Child | None:
        """Start a process that publishes the recorded result of an execution; return None if it cannot be started."""
        self._paused_until.pop(execution.id, None)
        try:
            return self._launch(execution)
        except (OSError, ShapwatchError) as error:
            self._paused_until[execution.id] = self._heartbeats.stopwatch() + PAUSE_SECONDS
            logger.warning("%s: its result cannot be published: %s", execution.window, error, extra=log_ids(execution))
            return None

    def _await_publication(self, running: RunningExecution) -> None:
        try:
            self._finish_publication(running)
        except LedgerError as error:
            logger.warning("%s: %s", running.execution.window, error, extra=log_ids(running.execution))
        finally:
            self._remove(running.execution)

    def _finish_publication(self, running: RunningExecution, peak_memory: int | None = None) -> None:
        """Wait for the end of a publication, and record the problems of sinks."""
        execution = running.execution
        end = running.child.wait(PUBLISH_SECONDS)
        hangs = end is None
        end = end or running.child.stop(self._grace_seconds)
        if end.result is None:
            logger.warning(
                "%s: its result was not published: %s", execution.window, end.reason, extra=log_ids(execution)
            )
        if end.result or hangs:
            message, output = (end.result.message, end.result.directory) if end.result else ("", "")
            self._executions.settle(execution.claim, message, self._clock(), peak_memory, output)

    def _settle(self, execution: ExecutionRecord, end: ProcessExit) -> bool:
        """Record the end of a process that recorded its result itself; return whether the claim was still valid.

        If the process died before it had published the result, `reap` publishes it again.
        """
        if end.result is None:
            return execution.claim in self._executions.record_heartbeats([execution.claim], self._clock())
        return self._executions.settle(execution.claim, end.result.message, self._clock(), end.peak_memory)


def result_after_timeout(execution: ExecutionRecord) -> Execution:
    """Return the result of an execution that exceeded its maximum duration."""
    return Execution.stopped(f"stopped after {execution.max_runtime} s (schedule.max_runtime)")


def result_after_death(execution: ExecutionRecord) -> Execution:
    """Return the result of an execution whose owner has died."""
    if execution.status == Status.STOPPING:
        return STOPPED_ON_REQUEST
    if (losses := execution.losses + 1) >= MAX_LOSSES:
        return Execution.failed(f"given up: {losses} processes that ran it died (daemons or backfills)")
    return RUN_AGAIN


def _ended(execution: ExecutionRecord, result: Execution) -> ExecutionRecord:
    return replace(
        execution,
        status=result.status,
        exit_message=result.message,
        failure_reason=result.failure_reason,
        output=result.directory or None,
    )


def log_summary(execution: ExecutionRecord) -> None:
    """Log an ended execution."""
    logger.info("%s", execution.summary, extra=log_ids(execution))


def log_ids(execution: ExecutionRecord) -> dict[str, object]:
    """Return the fields of a log line about an execution."""
    return {"execution": execution.id, "schedule": execution.schedule}
