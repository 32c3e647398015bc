"""The schedules of a ledger. Each change of one is seen by whoever asks for the ledger's revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, case, delete, literal, select, update

from runner.domain.executions import Status
from runner.domain.schedules import Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import MissingSnapshot, ScheduleExists, UnknownSchedule
from runner.scheduling.ledger import rows
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.tables import UtcTime, executions, ledger, schedules, snapshots

STOPPED = "not run: the schedule was stopped before it started"
DELETED = "not run: the schedule was deleted before it started"


class Schedules(Database):
    """What can be done with schedules. Every method may raise LedgerError; all times are UTC."""

    def create(self, schedule: Schedule, snapshot: Snapshot, dues: Sequence[ScheduledTime] = ()) -> None:
        """Add a schedule, its settings, and what it has due already.

        Raises:
            ScheduleExists: when there is one of that name.
        """
        with self.writing() as connection:
            rows.keep(connection, snapshot)
            missing = rows.inserting(connection)(schedules).values(asdict(schedule)).on_conflict_do_nothing()
            if connection.execute(missing.returning(schedules.c.name)).first() is None:
                raise ScheduleExists(schedule.name, self.name)
            rows.enter_for(connection, schedule, dues, schedule.created)
            _changed(connection)

    def update(self, schedule: Schedule, snapshot: Snapshot, dues: Sequence[ScheduledTime] = ()) -> Schedule:
        """Return the schedule of that name after all of it was replaced, but when it was created and its status.

        What was due before a new timetable, and was not planned, is not due any more. What has been planned runs from
        the settings it was planned with. Of a stopped schedule nothing is run.

        Raises:
            UnknownSchedule: when there is none of that name.
        """
        kept = {"name", "created", "status", "cursor", "revision"}
        values = {key: value for key, value in asdict(schedule).items() if key not in kept}
        retimed = schedules.c.timetable != schedule.timetable
        moved = case((retimed, literal(schedule.modified, UtcTime)), else_=schedules.c.cursor)
        statement = update(schedules).where(schedules.c.name == schedule.name)
        statement = statement.values(**values, cursor=moved, revision=schedules.c.revision + 1)
        with self.writing() as connection:
            rows.keep(connection, snapshot)
            row = connection.execute(statement.returning(*schedules.c)).first()
            if row is None:
                raise self._unknown(connection, schedule.name)
            updated = rows.schedule_of(row)
            rows.enter_for(connection, updated, dues, schedule.modified)
            if updated.status == ScheduleStatus.STOPPED:
                _call_off(connection, schedule.name, schedule.modified, STOPPED)
            _changed(connection)
            return updated

    def start(self, name: str, now: datetime) -> bool:
        """Let a stopped schedule go on from now; return whether it was stopped.

        What it has executed for times yet to come, by a clock that was ahead, is forgotten, and comes again.

        Raises:
            UnknownSchedule: when there is none of that name.
        """
        with self.writing() as connection:
            stopped = (schedules.c.name == name) & (schedules.c.status == str(ScheduleStatus.STOPPED))
            values = {"status": str(ScheduleStatus.SCHEDULED), "cursor": now, "modified": now}
            started = update(schedules).where(stopped).values(values).returning(schedules.c.name)
            if connection.execute(started).first() is None:
                return self._known(connection, name)
            ahead = (executions.c.schedule == name) & (executions.c.scheduled > now)
            ended = executions.c.status.in_([str(status) for status in Status if status.terminal])
            connection.execute(delete(executions).where(ahead, ended))
            _changed(connection)
            return True

    def stop(self, name: str, now: datetime) -> bool:
        """Stop a schedule, with what it has not begun to execute; return whether it was not stopped before.

        Raises:
            UnknownSchedule: when there is none of that name.
        """
        with self.writing() as connection:
            going = (schedules.c.name == name) & (schedules.c.status == str(ScheduleStatus.SCHEDULED))
            values = {"status": str(ScheduleStatus.STOPPED), "modified": now}
            stopped = update(schedules).where(going).values(values).returning(schedules.c.name)
            if connection.execute(stopped).first() is None:
                return self._known(connection, name)
            _call_off(connection, name, now, STOPPED)
            _changed(connection)
            return True

    def delete(self, name: str, now: datetime) -> None:
        """Remove a schedule, and call off what it has not begun to execute; its executions stay.

        Raises:
            UnknownSchedule: when there is none of that name.
        """
        with self.writing() as connection:
            deleted = delete(schedules).where(schedules.c.name == name).returning(schedules.c.name)
            if connection.execute(deleted).first() is None:
                raise self._unknown(connection, name)
            _call_off(connection, name, now, DELETED)
            _changed(connection)

    def schedule(self, name: str) -> Schedule:
        """Return a schedule.

        Raises:
            UnknownSchedule: when there is none of that name.
        """
        with self.reading() as connection:
            row = connection.execute(select(schedules).where(schedules.c.name == name)).first()
            if row is None:
                raise self._unknown(connection, name)
            return rows.schedule_of(row)

    def schedules(self) -> list[Schedule]:
        """Return all schedules by name."""
        with self.reading() as connection:
            return list(map(rows.schedule_of, connection.execute(select(schedules).order_by(schedules.c.name))))

    def revision(self) -> int:
        """Return a number that grows with every change of a schedule but what planning does."""
        with self.reading() as connection:
            revision: int = connection.execute(select(ledger.c.revision)).scalar_one()
            return revision

    def snapshot(self, digest: str) -> Snapshot:
        """Return settings that a schedule or an execution refers to.

        Raises:
            MissingSnapshot: when somebody has removed them.
        """
        wanted = select(snapshots.c.settings, snapshots.c.folder).where(snapshots.c.digest == digest)
        with self.reading() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            raise MissingSnapshot(self.name, digest)
        return Snapshot(*row)

    def _known(self, connection: Connection, name: str) -> bool:
        """Return False for a schedule that is there."""
        if connection.execute(select(schedules.c.name).where(schedules.c.name == name)).first() is None:
            raise self._unknown(connection, name)
        return False

    def _unknown(self, connection: Connection, name: str) -> UnknownSchedule:
        others = connection.execute(select(schedules.c.name).order_by(schedules.c.name)).scalars()
        return UnknownSchedule(name, self.name, list(others))


def _call_off(connection: Connection, name: str, now: datetime, reason: str) -> None:
    pending = (executions.c.schedule == name) & (executions.c.status == str(Status.PENDING))
    values = {"status": str(Status.STOPPED), "failure_reason": reason, "ended": now, "modified": now}
    connection.execute(update(executions).where(pending).values(values))


def _changed(connection: Connection) -> None:
    """Count a change, at the end of its transaction: others that change something wait from here on."""
    connection.execute(update(ledger).values(revision=ledger.c.revision + 1))
