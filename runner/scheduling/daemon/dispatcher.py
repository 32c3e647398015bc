"""What the leading daemon does each round: it writes down what has become due, and starts what may start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus, Snapshot
from runner.domain.text import plural
from runner.errors import MissingSnapshot
from runner.results import directory
from runner.scheduling.daemon.alarms import Alarms
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.timetable import LATEST_START, Recurring, Timetable, load

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Ledger

SWEEP_SECONDS = 60.0
"""Every so often all schedules are looked at, alarm or not: after a machine slept, or its clock was set."""
MOST_LOOKED_AT = 1_000
"""Executions that may start, the oldest, that are looked at in one round."""

logger = logging.getLogger("shapwatch.daemon")


class Dispatcher:
    """The schedules of a ledger, as they are now, and what is to be done about them."""

    def __init__(self, ledger: Ledger, supervisor: Supervisor, clock: Callable[[], datetime]) -> None:
        """Prepare.

        Args:
            ledger: what is due is read from it and written into it.
            supervisor: runs executions.
            clock: the time in UTC.
        """
        self.schedules: dict[str, Schedule] = {}
        self._ledger, self._supervisor, self._clock = ledger, supervisor, clock
        self._revision: object = None
        self._awake: set[str] = set()
        self._swept = time.monotonic()
        self._alarms = Alarms(self._awake.add)
        self._timetable = lru_cache(maxsize=10_000)(load)
        self._snapshot: Callable[[str], Snapshot] = lru_cache(maxsize=1_000)(ledger.snapshot)

    def start(self) -> None:
        """Begin to hear alarms."""
        self._alarms.start()

    def stop(self) -> None:
        """Hear no more alarms."""
        self._alarms.stop()

    def round(self) -> None:
        """Do what is to be done now.

        Raises:
            LedgerError: when the ledger does not answer; what was not done is done in a later round.
        """
        self._refresh()
        self._sweep()
        self._plan()
        self._supervisor.reap()
        self._dispatch()

    def wake(self) -> None:
        """Look at all schedules in the next round."""
        self._awake.update(self.schedules)

    def _refresh(self) -> None:
        """Read the schedules again if any has changed."""
        revision = self._ledger.revision()
        if revision == self._revision:
            return
        scheduled = [one for one in self._ledger.schedules() if one.status == ScheduleStatus.SCHEDULED]
        self.schedules = {one.name: one for one in scheduled if self._understood(one)}
        timetables = {name: self._timetable(one.timetable) for name, one in self.schedules.items()}
        self._alarms.set(
            {n: timetable.cron.trigger for n, timetable in timetables.items() if isinstance(timetable, Recurring)}
        )
        self._revision = revision
        self.wake()

    def _understood(self, schedule: Schedule) -> bool:
        try:
            return bool(self._timetable(schedule.timetable))
        except ValueError as error:
            logger.error("its timetable is left out: %s", error, extra={"schedule": schedule.name})
            return False

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            self.wake()

    def _plan(self) -> None:
        """Write down what has become due of the schedules whose alarm rang."""
        now = self._clock()
        for name in sorted(self._awake):
            schedule = self.schedules.get(name)
            if schedule and not self._planned(schedule, self._timetable(schedule.timetable), now):
                self._revision = None
                continue
            self._awake.discard(name)

    def _planned(self, schedule: Schedule, timetable: Timetable, now: datetime) -> bool:
        """Return False when the schedule is another one by now."""
        dues = timetable.due(schedule.name, schedule.cursor, now) if isinstance(timetable, Recurring) else []
        if not dues:
            return True
        if self._ledger.plan(schedule, dues, now) is None:
            return False
        self.schedules[schedule.name] = replace(schedule, cursor=dues[-1].scheduled)
        if skipped := [due for due in dues if due.skipped]:
            told = plural(len(skipped), "scheduled time")
            logger.warning("%s; the newest: %s", told, skipped[-1].skipped, extra={"schedule": schedule.name})
        return True

    def _dispatch(self) -> None:
        """Start what may start, the oldest first, as long as a worker is free."""
        if self._supervisor.free <= 0:
            return
        now = self._clock()
        for entry in self._ledger.startable(now, self._supervisor.workers, MOST_LOOKED_AT):
            if self._supervisor.free <= 0:
                return
            try:
                if self._may_start(entry, now) and not self._waits_for_baseline(entry):
                    self._supervisor.start(entry)
            except MissingSnapshot as error:
                self._ledger.skip(entry.id, now, f"not run: {error}")

    def _may_start(self, entry: ExecutionRecord, now: datetime) -> bool:
        """Return whether an execution need not wait for its predecessor; it is skipped where it shall not wait."""
        busy = {running.entry.schedule for running in list(self._supervisor.running.values())}
        schedule = self.schedules.get(entry.schedule)
        if entry.schedule not in busy or schedule is None:
            return True
        timetable = self._timetable(schedule.timetable)
        overlap = timetable.overlap if isinstance(timetable, Recurring) else "wait"
        if overlap == "skip" and entry.start_at - entry.scheduled <= LATEST_START:
            reason = "not run: the execution before it was still running (schedule.overlap=skip)"
            self._ledger.skip(entry.id, now, reason)
        return overlap == "allow"

    def _waits_for_baseline(self, entry: ExecutionRecord) -> bool:
        """Return whether the reference of an execution is being computed right now."""
        schedule = self.schedules.get(entry.schedule)
        if schedule is None:
            return False
        reference = directory.reference_path(Path(schedule.reference), entry.window)
        return directory.is_being_written(Path(self._snapshot(entry.snapshot).folder) / reference)
