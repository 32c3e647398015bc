"""The daemon: runs what the schedules of a ledger have due, one leader at a time, until it is told to end.

All it knows is in the ledger, so it may be killed at any moment; the next one goes on from there.
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
from typing import TYPE_CHECKING

from runner.domain.executions import Outcome
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.domain.text import plural
from runner.errors import LedgerError, MissingSnapshot, ShapwatchError, os_error_message
from runner.results import directories
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.pulse import HEARTBEATS_PER_LEASE
from runner.scheduling.daemon.result import RUN_AGAIN
from runner.scheduling.daemon.signals import Signals

if TYPE_CHECKING:
    from runner.scheduling.daemon.dispatcher import Dispatcher
    from runner.scheduling.daemon.health import Facts, Lasts
    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger.leadership import Leadership
    from runner.scheduling.ledger.ledger import Ledger

TIDY_SECONDS = 3600.0
HURRIED = 2
"""How often a daemon is asked to end before it waits for nobody any more."""
LAST_SECONDS = 20.0
"""What writing down may take at the end, before the executions are left to the next daemon."""

logger = logging.getLogger("shapwatch.daemon")


@dataclass
class Daemon:
    """A process that leads, or waits to lead.

    Attributes:
        ledger: holds the schedules.
        leadership: at most one process holds it.
        supervisor: runs executions.
        dispatcher: makes what decides which, for the time of a lead.
        monitors: are created or updated at the begin of a lead.
        health: puts up a page with the state of a daemon; None for none.
        poll_seconds: between two rounds.
        grace_seconds: how long executions may go on once the daemon is told to end.
        lease_seconds: a daemon that cannot reach its ledger for so long gives up what it runs.
        keep: how long the ledger keeps executions, None for ever.
        keep_results: gives how long the directories of executions are left that ran from some settings.
        clock: the time in UTC.
    """

    ledger: Ledger
    leadership: Leadership
    supervisor: Supervisor
    dispatcher: Callable[[], Dispatcher]
    monitors: Sequence[Declaration]
    health: Callable[[Callable[[], Facts], Lasts], AbstractContextManager[None]] | None
    poll_seconds: float
    grace_seconds: float
    lease_seconds: float
    keep: timedelta | None
    keep_results: Callable[[Snapshot], timedelta | None]
    clock: Callable[[], datetime]
    problem: str | None = None
    _lead: Dispatcher | None = None
    _signals: Signals = field(default_factory=lambda: Signals(_stay))
    _beaten: float = field(default_factory=time.monotonic)
    _heard_leading: bool | None = None
    _tidied: float = float("-inf")
    _rounded: float = field(default_factory=time.monotonic)

    def run(self) -> Outcome:
        """Work until SIGTERM or SIGINT; a second one ends what is running at once."""
        logger.info("daemon %s on the ledger %s", self.supervisor.owner, self.ledger.name)
        with ExitStack() as stack:
            stack.enter_context(self._signals)
            if self.health:
                stack.enter_context(self.health(self.facts, self.ledger.last_of_each))
            stack.callback(self._drain)
            self.round()
            while not self._signals.wait(self.poll_seconds):
                self.round()
        return Outcome("the daemon has ended; what it did not finish, or was not yet due, is the next one's")

    @property
    def leading(self) -> bool:
        """Whether it runs executions, instead of waiting for the daemon that does to end."""
        return self._lead is not None

    def facts(self) -> Facts:
        """Return what there is to know about its health."""
        from runner.scheduling.daemon.health import Facts

        age, running = time.monotonic() - self._rounded, len(self.supervisor.running)
        return Facts(self.leading, age, self.problem, running, self.supervisor.workers)

    def round(self) -> None:
        """Do once what is to be done; a ledger that does not answer is asked again in the next round."""
        try:
            self._keep_lead()
            self._beat()
            if self._lead:
                self._lead.round()
                self._tidy()
        except ShapwatchError as error:
            self._trouble(str(error))
            return
        if self.problem:
            logger.info("the ledger answers again")
        self.problem, self._rounded = None, time.monotonic()

    def _keep_lead(self) -> None:
        """Give up a lead that is lost, take one that is free."""
        if self._lead and not self.leadership.holds():
            self._step_down("the lead is lost")
        if not self._lead and self.leadership.try_lead():
            for monitor in self.monitors:
                schedule = monitor.enlist(self.ledger, self.clock())
                logger.info("in the ledger, revision %d", schedule.revision, extra={"schedule": schedule.name})
            lead = self.dispatcher()
            lead.start()
            self._lead, self._beaten = lead, time.monotonic()
            logger.info("leading")

    def _step_down(self, why: str) -> None:
        logger.error("%s; what runs here is ended, whoever leads next runs it again", why)
        if self._lead:
            self._lead.stop()
        self._lead = None
        self.supervisor.abandon()
        self.leadership.release()

    def _beat(self) -> None:
        """Tell the ledger who is there, and that what is under way here still is."""
        recently = time.monotonic() - self._beaten < self.lease_seconds / HEARTBEATS_PER_LEASE
        if recently and self._heard_leading == self.leading:
            return
        self.ledger.beat(self.supervisor.owner, self.clock(), self.leading, socket.gethostname(), os.getpid())
        self._beaten, self._heard_leading = time.monotonic(), self.leading

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            logger.error("%s; trying again", problem)
        self.problem = problem
        if self._lead and time.monotonic() - self._beaten > self.lease_seconds:
            self._step_down(f"the ledger has not answered for {self.lease_seconds:g} s")

    def _tidy(self) -> None:
        """Remove what is kept no longer."""
        if time.monotonic() - self._tidied < TIDY_SECONDS:
            return
        for digest in self.ledger.with_results():
            if keep := self._keep(digest):
                for entry in self.ledger.expired(digest, self.clock() - keep):
                    self._beat()
                    self._remove(entry)
        if self.keep and (gone := self.ledger.forget(self.clock() - self.keep)):
            logger.info("the ledger has forgotten %s (ledger.keep)", plural(gone, "execution"))
        self._tidied = time.monotonic()

    def _keep(self, digest: str) -> timedelta | None:
        try:
            return self.keep_results(self.ledger.snapshot(digest))
        except MissingSnapshot:
            return None

    def _remove(self, entry: ExecutionRecord) -> None:
        """Remove the directory of an execution, or say why it stays."""
        output = Path(entry.output or "")
        try:
            gone = directories.remove(output, output.parents[3])
            told = "is removed" if gone else "stays, for it holds what no execution wrote"
        except OSError as error:
            gone, told = False, f"cannot be removed: {os_error_message(error)}"
        if gone:
            self.ledger.cleared(entry.id)
        logger.log(logging.INFO if gone else logging.WARNING, "%s %s (monitor.keep)", output, told)

    def _drain(self) -> None:
        """Start nothing more; let what runs end, or, when its time is up, leave it to the next daemon."""
        if self._lead:
            self._lead.stop()
        if self.supervisor.running:
            running = plural(len(self.supervisor.running), "execution")
            logger.info("draining: %s may go on for %g s", running, self.grace_seconds)
        until = time.monotonic() + self.grace_seconds
        while (
            time.monotonic() < until and self._signals.asked < HURRIED and not self.supervisor.wait(self.poll_seconds)
        ):
            with suppress(LedgerError):
                self._beat()
        self.supervisor.stop_all(RUN_AGAIN, LAST_SECONDS)
        with suppress(LedgerError):
            self.ledger.retire(self.supervisor.owner)
        self.leadership.release()


def _stay() -> None:
    logger.info("SIGHUP: nothing is read again; schedules are the ledger's, change them with stage=schedule")
