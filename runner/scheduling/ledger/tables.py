"""Operations on the tables of executions and schedules.

The docstring of the package shows how the status of an execution can change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, delete, func, literal, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from runner.domain.executions import Execution, Status
from runner.domain.schedules import Claim, ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import LedgerError, ScheduleExists, UnknownSchedule
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.schema import (
    UtcTime,
    add_snapshot,
    due_row,
    execution_from,
    executions,
    has_status,
    in_id_order,
    ledger,
    schedule_from,
    schedules,
    storable,
    text,
    upsert,
)

RUNNING = (Status.IN_PROGRESS, Status.STOPPING)
TERMINAL = tuple(status for status in Status if status.terminal)
NO_RESULT = dict.fromkeys(["started", "ended", "peak_memory", "exit_message", "failure_reason", "output"])
"""Result columns of an execution, all empty."""
UNPUBLISHED = has_status(TERMINAL) & executions.c.ended.is_(None)
"""Condition that the result of an execution is recorded, but perhaps not yet published."""
SCHEDULE_STOPPED = "not run: the schedule was stopped before the execution started"
SCHEDULE_DELETED = "not run: the schedule was deleted before the execution started"
UNCHANGED = {"name", "created", "status", "cursor", "revision"}
"""Columns of a schedule that an update does not copy from the new schedule."""


class ExecutionTable:
    """Executions of a ledger. Every method may raise LedgerError.

    A method that returns a bool changes the status in one statement, and only if the previous status allows it. If
    several processes try, one gets True and the others get False.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, schedule: Schedule, snapshot: Snapshot, due: Sequence[ScheduledTime], now: datetime
    ) -> list[ExecutionRecord]:
        """Add an execution for each scheduled time without one, and return the executions of all scheduled times.

        The earliest scheduled time comes first. The ledger need not contain the schedule.
        """
        times = {each.scheduled for each in due}
        if not times:
            return []
        between = executions.c.scheduled.between(min(times), max(times))
        query = select(executions).where(executions.c.schedule == schedule.name, between)
        with self._database.writing() as connection:
            add_snapshot(connection, snapshot)
            add_executions(connection, schedule, due, now)
            rows = connection.execute(query.order_by(executions.c.scheduled))
            return [execution_from(row) for row in rows if row.scheduled in times]

    def get(self, execution_id: int) -> ExecutionRecord:
        """Return an execution."""
        for execution in self._fetch(select(executions).where(executions.c.id == execution_id)):
            return execution
        raise LedgerError(self._database.name, f"it has no execution {execution_id}; it may have expired (ledger.keep)")

    def newest(
        self, schedule: str | None = None, *, statuses: Collection[Status] | None = None, limit: int = 10
    ) -> list[ExecutionRecord]:
        """Return executions, the latest scheduled time first, optionally only of one schedule or with some statuses."""
        query = select(executions).order_by(executions.c.scheduled.desc(), executions.c.id.desc()).limit(limit)
        if schedule is not None:
            query = query.where(executions.c.schedule == schedule)
        if statuses is not None:
            query = query.where(has_status(statuses))
        return self._fetch(query)

    def last(self, schedule: str) -> ExecutionRecord | None:
        """Return the execution of a schedule with the latest scheduled time, None if it has none."""
        return next(iter(self.newest(schedule, limit=1)), None)

    def last_by_schedule(self, statuses: Collection[Status] = tuple(Status)) -> dict[str, ExecutionRecord]:
        """Map the name of each existing schedule to its last execution with one of the statuses, if there is one."""
        candidates = executions.alias()
        last_id = (
            select(candidates.c.id)
            .where(candidates.c.schedule == schedules.c.name, candidates.c.status.in_([str(each) for each in statuses]))
            .order_by(candidates.c.scheduled.desc())
            .limit(1)
            .correlate(schedules)
            .scalar_subquery()
        )
        query = select(executions).join(schedules, executions.c.id == last_id)
        return {execution.schedule: execution for execution in self._fetch(query)}

    def startable(self, now: datetime, per_schedule: int, limit: int) -> list[ExecutionRecord]:
        """Return pending executions that may start, the earliest scheduled time first.

        Args:
            now: current time.
            per_schedule: maximum number per schedule, so that a schedule with many missed times does not delay others.
            limit: maximum number in total.
        """
        due = (executions.c.status == str(Status.PENDING)) & (executions.c.start_at <= now)
        order = (executions.c.scheduled, executions.c.id)
        rank = func.row_number().over(partition_by=executions.c.schedule, order_by=order).label("rank")
        ranked = select(executions.c.id, rank).where(due).subquery()
        query = select(executions).join(ranked, executions.c.id == ranked.c.id).where(ranked.c.rank <= per_schedule)
        return self._fetch(query.order_by(*order).limit(limit))

    def running(self, schedule: str | None = None) -> list[ExecutionRecord]:
        """Return executions whose process may be running, optionally only those of one schedule.

        They are in progress or stopping, or their result is recorded and not yet published.
        """
        query = select(executions).where(has_status(RUNNING) | UNPUBLISHED).order_by(executions.c.id)
        return self._fetch(query if schedule is None else query.where(executions.c.schedule == schedule))

    def snapshots_with_results(self) -> list[str]:
        """Return the digests of snapshots whose executions have result directories."""
        query = select(executions.c.snapshot).where(executions.c.output.is_not(None), has_status(TERMINAL)).distinct()
        with self._database.reading() as connection:
            return sorted(connection.execute(query).scalars())

    def expired(self, snapshot: str, before: datetime) -> list[ExecutionRecord]:
        """Return executions of a snapshot that have a result directory and ended before a time, oldest first."""
        old = (executions.c.snapshot == snapshot) & (executions.c.ended < before) & executions.c.output.is_not(None)
        return self._fetch(select(executions).where(old, has_status(TERMINAL)).order_by(executions.c.scheduled))

    def clear_output(self, execution_id: int) -> None:
        """Record that the result directory of an execution was removed."""
        with self._database.writing() as connection:
            connection.execute(update(executions).where(executions.c.id == execution_id).values(output=None))

    def claim(self, execution_id: int, owner: str, now: datetime, lease_seconds: float | None = None) -> Claim | None:
        """Assign a pending execution to an owner, and return the claim; None if the execution is not pending.

        The owner counts as dead after `lease_seconds` without a heartbeat.
        """
        values = NO_RESULT | {"owner": owner, "started": now, "heartbeat": now, "lease_seconds": lease_seconds}
        values["attempts"] = executions.c.attempts + 1
        change = _status_change(execution_id, [Status.PENDING], Status.IN_PROGRESS, now, values)
        with self._database.writing() as connection:
            row = connection.execute(change.returning(executions.c.attempts)).first()
        return Claim(execution_id, owner, row.attempts) if row else None

    def record_heartbeats(self, claims: Collection[Claim], now: datetime) -> set[Claim]:
        """Record heartbeats of claimed executions, and return the claims that are still valid."""
        if not claims:
            return set()
        held = executions.c.id.in_([claim.execution_id for claim in claims]) & (has_status(RUNNING) | UNPUBLISHED)
        held &= executions.c.owner.in_({claim.owner for claim in claims})
        change = update(executions).where(in_id_order(held)).values(heartbeat=now)
        with self._database.writing() as connection:
            rows = connection.execute(change.returning(executions.c.id, executions.c.owner, executions.c.attempts))
            return {Claim(*row) for row in rows} & set(claims)

    def finish(self, claim: Claim, result: Execution, now: datetime, peak_memory: int | None = None) -> bool:
        """Record the result of an execution, and return whether the claim was still valid.

        Args:
            claim: claim of the execution.
            result: result with a terminal status; long strings are truncated.
            now: current time.
            peak_memory: peak memory of its process in bytes.
        """
        values = _result_values(result) | {"ended": now, "peak_memory": peak_memory}
        return self._change_status(claim.execution_id, RUNNING, result.status, now, values, _is_claimed(claim))

    def is_valid(self, claim: Claim, is_recorded: bool = False) -> bool:
        """Return whether a claimed execution is still running, and no other process has claimed it.

        Args:
            claim: claim of the execution.
            is_recorded: whether its result is recorded already, and remains to be published.
        """
        expected = UNPUBLISHED if is_recorded else has_status(RUNNING)
        valid = (executions.c.id == claim.execution_id) & _is_claimed(claim) & expected
        return bool(self._fetch(select(executions).where(valid)))

    def record(self, claim: Claim, result: Execution, now: datetime) -> bool:
        """Record the result of an execution that remains to be published; return whether the claim was still valid.

        Recording the same status again has no effect, because the answer to the first attempt may have been lost.
        """
        if self.record_once(claim, result, now):
            return True
        recorded = (executions.c.id == claim.execution_id) & _is_claimed(claim) & UNPUBLISHED
        return bool(self._fetch(select(executions).where(recorded, has_status([result.status]))))

    def record_once(self, claim: Claim, result: Execution, now: datetime) -> bool:
        """Record the result of a running execution that remains to be published; return False if one is recorded.

        Deaths of owners are counted again from zero, because the limit applies to the analysis and to the publication.
        """
        change = _result_values(result) | {"losses": 0}
        return self._change_status(claim.execution_id, RUNNING, result.status, now, change, _is_claimed(claim))

    def correct(self, claim: Claim, result: Execution, now: datetime) -> bool:
        """Replace a recorded death by the result that the process had written; return whether the claim was valid.

        Repeating it has no effect, because the answer to the first attempt may have been lost.
        """
        conditions = (_is_claimed(claim), UNPUBLISHED)
        return self._change_status(
            claim.execution_id, TERMINAL, result.status, now, _result_values(result), *conditions
        )

    def take_over(self, claim: Claim, owner: str, now: datetime, lease_seconds: float | None = None) -> Claim | None:
        """Assign an execution whose result remains to be published to another owner, because its owner has died.

        Returns:
            The new claim; None if the given claim is not valid, or the result is published.
        """
        values = {"owner": owner, "heartbeat": now, "lease_seconds": lease_seconds, "modified": now}
        values |= {"attempts": executions.c.attempts + 1, "losses": executions.c.losses + 1}
        recorded = (executions.c.id == claim.execution_id) & _is_claimed(claim) & UNPUBLISHED
        with self._database.writing() as connection:
            change = update(executions).where(recorded).values(values).returning(executions.c.attempts)
            row = connection.execute(change).first()
        return Claim(claim.execution_id, owner, row.attempts) if row else None

    def settle(
        self, claim: Claim, message: str, now: datetime, peak_memory: int | None = None, output: str = ""
    ) -> bool:
        """Record the end of the process of an execution whose result is recorded.

        Args:
            claim: claim of the execution.
            message: message of the execution, with the problems of sinks; empty to leave it unchanged.
            now: current time.
            peak_memory: peak memory of its process in bytes.
            output: directory of the result; empty to leave it unchanged.
        """
        values: dict[str, object] = {"ended": now, "modified": now, "peak_memory": peak_memory}
        if message:
            values["exit_message"] = text(message)
        if output:
            values["output"] = storable(output)
        recorded = (executions.c.id == claim.execution_id) & _is_claimed(claim) & UNPUBLISHED
        with self._database.writing() as connection:
            change = update(executions).where(recorded).values(values).returning(executions.c.id)
            return connection.execute(change).first() is not None

    def release(self, claim: Claim, now: datetime, lost: bool = False) -> bool:
        """Make an execution in progress pending, so that any process can start it.

        Args:
            claim: claim of the execution.
            now: current time.
            lost: whether its owner died.
        """
        values = {"losses": executions.c.losses + int(lost)}
        source = [Status.IN_PROGRESS]
        return self._change_status(claim.execution_id, source, Status.PENDING, now, values, _is_claimed(claim))

    def request_stop(self, execution_id: int, now: datetime) -> bool:
        """Ask the owner of an execution to stop it."""
        return self._change_status(execution_id, [Status.IN_PROGRESS], Status.STOPPING, now, {})

    def request_stop_of_all(self, schedule: str, now: datetime) -> int:
        """Ask the owners of a schedule's executions in progress to stop them, and return the number of executions."""
        running = (executions.c.schedule == schedule) & has_status([Status.IN_PROGRESS])
        values = {"status": str(Status.STOPPING), "modified": now}
        with self._database.writing() as connection:
            change = update(executions).where(in_id_order(running)).values(values).returning(executions.c.id)
            return len(connection.execute(change).all())

    def skip(self, execution_id: int, now: datetime, reason: str) -> bool:
        """Set a pending execution to Stopped, with the reason for not running it."""
        values = {"ended": now, "failure_reason": text(reason)}
        return self._change_status(execution_id, [Status.PENDING], Status.STOPPED, now, values)

    def reset(self, execution_id: int, snapshot: Snapshot, max_runtime: int, now: datetime) -> bool:
        """Make a terminal execution pending again: clear its result, and set its snapshot and maximum duration."""
        values = NO_RESULT | {"owner": None, "heartbeat": None, "lease_seconds": None, "attempts": 0, "losses": 0}
        values |= {"start_at": now, "snapshot": snapshot.digest, "max_runtime": max_runtime}
        with self._database.writing() as connection:
            add_snapshot(connection, snapshot)
            change = _status_change(execution_id, TERMINAL, Status.PENDING, now, values)
            return connection.execute(change).first() is not None

    def _fetch(self, query: Select[Any]) -> list[ExecutionRecord]:
        with self._database.reading() as connection:
            return list(map(execution_from, connection.execute(query)))

    def _change_status(
        self,
        execution_id: int,
        sources: Iterable[Status],
        target: Status,
        now: datetime,
        values: Mapping[str, Any],
        *conditions: ColumnElement[bool],
    ) -> bool:
        """Change the status of an execution, and return whether its status and the conditions allowed it."""
        with self._database.writing() as connection:
            change = _status_change(execution_id, sources, target, now, values, *conditions)
            return connection.execute(change).first() is not None


def add_executions(
    connection: Connection, schedule: Schedule, due: Sequence[ScheduledTime], now: datetime
) -> list[ExecutionRecord]:
    """Insert executions of a schedule for scheduled times without one, and return the new ones, oldest first."""
    if not due:
        return []
    common = {
        "schedule": schedule.name,
        "endpoint": schedule.endpoint,
        "snapshot": schedule.snapshot,
        "revision": schedule.revision,
        "max_runtime": schedule.max_runtime,
        "created": now,
        "modified": now,
        "attempts": 0,
        "losses": 0,
    }
    insert = upsert(connection)(executions).on_conflict_do_nothing().returning(*executions.c)
    oldest_first = sorted(due, key=lambda each: each.scheduled)
    rows = connection.execute(insert, [common | due_row(each, now) for each in oldest_first])
    return sorted(map(execution_from, rows), key=lambda execution: execution.scheduled)


def _result_values(result: Execution) -> dict[str, object]:
    return {
        "exit_message": text(result.message),
        "failure_reason": text(result.failure_reason),
        "output": storable(result.directory) or None,
    }


def _is_claimed(claim: Claim) -> ColumnElement[bool]:
    return (executions.c.owner == claim.owner) & (executions.c.attempts == claim.attempt)


def _status_change(
    execution_id: int,
    sources: Iterable[Status],
    target: Status,
    now: datetime,
    values: Mapping[str, Any],
    *conditions: ColumnElement[bool],
) -> ReturningUpdate[Any]:
    """Return a statement that changes the status of an execution; it returns a row if the status has changed."""
    change = update(executions).where(executions.c.id == execution_id, has_status(sources), *conditions)
    return change.values({**values, "status": str(target), "modified": now}).returning(executions.c.id)


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
        still use their previous snapshot. If the schedule is stopped, its pending executions are skipped.

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
                _skip_pending(connection, schedule.name, schedule.modified, SCHEDULE_STOPPED)
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
            The added executions. If the schedule has changed since it was read: None, and nothing is written.
        """
        unchanged = (
            (schedules.c.name == schedule.name)
            & (schedules.c.cursor == schedule.cursor)
            & (schedules.c.revision == schedule.revision)
            & (schedules.c.status == str(ScheduleStatus.SCHEDULED))
        )
        change = update(schedules).where(unchanged).values(cursor=due[-1].scheduled).returning(schedules.c.name)
        with self._database.writing() as connection:
            if connection.execute(change).first() is None:
                return None
            return add_executions(connection, schedule, due, now)

    def start(self, name: str, now: datetime) -> bool:
        """Start a stopped schedule, and return whether it was stopped.

        Terminal executions with a scheduled time in the future are removed, so that they run again. They exist if the
        clock was set back.

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
        """Stop a schedule, skip its pending executions, and return False if it was already stopped.

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
            _skip_pending(connection, name, now, SCHEDULE_STOPPED)
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
            _skip_pending(connection, name, now, SCHEDULE_DELETED)
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
        """Return the number of changes to schedules so far; planning does not count."""
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
    """Count a change to schedules.

    This must be the last statement of a transaction, because other changes wait from here until its end.
    """
    connection.execute(update(ledger).values(revision=ledger.c.revision + 1))
