"""The schedules of a ledger; each change increases the ledger's revision, from which daemons detect it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, case, delete, literal, select, update

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import ScheduleExists, UnknownSchedule
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.executions import TERMINAL, add_executions
from runner.scheduling.ledger.tables import (
    UtcTime,
    add_snapshot,
    executions,
    has_status,
    ledger,
    schedule_from,
    schedules,
    upsert,
)

STOPPED = "not run: the schedule was stopped before it started"
DELETED = "not run: the schedule was deleted before it started"
UNCHANGED = {"name", "created", "status", "cursor", "revision"}
"""Columns that an update does not replace."""


class ScheduleTable:
    """Schedules of a ledger. Every method may raise LedgerError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, schedule: Schedule, snapshot: Snapshot, due: Sequence[ScheduledTime] = ()) -> None:
        """Add a schedule, its snapshot, and executions that are due immediately.

        Raises:
            ScheduleExists: if the name is taken.
        """
        with self._database.writing() as connection:
            add_snapshot(connection, snapshot)
            insert = upsert(connection)(schedules).values(asdict(schedule)).on_conflict_do_nothing()
            if connection.execute(insert.returning(schedules.c.name)).first() is None:
                raise ScheduleExists(schedule.name, self._database.name)
            add_executions(connection, schedule, due, schedule.created)
            _increase_revision(connection)

    def update(self, schedule: Schedule, snapshot: Snapshot, due: Sequence[ScheduledTime] = ()) -> Schedule:
        """Replace a schedule except for its creation time and status, and return it.

        A new timetable starts at the update: earlier times that were not planned are no longer due. Planned executions
        keep their snapshot. Executions of a stopped schedule are skipped.

        Raises:
            UnknownSchedule: if there is no schedule of that name.
        """
        values = {key: value for key, value in asdict(schedule).items() if key not in UNCHANGED}
        retimed = schedules.c.timetable != schedule.timetable
        cursor = case((retimed, literal(schedule.modified, UtcTime)), else_=schedules.c.cursor)
        replacement = update(schedules).where(schedules.c.name == schedule.name)
        replacement = replacement.values(**values, cursor=cursor, revision=schedules.c.revision + 1)
        with self._database.writing() as connection:
            add_snapshot(connection, snapshot)
            row = connection.execute(replacement.returning(*schedules.c)).first()
            if row is None:
                raise self._unknown(connection, schedule.name)
            updated = schedule_from(row)
            add_executions(connection, updated, due, schedule.modified)
            if updated.status == ScheduleStatus.STOPPED:
                _skip_pending(connection, schedule.name, schedule.modified, STOPPED)
            _increase_revision(connection)
            return updated

    def plan(self, schedule: Schedule, due: Sequence[ScheduledTime], now: datetime) -> list[ExecutionRecord] | None:
        """Add due executions, and move the schedule's cursor to the last of them.

        A scheduled time with a reason for skipping becomes a stopped execution.

        Args:
            schedule: schedule as it was read.
            due: scheduled times, ascending, at least one.
            now: current time.

        Returns:
            The added executions; None if the schedule has changed since it was read, without any effect.
        """
        unchanged = (
            (schedules.c.name == schedule.name)
            & (schedules.c.cursor == schedule.cursor)
            & (schedules.c.revision == schedule.revision)
            & (schedules.c.status == str(ScheduleStatus.SCHEDULED))
        )
        move = update(schedules).where(unchanged).values(cursor=due[-1].scheduled).returning(schedules.c.name)
        with self._database.writing() as connection:
            if connection.execute(move).first() is None:
                return None
            return add_executions(connection, schedule, due, now)

    def start(self, name: str, now: datetime) -> bool:
        """Start a stopped schedule from now on, and return whether it was stopped.

        Ended executions with a scheduled time in the future, after the clock was set back, are removed and repeated.

        Raises:
            UnknownSchedule: if there is no schedule of that name.
        """
        with self._database.writing() as connection:
            stopped = (schedules.c.name == name) & (schedules.c.status == str(ScheduleStatus.STOPPED))
            values = {"status": str(ScheduleStatus.SCHEDULED), "cursor": now, "modified": now}
            start = update(schedules).where(stopped).values(values).returning(schedules.c.name)
            if connection.execute(start).first() is None:
                self._check_exists(connection, name)
                return False
            future = (executions.c.schedule == name) & (executions.c.scheduled > now)
            connection.execute(delete(executions).where(future, has_status(TERMINAL)))
            _increase_revision(connection)
            return True

    def stop(self, name: str, now: datetime) -> bool:
        """Stop a schedule, skip its pending executions, and return whether it was running before.

        Raises:
            UnknownSchedule: if there is no schedule of that name.
        """
        with self._database.writing() as connection:
            scheduled = (schedules.c.name == name) & (schedules.c.status == str(ScheduleStatus.SCHEDULED))
            values = {"status": str(ScheduleStatus.STOPPED), "modified": now}
            stop = update(schedules).where(scheduled).values(values).returning(schedules.c.name)
            if connection.execute(stop).first() is None:
                self._check_exists(connection, name)
                return False
            _skip_pending(connection, name, now, STOPPED)
            _increase_revision(connection)
            return True

    def delete(self, name: str, now: datetime) -> None:
        """Delete a schedule and skip its pending executions; its executions remain in the ledger.

        Raises:
            UnknownSchedule: if there is no schedule of that name.
        """
        with self._database.writing() as connection:
            deletion = delete(schedules).where(schedules.c.name == name).returning(schedules.c.name)
            if connection.execute(deletion).first() is None:
                raise self._unknown(connection, name)
            _skip_pending(connection, name, now, DELETED)
            _increase_revision(connection)

    def get(self, name: str) -> Schedule:
        """Return a schedule.

        Raises:
            UnknownSchedule: if there is no schedule of that name.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(schedules).where(schedules.c.name == name)).first()
            if row is None:
                raise self._unknown(connection, name)
            return schedule_from(row)

    def all(self) -> list[Schedule]:
        """Return all schedules, sorted by name."""
        with self._database.reading() as connection:
            return list(map(schedule_from, connection.execute(select(schedules).order_by(schedules.c.name))))

    def revision(self) -> int:
        """Return the number of changes of schedules; planning does not count."""
        with self._database.reading() as connection:
            revision: int = connection.execute(select(ledger.c.revision)).scalar_one()
            return revision

    def _check_exists(self, connection: Connection, name: str) -> None:
        if connection.execute(select(schedules.c.name).where(schedules.c.name == name)).first() is None:
            raise self._unknown(connection, name)

    def _unknown(self, connection: Connection, name: str) -> UnknownSchedule:
        names = connection.execute(select(schedules.c.name).order_by(schedules.c.name)).scalars()
        return UnknownSchedule(name, self._database.name, list(names))


def _skip_pending(connection: Connection, name: str, now: datetime, reason: str) -> None:
    pending = (executions.c.schedule == name) & has_status([Status.PENDING])
    values = {"status": str(Status.STOPPED), "failure_reason": reason, "ended": now, "modified": now}
    connection.execute(update(executions).where(pending).values(values))


def _increase_revision(connection: Connection) -> None:
    """Count a change; as last statement of its transaction, because other changes wait from here on."""
    connection.execute(update(ledger).values(revision=ledger.c.revision + 1))
