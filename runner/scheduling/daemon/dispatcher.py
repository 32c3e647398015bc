"""The dispatcher of the leading daemon: in each round it plans due executions and starts pending ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from runner.domain.numbers import plural
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduleStatus, Snapshot
from runner.errors import MissingSnapshot
from runner.results import directory
from runner.scheduling.daemon.supervisor import Supervisor
from runner.scheduling.timetable import LATEST_START, Recurring, Timetable, load

if TYPE_CHECKING:
    from runner.scheduling.ledger import Ledger

CHECK_SECONDS = 60.0
"""Seconds between two checks of all schedules; a check detects times missed while the machine was suspended."""
MAX_STARTABLE = 1_000
"""Maximum number of pending executions read in one round, oldest first."""

logger = logging.getLogger("shapwatch.daemon")


class Alarms:
    """Alarm clock, based on APScheduler, that reports the names of due schedules."""

    def __init__(self, notify: Callable[[str], object]) -> None:
        """Create an alarm clock without alarms.

        Args:
            notify: function that receives the name of a due schedule, in another thread.
        """
        self._notify = notify
        defaults: dict[str, object] = {"misfire_grace_time": None, "coalesce": True}  # several late calls become one
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults=defaults)
        self._triggers: dict[str, str] = {}

    def start(self) -> None:
        """Start the alarms."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the alarms."""
        if self._scheduler.running:
            self._scheduler.shutdown()

    def set(self, triggers: Mapping[str, BaseTrigger]) -> None:
        """Replace the alarms; unchanged ones continue."""
        texts = {name: str(trigger) for name, trigger in triggers.items()}
        for name in self._triggers.keys() - texts.keys():
            if self._scheduler.get_job(name):
                self._scheduler.remove_job(name)
        for name, text in texts.items():
            if self._triggers.get(name) != text:
                self._scheduler.add_job(self._notify, triggers[name], [name], id=name, replace_existing=True)
        self._triggers = texts


class Dispatcher:
    """Component that plans the due executions of all schedules of a ledger, and starts pending executions.

    Attributes:
        schedules: schedules with the status Scheduled, by name.
    """

    def __init__(
        self,
        ledger: Ledger,
        supervisor: Supervisor,
        clock: Callable[[], datetime],
        stopwatch: Callable[[], float],
    ) -> None:
        """Create a dispatcher.

        Args:
            ledger: ledger with the schedules and executions.
            supervisor: component that runs executions.
            clock: function that returns the current time in UTC.
            stopwatch: function that returns monotonic seconds.
        """
        self.schedules: dict[str, Schedule] = {}
        self._ledger, self._supervisor, self._clock, self._stopwatch = ledger, supervisor, clock, stopwatch
        self._revision: object = None
        self._due: set[str] = set()
        self._last_check = stopwatch()
        self._alarms = Alarms(self._due.add)
        self._timetable = lru_cache(maxsize=10_000)(load)
        self._snapshot: Callable[[str], Snapshot] = lru_cache(maxsize=1_000)(ledger.snapshot)

    def start(self) -> None:
        """Start the alarms."""
        self._alarms.start()

    def stop(self) -> None:
        """Stop the alarms."""
        self._alarms.stop()

    def round(self) -> None:
        """Plan due executions and start pending ones.

        Raises:
            LedgerError: if the ledger fails; the next round continues.
        """
        self._read_changes()
        self._check_regularly()
        self._plan()
        self._supervisor.reap()
        self._start_pending()

    def wake(self) -> None:
        """Check all schedules in the next round."""
        self._due.update(self.schedules)

    def _read_changes(self) -> None:
        """Read the schedules if one has changed."""
        revision = self._ledger.schedules.revision()
        if revision == self._revision:
            return
        scheduled = [each for each in self._ledger.schedules.all() if each.status == ScheduleStatus.SCHEDULED]
        self.schedules = {each.name: each for each in scheduled if self._has_known_timetable(each)}
        timetables = {name: self._timetable(schedule.timetable) for name, schedule in self.schedules.items()}
        self._alarms.set({name: each.cron.trigger for name, each in timetables.items() if isinstance(each, Recurring)})
        self._revision = revision
        self.wake()

    def _has_known_timetable(self, schedule: Schedule) -> bool:
        try:
            return bool(self._timetable(schedule.timetable))
        except ValueError as error:
            logger.error(
                "schedule ignored, because its timetable is invalid: %s", error, extra={"schedule": schedule.name}
            )
            return False

    def _check_regularly(self) -> None:
        if self._stopwatch() - self._last_check > CHECK_SECONDS:
            self._last_check = self._stopwatch()
            self.wake()

    def _plan(self) -> None:
        """Plan the executions of due schedules."""
        now = self._clock()
        for name in sorted(self._due):
            schedule = self.schedules.get(name)
            if schedule and not self._plan_schedule(schedule, self._timetable(schedule.timetable), now):
                self._revision = None
                continue
            self._due.discard(name)

    def _plan_schedule(self, schedule: Schedule, timetable: Timetable, now: datetime) -> bool:
        """Plan the due executions of a schedule; return False if it has changed in the ledger."""
        due = timetable.due(schedule.name, schedule.cursor, now) if isinstance(timetable, Recurring) else []
        if not due:
            return True
        if self._ledger.schedules.plan(schedule, due, now) is None:
            return False
        self.schedules[schedule.name] = replace(schedule, cursor=due[-1].scheduled)
        if skipped := [each for each in due if each.skipped]:
            count = plural(len(skipped), "scheduled time")
            logger.warning("skipped %s; the latest: %s", count, skipped[-1].skipped, extra={"schedule": schedule.name})
        return True

    def _start_pending(self) -> None:
        """Start pending executions, oldest first, while a worker is free."""
        if self._supervisor.free <= 0:
            return
        now = self._clock()
        for execution in self._ledger.executions.startable(now, self._supervisor.workers, MAX_STARTABLE):
            if self._supervisor.free <= 0:
                return
            try:
                if self._may_start(execution, now) and not self._waits_for_baseline(execution):
                    self._supervisor.start(execution)
            except MissingSnapshot as error:
                self._ledger.executions.skip(execution.id, now, f"not run: {error}")

    def _may_start(self, execution: ExecutionRecord, now: datetime) -> bool:
        """Return whether `schedule.overlap` allows a start now.

        With the value `skip`, an execution that may not start is skipped; an execution of a missed time waits instead.
        """
        running = {each.execution.schedule for each in list(self._supervisor.running.values())}
        schedule = self.schedules.get(execution.schedule)
        if execution.schedule not in running or schedule is None:
            return True
        timetable = self._timetable(schedule.timetable)
        overlap = timetable.overlap if isinstance(timetable, Recurring) else "wait"
        if overlap == "skip" and execution.start_at - execution.scheduled <= LATEST_START:
            reason = "not run: the previous execution was still running (schedule.overlap=skip)"
            self._ledger.executions.skip(execution.id, now, reason)
        return overlap == "allow"

    def _waits_for_baseline(self, execution: ExecutionRecord) -> bool:
        """Return whether the reference of an execution is being computed."""
        schedule = self.schedules.get(execution.schedule)
        if schedule is None:
            return False
        reference = directory.reference_path(Path(schedule.reference), execution.window)
        return directory.is_being_written(Path(self._snapshot(execution.snapshot).folder) / reference)
