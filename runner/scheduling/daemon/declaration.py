"""A monitor and its timetable as settings declare them, and how they come into the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.domain.schedules import Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import SettingsError, UnknownSchedule
from runner.scheduling.timetable import Once, Timetable, dump, load, with_settings

if TYPE_CHECKING:
    from runner.scheduling.ledger.ledger import Ledger


@dataclass(frozen=True)
class Declaration:
    """What becomes a schedule.

    Attributes:
        name, endpoint: of the monitor.
        reference: what it is judged against.
        timetable: when it is executed.
        changes: None when somebody chose that timetable; otherwise the settings of it that somebody gave: a schedule
            that has a timetable keeps all the others.
        snapshot: what its executions run from.
    """

    name: str
    endpoint: str
    reference: str
    timetable: Timetable
    changes: Mapping[str, Any] | None
    snapshot: Snapshot

    def create(self, ledger: Ledger, now: datetime) -> Schedule:
        """Return the new schedule.

        Raises:
            ScheduleExists, LedgerError: when there is none.
        """
        schedule = self._schedule(self.timetable, now)
        ledger.create(schedule, self.snapshot, at_once(self.timetable, now))
        return schedule

    def update(self, ledger: Ledger, now: datetime) -> Schedule:
        """Return the schedule with everything replaced but, unless one was chosen, its timetable.

        Raises:
            SettingsError: when the timetable that it has does not have the settings that were given.
            UnknownSchedule, LedgerError: when there is none.
        """
        present = ledger.schedule(self.name).timetable
        timetable = self.timetable if self.changes is None else self._kept(present, self.changes)
        dues = at_once(timetable, now) if dump(timetable) != present else []
        return ledger.update(self._schedule(timetable, now), self.snapshot, dues)

    def enlist(self, ledger: Ledger, now: datetime) -> Schedule:
        """Return the schedule, created where there is none, and updated where it is another one.

        Raises:
            LedgerError: when it cannot be read or written.
        """
        try:
            present = ledger.schedule(self.name)
        except UnknownSchedule:
            return self.create(ledger, now)
        same = present.snapshot == self.snapshot.digest and present.timetable == dump(self.timetable)
        return present if same else self.update(ledger, now)

    def _kept(self, present: str, changes: Mapping[str, Any]) -> Timetable:
        try:
            return with_settings(load(present), changes)
        except ValueError as error:
            given = ", ".join(f"schedule.{key}={value}" for key, value in changes.items())
            problem = f"does not fit the timetable that the schedule {self.name} has, {present}"
            remedy = "choose another one with it, such as schedule=hourly"
            raise SettingsError([f"{given or 'schedule'}: {problem}; {remedy}"]) from error

    def _schedule(self, timetable: Timetable, now: datetime) -> Schedule:
        return Schedule(
            name=self.name,
            endpoint=self.endpoint,
            status=ScheduleStatus.SCHEDULED,
            timetable=dump(timetable),
            reference=self.reference,
            max_runtime=timetable.max_runtime,
            snapshot=self.snapshot.digest,
            created=now,
            modified=now,
            cursor=now,
        )


def at_once(timetable: Timetable, now: datetime) -> list[ScheduledTime]:
    """Return what is due as soon as there is a schedule: the only execution of one without cron."""
    return [timetable.due(now)] if isinstance(timetable, Once) else []
