"""How the nouns become rows, and rows nouns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from runner.domain.executions import Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.scheduling.ledger.tables import executions, snapshots

LONGEST_TEXT = 1024
"""Of what an execution has to say; SageMaker's own limit."""


def schedule_of(row: Row[Any]) -> Schedule:
    """Return a schedule."""
    values = row._asdict()
    return Schedule(**values | {"status": ScheduleStatus(values["status"])})


def entry_of(row: Row[Any]) -> ExecutionRecord:
    """Return an execution."""
    values = row._asdict()
    window = Window(values.pop("window_start"), values.pop("window_end"))
    return ExecutionRecord(**values | {"window": window, "status": Status(values["status"])})


def text(value: str | None) -> str | None:
    """Return a text that any database takes: not too long, and without NUL and halves of characters."""
    if value is None:
        return None
    return storable(value)[:LONGEST_TEXT]


def storable(value: str) -> str:
    r"""Return a text with what no database takes escaped.

    >>> storable("a\0b")
    'a\\x00b'
    """
    return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def inserting(connection: Connection) -> Callable[[Table], Any]:
    """Return the `insert` that knows ON CONFLICT."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def keep(connection: Connection, snapshot: Snapshot) -> None:
    """Insert a snapshot where it is missing; the first thing in a transaction, so that no other one removes it."""
    row = {"digest": snapshot.digest, **asdict(snapshot)}
    connection.execute(inserting(connection)(snapshots).values(row).on_conflict_do_nothing())


def enter(
    connection: Connection,
    dues: Sequence[ScheduledTime],
    now: datetime,
    *,
    schedule: str,
    endpoint: str,
    snapshot: str,
    revision: int,
    max_runtime: int,
) -> list[ExecutionRecord]:
    """Insert an execution for each of the scheduled times that has none; return those that were made, oldest first."""
    if not dues:
        return []
    common = {
        "schedule": schedule,
        "endpoint": endpoint,
        "snapshot": snapshot,
        "revision": revision,
        "max_runtime": max_runtime,
        "created": now,
        "modified": now,
        "attempts": 0,
    }
    missing = inserting(connection)(executions).on_conflict_do_nothing().returning(*executions.c)
    oldest_first = sorted(dues, key=lambda due: due.scheduled)
    rows = connection.execute(missing, [common | _due(due, now) for due in oldest_first])
    return sorted(map(entry_of, rows), key=lambda entry: entry.scheduled)


def enter_for(
    connection: Connection, schedule: Schedule, dues: Sequence[ScheduledTime], now: datetime
) -> list[ExecutionRecord]:
    """Do the same for a schedule, with its present settings."""
    return enter(
        connection,
        dues,
        now,
        schedule=schedule.name,
        endpoint=schedule.endpoint,
        snapshot=schedule.snapshot,
        revision=schedule.revision,
        max_runtime=schedule.max_runtime,
    )


def in_order(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return a condition for the same executions that locks them in an order, so that two changes never interlock."""
    locked = select(executions.c.id).where(condition).order_by(executions.c.id).with_for_update()
    return executions.c.id.in_(locked)


def _due(due: ScheduledTime, now: datetime) -> dict[str, Any]:
    return {
        "scheduled": due.scheduled,
        "window_start": due.window.start,
        "window_end": due.window.end,
        "start_at": due.start_at,
        "status": str(Status.STOPPED if due.skipped else Status.PENDING),
        "failure_reason": text(due.skipped),
        "ended": now if due.skipped else None,
    }
