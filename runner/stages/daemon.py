"""The daemon runs the due executions of a ledger until it receives SIGTERM; of several daemons one leads.

Its state is in the ledger: a daemon may be killed at any moment, and the next one continues.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from runner.domain.executions import Outcome
from runner.domain.numbers import Finite, Integer
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.domain.text import plural
from runner.errors import LedgerError, MissingSnapshot, ShapwatchError, os_error_message
from runner.results import directory
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.pulse import HEARTBEATS_PER_LEASE
from runner.scheduling.daemon.result import RUN_AGAIN
from runner.scheduling.daemon.signals import Signals
from runner.types import NO_OTHER_KEYS, Experiment, Port, Seconds

if TYPE_CHECKING:
    from runner.scheduling.daemon.dispatcher import Dispatcher
    from runner.scheduling.daemon.health import Facts, Lasts
    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger.leadership import Leadership
    from runner.scheduling.ledger.ledger import Ledger

CLEANUP_SECONDS = 3600.0
"""Seconds between two removals of expired results."""
FORCE_AFTER = 2
"""Number of signals after which a daemon ends running executions at once."""
RECORD_SECONDS = 20.0
"""Seconds to record results while stopping; unrecorded executions are left to the next daemon."""

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


@dataclass
class Daemon:
    """A process that leads, or stands by to lead.

    Attributes:
        ledger: database of schedules and executions.
        leadership: lock of the leader.
        supervisor: component that runs executions.
        create_dispatcher: function that creates the dispatcher when this daemon becomes leader.
        monitors: schedules to create or update when this daemon becomes leader.
        health: function that starts the health server; None for no server.
        lease_seconds: seconds without a ledger after which the leader steps down.
        keep: retention of executions in the ledger; None for unlimited.
        keep_results: function that returns the retention of result directories for a snapshot.
        clock: current time in UTC.
        problem: error of the last round; None if the ledger answered.
    """

    settings: DaemonStage
    ledger: Ledger
    leadership: Leadership
    supervisor: Supervisor
    create_dispatcher: Callable[[], Dispatcher]
    monitors: Sequence[Declaration]
    health: Callable[[Callable[[], Facts], Lasts], AbstractContextManager[None]] | None
    lease_seconds: float
    keep: timedelta | None
    keep_results: Callable[[Snapshot], timedelta | None]
    clock: Callable[[], datetime]
    problem: str | None = None
    _dispatcher: Dispatcher | None = None
    _signals: Signals = field(default_factory=lambda: Signals(_ignore_sighup))
    _last_heartbeat: float = field(default_factory=time.monotonic)
    _recorded_leading: bool | None = None
    _last_cleanup: float = float("-inf")
    _last_round: float = field(default_factory=time.monotonic)

    def run(self) -> Outcome:
        """Run rounds until SIGTERM or SIGINT; a second signal ends running executions at once."""
        logger.info("daemon %s on the ledger %s", self.supervisor.owner, self.ledger.name)
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            if self.health:
                stack.enter_context(self.health(self.facts, self.ledger.last_of_each))
            stack.callback(self._drain)
            self.round()
            while not self._signals.wait(self.settings.poll_seconds):
                self.round()
        return Outcome("Daemon stopped. The next daemon resumes unfinished and pending executions.")

    @property
    def leading(self) -> bool:
        """Whether it runs executions, rather than standing by."""
        return self._dispatcher is not None

    def facts(self) -> Facts:
        """Return the state that the health server shows."""
        from runner.scheduling.daemon.health import Facts

        age, running = time.monotonic() - self._last_round, len(self.supervisor.running)
        return Facts(self.leading, age, self.problem, running, self.supervisor.workers)

    def round(self) -> None:
        """Run one round; if the ledger fails, the next round tries again."""
        try:
            self._update_leadership()
            self._record_heartbeat()
            if self._dispatcher:
                self._dispatcher.round()
                self._clean_up()
        except ShapwatchError as error:
            self._report(str(error))
            return
        if self.problem:
            logger.info("the ledger is available again")
        self.problem, self._last_round = None, time.monotonic()

    def _update_leadership(self) -> None:
        """Step down if the lock is lost; lead if it is free."""
        if self._dispatcher and not self.leadership.holds():
            self._step_down("the lock of the leader was lost")
        if not self._dispatcher and self.leadership.try_lead():
            for monitor in self.monitors:
                schedule = monitor.enlist(self.ledger, self.clock())
                logger.info("in the ledger, revision %d", schedule.revision, extra={"schedule": schedule.name})
            dispatcher = self.create_dispatcher()
            dispatcher.start()
            self._dispatcher, self._last_heartbeat = dispatcher, time.monotonic()
            logger.info("leading")

    def _step_down(self, reason: str) -> None:
        logger.error("%s; ending running executions, the next leader runs them again", reason)
        if self._dispatcher:
            self._dispatcher.stop()
        self._dispatcher = None
        self.supervisor.abandon()
        self.leadership.release()

    def _record_heartbeat(self) -> None:
        """Record the heartbeat of this daemon and of its executions, at most once per interval."""
        recent = time.monotonic() - self._last_heartbeat < self.lease_seconds / HEARTBEATS_PER_LEASE
        if recent and self._recorded_leading == self.leading:
            return
        self.ledger.beat(self.supervisor.owner, self.clock(), self.leading, socket.gethostname(), os.getpid())
        self._last_heartbeat, self._recorded_leading = time.monotonic(), self.leading

    def _report(self, problem: str) -> None:
        """Log a new problem; step down once the ledger has failed for a lease."""
        if problem != self.problem:
            logger.error("%s; trying again", problem)
        self.problem = problem
        if self._dispatcher and time.monotonic() - self._last_heartbeat > self.lease_seconds:
            self._step_down(f"the ledger has not answered for {self.lease_seconds:g} s")

    def _clean_up(self) -> None:
        """Remove expired results and executions."""
        if time.monotonic() - self._last_cleanup < CLEANUP_SECONDS:
            return
        for digest in self.ledger.with_results():
            if keep := self._retention(digest):
                for entry in self.ledger.expired(digest, self.clock() - keep):
                    self._record_heartbeat()
                    self._remove(entry)
        if self.keep and (removed := self.ledger.forget(self.clock() - self.keep)):
            logger.info("removed %s from the ledger (ledger.keep)", plural(removed, "expired execution"))
        self._last_cleanup = time.monotonic()

    def _retention(self, digest: str) -> timedelta | None:
        try:
            return self.keep_results(self.ledger.snapshot(digest))
        except MissingSnapshot:
            return None

    def _remove(self, entry: ExecutionRecord) -> None:
        """Remove the directory of an execution, and log whether that succeeded."""
        output = Path(entry.output or "")
        try:
            removed = directory.remove(output, output.parents[3])
            result = "removed" if removed else "not removed: it contains files that no execution wrote"
        except OSError as error:
            removed, result = False, f"cannot be removed: {os_error_message(error)}"
        if removed:
            self.ledger.cleared(entry.id)
        logger.log(logging.INFO if removed else logging.WARNING, "%s %s (monitor.keep)", output, result)

    def _drain(self) -> None:
        """Start nothing more; wait for running executions, and return those without result to the ledger."""
        if self._dispatcher:
            self._dispatcher.stop()
        if self.supervisor.running:
            running = plural(len(self.supervisor.running), "running execution")
            logger.info("draining: waiting up to %g s for %s", self.settings.grace_seconds, running)
        until = time.monotonic() + self.settings.grace_seconds
        while (
            time.monotonic() < until
            and self._signals.stop_requests < FORCE_AFTER
            and not self.supervisor.wait(self.settings.poll_seconds)
        ):
            with suppress(LedgerError):
                self._record_heartbeat()
        self.supervisor.stop_all(RUN_AGAIN, RECORD_SECONDS)
        with suppress(LedgerError):
            self.ledger.retire(self.supervisor.owner)
        self.leadership.release()


def _ignore_sighup() -> None:
    logger.info("SIGHUP ignored: schedules are in the ledger; change them with stage=schedule")
