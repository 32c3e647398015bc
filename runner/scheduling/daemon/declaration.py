"""Declarations: monitors and their timetables in settings, from which schedules are created and updated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.domain.schedules import Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import SettingsError, UnknownSchedule
from runner.scheduling.timetable import Once, Timetable, dump, load, with_settings

if TYPE_CHECKING:
    from runner.scheduling.ledger.tables import ScheduleTable


@dataclass(frozen=True)
class Declaration:
    """A monitor and its timetable, as declared in settings.

    Attributes:
        name: name of the monitor.
        endpoint: monitored endpoint.
        reference: path of the reference.
        timetable: timetable in the settings.
        changes: timetable settings to change in an existing schedule; None to replace its whole timetable.
        snapshot: snapshot of the settings for executions.
    """

    name: str
    endpoint: str
    reference: str
    timetable: Timetable
    changes: Mapping[str, Any] | None
    snapshot: Snapshot

    def create(self, schedules: ScheduleTable, now: datetime) -> Schedule:
        """Create the schedule and return it.

        Raises:
            ScheduleExists, LedgerError: if it cannot be created.
        """
        schedule = self.schedule(now)
        schedules.create(schedule, self.snapshot, due_at_creation(self.timetable, now))
        return schedule

    def update(self, schedules: ScheduleTable, now: datetime) -> Schedule:
        """Update the schedule and return it; `changes` states what changes in its timetable.

        Raises:
            SettingsError: if the changed settings do not apply to its timetable.
            UnknownSchedule, LedgerError: if it cannot be updated.
        """
        present = schedules.get(self.name).timetable
        timetable = self.timetable if self.changes is None else self._change(present, self.changes)
        due = due_at_creation(timetable, now) if dump(timetable) != present else []
        return schedules.update(self.schedule(now, timetable), self.snapshot, due)

    def create_or_update(self, schedules: ScheduleTable, now: datetime) -> Schedule:
        """Create the schedule if it is missing, update it if it differs, and return it.

        Raises:
            LedgerError: if the ledger fails.
        """
        try:
            present = schedules.get(self.name)
        except UnknownSchedule:
            return self.create(schedules, now)
        equal = present.snapshot == self.snapshot.digest and present.timetable == dump(self.timetable)
        return present if equal else self.update(schedules, now)

    def schedule(self, now: datetime, timetable: Timetable | None = None) -> Schedule:
        """Return a new schedule, by default with the declared timetable."""
        timetable = timetable or self.timetable
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

    def _change(self, present: str, changes: Mapping[str, Any]) -> Timetable:
        try:
            return with_settings(load(present), changes)
        except ValueError as error:
            given = ", ".join(f"schedule.{key}={value}" for key, value in changes.items())
            problem = f"does not apply to the timetable of the schedule {self.name}, {present}"
            remedy = "choose another timetable as well, such as schedule=hourly"
            raise SettingsError([f"{given or 'schedule'}: {problem}; {remedy}"]) from error


def due_at_creation(timetable: Timetable, now: datetime) -> list[ScheduledTime]:
    """Return a list with the scheduled time of `schedule=once`; an empty list for a recurring timetable."""
    return [timetable.due(now)] if isinstance(timetable, Once) else []
