"""The executions of a ledger: one per schedule and scheduled time, moved from status to status until its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from runner.domain.executions import Execution, Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, Snapshot
from runner.errors import LedgerError
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.tables import (
    add_snapshot,
    due_row,
    execution_from,
    executions,
    has_status,
    in_id_order,
    schedules,
    storable,
    text,
    upsert,
)

RUNNING = (Status.IN_PROGRESS, Status.STOPPING)
TERMINAL = tuple(status for status in Status if status.terminal)
NO_RESULT = dict.fromkeys(["started", "ended", "peak_memory", "exit_message", "failure_reason", "output"])
"""Columns of an execution without result."""


class ExecutionTable:
    """Executions of a ledger. Every method may raise LedgerError.

    A method that returns a bool changes the status in one statement, which requires the previous status: of several
    processes one succeeds, and the others get False.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, schedule: Schedule, snapshot: Snapshot, due: Sequence[ScheduledTime], now: datetime
    ) -> list[ExecutionRecord]:
        """Add missing executions at scheduled times, and return all of them, oldest first.

        The schedule need not be in the ledger.
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
        """Return executions of a schedule, or of all, with one of the statuses, the latest scheduled time first."""
        query = select(executions).order_by(executions.c.scheduled.desc(), executions.c.id.desc()).limit(limit)
        if schedule is not None:
            query = query.where(executions.c.schedule == schedule)
        if statuses is not None:
            query = query.where(has_status(statuses))
        return self._fetch(query)

    def last(self, schedule: str) -> ExecutionRecord | None:
        """Return the execution of a schedule with the latest scheduled time."""
        return next(iter(self.newest(schedule, limit=1)), None)

    def last_by_schedule(self, statuses: Collection[Status] = tuple(Status)) -> dict[str, ExecutionRecord]:
        """Return the last execution with one of the statuses, by schedule; deleted schedules are left out."""
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
            per_schedule: maximum number per schedule, so that one with many missed times does not delay others.
            limit: maximum number in total.
        """
        due = (executions.c.status == str(Status.PENDING)) & (executions.c.start_at <= now)
        order = (executions.c.scheduled, executions.c.id)
        rank = func.row_number().over(partition_by=executions.c.schedule, order_by=order).label("rank")
        ranked = select(executions.c.id, rank).where(due).subquery()
        query = select(executions).join(ranked, executions.c.id == ranked.c.id).where(ranked.c.rank <= per_schedule)
        return self._fetch(query.order_by(*order).limit(limit))

    def running(self, schedule: str | None = None) -> list[ExecutionRecord]:
        """Return executions in progress or stopping, of a schedule or of all."""
        query = select(executions).where(has_status(RUNNING)).order_by(executions.c.id)
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

    def claim(self, execution_id: int, owner: str, now: datetime, lease_seconds: float | None = None) -> bool:
        """Start a pending execution for an owner, whose heartbeats are at most `lease_seconds` apart."""
        values = NO_RESULT | {"owner": owner, "started": now, "heartbeat": now, "lease_seconds": lease_seconds}
        values["attempts"] = executions.c.attempts + 1
        return self._move(execution_id, [Status.PENDING], Status.IN_PROGRESS, now, values)

    def finish(
        self, execution_id: int, owner: str, result: Execution, now: datetime, peak_memory: int | None = None
    ) -> bool:
        """Record the result of an execution.

        Args:
            execution_id: execution.
            owner: present owner of the execution.
            result: result with a terminal status; long texts are cut.
            now: current time.
            peak_memory: peak memory of its process in bytes.
        """
        values = {
            "ended": now,
            "exit_message": text(result.message),
            "failure_reason": text(result.failure_reason),
            "output": storable(result.directory) or None,
            "peak_memory": peak_memory,
        }
        return self._move(execution_id, RUNNING, result.status, now, values, executions.c.owner == owner)

    def release(self, execution_id: int, owner: str, now: datetime) -> bool:
        """Return an execution in progress to the pending ones."""
        return self._move(execution_id, [Status.IN_PROGRESS], Status.PENDING, now, {}, executions.c.owner == owner)

    def request_stop(self, execution_id: int, now: datetime) -> bool:
        """Ask the owner of an execution to end it."""
        return self._move(execution_id, [Status.IN_PROGRESS], Status.STOPPING, now, {})

    def request_stop_of_all(self, schedule: str, now: datetime) -> int:
        """Ask the owners of all executions of a schedule to end them, and return the number of executions."""
        running = (executions.c.schedule == schedule) & has_status([Status.IN_PROGRESS])
        values = {"status": str(Status.STOPPING), "modified": now}
        with self._database.writing() as connection:
            move = update(executions).where(in_id_order(running)).values(values).returning(executions.c.id)
            return len(connection.execute(move).all())

    def skip(self, execution_id: int, now: datetime, reason: str) -> bool:
        """Stop a pending execution with a reason."""
        values = {"ended": now, "failure_reason": text(reason)}
        return self._move(execution_id, [Status.PENDING], Status.STOPPED, now, values)

    def reset(self, execution_id: int, snapshot: Snapshot, max_runtime: int, now: datetime) -> bool:
        """Make a terminal execution pending, without its result, with another snapshot and maximum duration."""
        values = NO_RESULT | {"owner": None, "heartbeat": None, "lease_seconds": None, "attempts": 0}
        values |= {"start_at": now, "snapshot": snapshot.digest, "max_runtime": max_runtime}
        with self._database.writing() as connection:
            add_snapshot(connection, snapshot)
            move = _move_statement(execution_id, TERMINAL, Status.PENDING, now, values)
            return connection.execute(move).first() is not None

    def _fetch(self, query: Select[Any]) -> list[ExecutionRecord]:
        with self._database.reading() as connection:
            return list(map(execution_from, connection.execute(query)))

    def _move(
        self,
        execution_id: int,
        sources: Iterable[Status],
        target: Status,
        now: datetime,
        values: Mapping[str, Any],
        *conditions: ColumnElement[bool],
    ) -> bool:
        with self._database.writing() as connection:
            move = _move_statement(execution_id, sources, target, now, values, *conditions)
            return connection.execute(move).first() is not None


def add_executions(
    connection: Connection, schedule: Schedule, due: Sequence[ScheduledTime], now: datetime
) -> list[ExecutionRecord]:
    """Insert missing executions of a schedule, and return them, oldest first."""
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
    }
    insert = upsert(connection)(executions).on_conflict_do_nothing().returning(*executions.c)
    oldest_first = sorted(due, key=lambda each: each.scheduled)
    rows = connection.execute(insert, [common | due_row(each, now) for each in oldest_first])
    return sorted(map(execution_from, rows), key=lambda execution: execution.scheduled)


def _move_statement(
    execution_id: int,
    sources: Iterable[Status],
    target: Status,
    now: datetime,
    values: Mapping[str, Any],
    *conditions: ColumnElement[bool],
) -> ReturningUpdate[Any]:
    """Return the statement that changes the status of an execution, and returns a row if it did."""
    move = update(executions).where(executions.c.id == execution_id, has_status(sources), *conditions)
    return move.values({**values, "status": str(target), "modified": now}).returning(executions.c.id)
