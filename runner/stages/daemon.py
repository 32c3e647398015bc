"""The daemon runs the due executions of a ledger until it receives SIGTERM.

If several daemons use a ledger, one leads and the others stand by. All state is in the ledger: a daemon may be killed
at any moment, and the next one continues.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from runner.domain.executions import Outcome, Window
from runner.domain.numbers import Finite, Integer, plural
from runner.domain.schedules import ExecutionRecord, Snapshot, first_line
from runner.errors import LedgerError, MissingSnapshot, SettingsError, ShapwatchError, os_error_message
from runner.report.health import Mark
from runner.results import directory
from runner.results.directory import REPORT
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.process import Signals
from runner.scheduling.daemon.supervisor import (
    HEARTBEATS_PER_LEASE,
    RUN_AGAIN,
    HeartbeatMonitor,
    Supervisor,
    log_ids,
    log_summary,
)
from runner.stages.status import ENDED, LastVerdict, last_verdict
from runner.stages.terminal import SYMBOLS, marked
from runner.types import NO_OTHER_KEYS, Experiment, Port, Seconds

if TYPE_CHECKING:
    from runner.scheduling.daemon.dispatcher import Dispatcher
    from runner.scheduling.daemon.health import DaemonState, LastExecutions
    from runner.scheduling.ledger import Leadership, Ledger
    from runner.scheduling.ledger.tables import ExecutionTable

CLEANUP_SECONDS = 3600.0
"""Seconds between two removals of expired results."""
FORCE_AFTER = 2
"""Number of signals after which a daemon ends running executions at once."""
MOST_EARLIER = 100
"""Maximum number of earlier executions in which the last one with enough records is searched."""
LOG_LEVELS = {
    Mark.VIOLATION: logging.WARNING,
    Mark.WARNING: logging.WARNING,
    Mark.DOUBT: logging.WARNING,
    Mark.FAILED: logging.ERROR,
}
"""Levels of log lines about verdicts; INFO for others."""
RECORD_SECONDS = 20.0
"""Seconds after the grace period in which results are recorded while stopping.

The next daemon runs executions without a recorded result again.
"""

logger = logging.getLogger("shapwatch.daemon")


@dataclass(frozen=True)
class DaemonStage:
    """`stage=daemon`; conf/stage/daemon.yaml describes the keys."""

    kind: Literal["daemon"]
    monitors: tuple[Experiment, ...]
    workers: Annotated[Integer, Gt(0), Le(1_000)]
    poll_seconds: Seconds
    grace_seconds: Annotated[Finite, Ge(0), Le(86_400)]
    host: Annotated[str, MinLen(1)]
    port: Port | None

    __pydantic_config__ = NO_OTHER_KEYS

    def run(
        self,
        ledger: Ledger,
        supervisor: Supervisor,
        monitors: Sequence[Declaration],
        lease_seconds: float,
        keep: timedelta | None,
        keep_results: Callable[[Snapshot], timedelta | None],
        clock: Callable[[], datetime],
    ) -> Outcome:
        """Run a daemon; the attributes of `Daemon` describe the arguments."""
        from runner.scheduling.daemon.dispatcher import Dispatcher
        from runner.scheduling.daemon.health import serve_health
        from runner.scheduling.ledger import Leadership

        return Daemon(
            settings=self,
            ledger=ledger,
            leadership=Leadership(ledger.database),
            supervisor=supervisor,
            create_dispatcher=partial(Dispatcher, ledger, supervisor, clock, time.monotonic),
            monitors=monitors,
            health=None if self.port is None else partial(serve_health, self.host, self.port),
            lease_seconds=lease_seconds,
            keep=keep,
            keep_results=keep_results,
            clock=clock,
            stopwatch=time.monotonic,
        ).run()


@dataclass(frozen=True)
class Daemon:
    """A process that runs executions as leader, or stands by to become leader.

    Attributes:
        ledger: database of schedules and executions.
        leadership: lock of the leader.
        supervisor: component that runs executions.
        create_dispatcher: function that creates the dispatcher when this daemon becomes leader.
        monitors: schedules to create or update when this daemon becomes leader.
        health: function that starts the health server; None for no server.
        lease_seconds: seconds without an answer from the ledger after which the daemon ends its executions.
        keep: retention of executions in the ledger; None for unlimited.
        keep_results: function that returns the retention of result directories for a snapshot.
        clock: function that returns the current time in UTC.
        stopwatch: function that returns monotonic seconds.
    """

    settings: DaemonStage
    ledger: Ledger
    leadership: Leadership
    supervisor: Supervisor
    create_dispatcher: Callable[[], Dispatcher]
    monitors: Sequence[Declaration]
    health: Callable[[Callable[[], DaemonState], LastExecutions], AbstractContextManager[None]] | None
    lease_seconds: float
    keep: timedelta | None
    keep_results: Callable[[Snapshot], timedelta | None]
    clock: Callable[[], datetime]
    stopwatch: Callable[[], float]

    @property
    def pause_seconds(self) -> float:
        """Seconds between two rounds, short enough for heartbeats."""
        return min(self.settings.poll_seconds, self.lease_seconds / HEARTBEATS_PER_LEASE)

    def run(self) -> Outcome:
        """Run rounds until SIGTERM or SIGINT; a second signal ends running executions at once."""
        logger.info("daemon %s on the ledger %s", self.supervisor.owner, self.ledger.name)
        run = DaemonRun(self, Signals(_ignore_sighup))
        with ExitStack() as stack:
            stack.enter_context(run.signals)
            if self.health:
                stack.enter_context(self.health(run.state, self.ledger.executions.last_by_schedule))
            stack.callback(run.drain)
            run.round()
            while not run.signals.wait(self.pause_seconds):
                run.round()
        return Outcome("Daemon stopped. The next daemon resumes unfinished and pending executions.")


class LevelLog:
    """Log of ended executions: a line if the level of a monitor changed, and once an hour the number of the others."""

    def __init__(self, executions: ExecutionTable, clock: Callable[[], datetime]) -> None:
        self._executions, self._clock = executions, clock
        self._unchanged: list[tuple[Window, Mark]] = []
        self._last_hour: datetime | None = None

    def add(self, execution: ExecutionRecord) -> None:
        """Log an ended execution if its level differs from that of the previous window, or count it.

        Too few records are no news. The line also contains the level of the previous window with enough records.
        """
        verdict = last_verdict(execution)
        if verdict is None or execution.status not in ENDED:
            log_summary(execution)
            return
        try:
            before = self._before(execution)
        except LedgerError:
            before = None
        if verdict.mark is Mark.FEW or (before and before.mark is verdict.mark):
            self._unchanged.append((execution.window, verdict.mark))
            return
        change = marked(verdict.mark) + (f", was {before.mark.words.lower()}" if before else "")
        logger.log(
            LOG_LEVELS.get(verdict.mark, logging.INFO),
            "%s: %s",
            execution.window,
            ": ".join([change, *_explanation(execution, verdict)]),
            extra=log_ids(execution),
        )

    def _before(self, execution: ExecutionRecord) -> LastVerdict | None:
        """Return the verdict of the previous window that had enough records; None if it is unknown."""
        newest = self._executions.newest(execution.schedule, statuses=ENDED, limit=MOST_EARLIER)
        earlier = (last_verdict(each) for each in newest if each.scheduled < execution.scheduled)
        return next((each for each in earlier if each and each.mark is not Mark.FEW), None)

    def count(self, is_last: bool = False) -> None:
        """Log the number of executions without a change, once in an hour of the clock, and at the end."""
        hour = self._clock().replace(minute=0, second=0, microsecond=0)
        if not self._unchanged or (hour == self._last_hour and not is_last):
            return
        counted, self._unchanged, self._last_hour = self._unchanged, [], hour
        period = Window(min(each.start for each, _ in counted), max(each.end for each, _ in counted))
        marks = Counter(mark for _, mark in counted)
        levels = ", ".join(f"{marks[mark]:,} {mark.words.lower()}" for mark in SYMBOLS if marks[mark])
        logger.info("%s: no change of level in %s: %s", period, plural(len(counted), "execution"), levels)


def _explanation(execution: ExecutionRecord, verdict: LastVerdict) -> Iterator[str]:
    """Yield the reason of a failure, or the change, what to do, and where the report is; nothing without drift."""
    if verdict.mark is Mark.FAILED:
        yield first_line(execution.failure_reason or execution.summary)
    elif verdict.mark.is_alert:
        yield f"{verdict.title}. {verdict.action} Report: {Path(execution.output or '') / REPORT}"


class DaemonRun:
    """A running daemon.

    Attributes:
        signals: stop requests.
        dispatcher: dispatcher of a leader; None on standby.
        problem: error of the last round; None if the ledger answered.
    """

    def __init__(self, daemon: Daemon, signals: Signals) -> None:
        self.signals = signals
        self.problem: str | None = None
        self.dispatcher: Dispatcher | None = None
        self._daemon, self._ledger, self._supervisor = daemon, daemon.ledger, daemon.supervisor
        self._levels = LevelLog(daemon.ledger.executions, daemon.clock)
        self._supervisor.report = self._levels.add
        self._recorded_leading: bool | None = None
        self._last_heartbeat = self._last_record = self._last_round = daemon.stopwatch()
        self._last_cleanup = float("-inf")
        self._leaders = HeartbeatMonitor(daemon.lease_seconds, daemon.stopwatch)

    @property
    def leading(self) -> bool:
        """Whether this daemon is the leader; otherwise it stands by."""
        return self.dispatcher is not None

    def state(self) -> DaemonState:
        """Return the state for the health server."""
        from runner.scheduling.daemon.health import DaemonState

        age, running = self._daemon.stopwatch() - self._last_round, len(self._supervisor.running)
        return DaemonState(self.leading, age, self.problem, running, self._supervisor.workers)

    def round(self) -> None:
        """Run one round; if the ledger fails, the next round tries again."""
        try:
            self._record_heartbeats()
            self._update_leadership()
            self._record_daemon()
            if self.dispatcher:
                self.dispatcher.round()
                self._clean_up()
                if not self._supervisor.running:
                    self._levels.count()
            else:
                self._supervisor.reap(set(self._supervisor.running))
        except ShapwatchError as error:
            self._report(str(error))
            return
        if self.problem:
            logger.info("the ledger is available again")
        self.problem, self._last_round = None, self._daemon.stopwatch()

    def _update_leadership(self) -> None:
        """Step down if another daemon leads; become leader if the lock is free.

        A leader that lost its lock first tries to take it again. Its running executions continue in any case, because
        each has a heartbeat of its own.
        """
        if self.dispatcher and not self._daemon.leadership.holds():
            if self._daemon.leadership.try_lead():
                logger.warning("the lock of the leader was lost, and taken again")
            else:
                self._step_down("the lock of the leader was lost")
        if not self.dispatcher and self._daemon.leadership.try_lead():
            for monitor in self._daemon.monitors:
                schedule = monitor.create_or_update(self._ledger.schedules, self._daemon.clock())
                logger.info("stored in the ledger, revision %d", schedule.revision, extra={"schedule": schedule.name})
            dispatcher = self._daemon.create_dispatcher()
            dispatcher.start()
            self.dispatcher = dispatcher
            logger.info("leading")
        if not self.dispatcher:
            self._depose_silent_leader()

    def _depose_silent_leader(self) -> None:
        """Take the lock from a leader without heartbeat for a lease, for example a suspended one."""
        heartbeats = [daemon.heartbeat for daemon in self._ledger.daemons() if daemon.leading]
        silence = self._leaders.silence({"leader": max(heartbeats, default=None)})
        if silence["leader"] > self._daemon.lease_seconds:
            logger.warning("the leader has been silent for %.0f s; taking over", silence["leader"])
            self._daemon.leadership.depose()

    def _step_down(self, reason: str) -> None:
        logger.error("%s; standing by", reason)
        if self.dispatcher:
            self.dispatcher.stop()
        self.dispatcher = None
        self._daemon.leadership.release()

    def _record_heartbeats(self) -> None:
        """Record the heartbeats of the running executions, if they are due."""
        if not self._is_due(self._last_heartbeat):
            return
        start = self._daemon.stopwatch()
        self._supervisor.record_heartbeats()
        self._last_heartbeat = start

    def _record_daemon(self) -> None:
        """Record the heartbeat of this daemon, if it is due or the role of the daemon changed."""
        if self._recorded_leading == self.leading and not self._is_due(self._last_record):
            return
        self._ledger.record_daemon(
            self._supervisor.owner, self._daemon.clock(), self.leading, socket.gethostname(), os.getpid()
        )
        self._last_record, self._recorded_leading = self._daemon.stopwatch(), self.leading

    def _is_due(self, last: float) -> bool:
        return self._daemon.stopwatch() - last >= self._daemon.lease_seconds / HEARTBEATS_PER_LEASE

    def _report(self, problem: str) -> None:
        """Log a new problem; if the lease has expired, hand back the running executions and step down."""
        if problem != self.problem:
            logger.error("%s; trying again", problem)
        self.problem = problem
        self._leaders.pause()
        self._supervisor.pause_leases()
        now, lease = self._daemon.stopwatch(), self._daemon.lease_seconds
        reason = f"the ledger has not answered for {lease:g} s"
        if self._supervisor.running and now - self._last_heartbeat > lease:
            logger.error("%s; ending running executions, which run again later", reason)
            self._supervisor.hand_back()
        if self.dispatcher and now - self._last_round > lease:
            self._step_down(reason)

    def _clean_up(self) -> None:
        """Remove expired results, and expired executions from the ledger, at most once in `CLEANUP_SECONDS`."""
        if self._daemon.stopwatch() - self._last_cleanup < CLEANUP_SECONDS:
            return
        for digest in self._ledger.executions.snapshots_with_results():
            if keep := self._retention(digest):
                for execution in self._ledger.executions.expired(digest, self._daemon.clock() - keep):
                    self._record_heartbeats()
                    self._remove(execution)
        if self._daemon.keep and (removed := self._ledger.delete_ended(self._daemon.clock() - self._daemon.keep)):
            logger.info("removed %s from the ledger (ledger.keep)", plural(removed, "expired execution"))
        self._last_cleanup = self._daemon.stopwatch()

    def _retention(self, digest: str) -> timedelta | None:
        try:
            return self._daemon.keep_results(self._ledger.snapshot(digest))
        except (MissingSnapshot, SettingsError):
            return None

    def _remove(self, execution: ExecutionRecord) -> None:
        """Remove the directory of an execution, and log whether that succeeded."""
        output = Path(execution.output or "")
        try:
            removed = directory.remove(output, output.parents[3])
            result = "removed" if removed else "not removed: it contains files that no execution wrote"
        except OSError as error:
            removed, result = False, f"cannot be removed: {os_error_message(error)}"
        if removed:
            self._ledger.executions.clear_output(execution.id)
        logger.log(logging.INFO if removed else logging.WARNING, "%s %s (monitor.keep)", output, result)

    def drain(self) -> None:
        """Start no more executions, wait for the running ones, and set executions without a result to pending."""
        if self.dispatcher:
            self.dispatcher.stop()
        if self._supervisor.running:
            running = plural(len(self._supervisor.running), "running execution")
            logger.info("draining: waiting up to %g s for %s", self._daemon.settings.grace_seconds, running)
        until = self._daemon.stopwatch() + self._daemon.settings.grace_seconds
        while (
            self._daemon.stopwatch() < until
            and self.signals.stop_requests < FORCE_AFTER
            and not self._supervisor.wait(self._daemon.pause_seconds)
        ):
            with suppress(LedgerError):
                self._record_heartbeats()
                self._record_daemon()
        self._supervisor.stop_all(RUN_AGAIN, RECORD_SECONDS)
        self._levels.count(is_last=True)
        with suppress(LedgerError):
            self._ledger.remove_daemon(self._supervisor.owner)
        self._daemon.leadership.release()


def _ignore_sighup() -> None:
    logger.info("SIGHUP ignored: schedules are in the ledger; change them with stage=schedule")
