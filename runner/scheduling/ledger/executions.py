"""The executions of a ledger: each is made once for a schedule and a scheduled time, and moves to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import LedgerError
from runner.scheduling.ledger import rows
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.tables import executions, schedules

UNDER_WAY = (Status.IN_PROGRESS, Status.STOPPING)
TERMINAL = tuple(status for status in Status if status.terminal)
CLEAN = dict.fromkeys(["started", "ended", "peak_memory", "exit_message", "failure_reason", "output"])


class Entries(Database):
    """What can be done with executions. Every method may raise LedgerError; all times are UTC.

    What returns a bool is a move, made only by whoever comes first: False says that somebody else was quicker.
    """

    def plan(self, schedule: Schedule, dues: Sequence[ScheduledTime], now: datetime) -> list[ExecutionRecord] | None:
        """Write down what is due, and that the schedule is dealt with up to there.

        A due time with `skipped` becomes an execution that has been stopped.

        Args:
            schedule: as it was read.
            dues: in the order of time, at least one.
            now: the time.

        Returns:
            The executions that were made; None when the schedule is another one by now, so that nothing was written.
        """
        same = (
            (schedules.c.name == schedule.name)
            & (schedules.c.cursor == schedule.cursor)
            & (schedules.c.revision == schedule.revision)
            & (schedules.c.status == str(ScheduleStatus.SCHEDULED))
        )
        moved = update(schedules).where(same).values(cursor=dues[-1].scheduled).returning(schedules.c.name)
        with self.writing() as connection:
            if connection.execute(moved).first() is None:
                return None
            return rows.enter_for(connection, schedule, dues, now)

    def enter(
        self,
        schedule: str,
        endpoint: str,
        snapshot: Snapshot,
        revision: int,
        max_runtime: int,
        dues: Sequence[ScheduledTime],
        now: datetime,
    ) -> list[ExecutionRecord]:
        """Return the executions at some scheduled times, oldest first; those that are missing are made.

        There need not be a schedule of that name.
        """
        times = {due.scheduled for due in dues}
        if not times:
            return []
        between = executions.c.scheduled.between(min(times), max(times))
        wanted = select(executions).where(executions.c.schedule == schedule, between)
        with self.writing() as connection:
            rows.keep(connection, snapshot)
            rows.enter(
                connection,
                dues,
                now,
                schedule=schedule,
                endpoint=endpoint,
                snapshot=snapshot.digest,
                revision=revision,
                max_runtime=max_runtime,
            )
            found = connection.execute(wanted.order_by(executions.c.scheduled))
            return [rows.entry_of(row) for row in found if row.scheduled in times]

    def entry(self, entry_id: int) -> ExecutionRecord:
        """Return an execution."""
        for entry in self._found(select(executions).where(executions.c.id == entry_id)):
            return entry
        raise LedgerError(self.name, f"it has no execution {entry_id}, or has forgotten it")

    def entries(
        self, schedule: str | None = None, *, statuses: Collection[Status] | None = None, newest: int = 10
    ) -> list[ExecutionRecord]:
        """Return the executions of a schedule, or of all, with one of some statuses, the newest scheduled first."""
        wanted = select(executions).order_by(executions.c.scheduled.desc(), executions.c.id.desc()).limit(newest)
        if schedule is not None:
            wanted = wanted.where(executions.c.schedule == schedule)
        if statuses is not None:
            wanted = wanted.where(in_status(statuses))
        return self._found(wanted)

    def last(self, schedule: str) -> ExecutionRecord | None:
        """Return the execution of a schedule that was scheduled last."""
        return next(iter(self.entries(schedule, newest=1)), None)

    def last_of_each(self, statuses: Collection[Status] = tuple(Status)) -> dict[str, ExecutionRecord]:
        """Return the last execution of each schedule that has one with one of some statuses, by the schedule's name."""
        others = executions.alias()
        wanted_status = others.c.status.in_([str(status) for status in statuses])
        newest = (
            select(others.c.id)
            .where(others.c.schedule == schedules.c.name, wanted_status)
            .order_by(others.c.scheduled.desc())
            .limit(1)
            .correlate(schedules)
            .scalar_subquery()
        )
        wanted = select(executions).join(schedules, executions.c.id == newest)
        return {entry.schedule: entry for entry in self._found(wanted)}

    def startable(self, now: datetime, each: int, limit: int) -> list[ExecutionRecord]:
        """Return the executions that may start, the oldest scheduled first.

        Args:
            now: the time.
            each: so many of a schedule at most, so that one with a long past keeps no other waiting.
            limit: so many in all.
        """
        due = (executions.c.status == str(Status.PENDING)) & (executions.c.start_at <= now)
        order = (executions.c.scheduled, executions.c.id)
        place = func.row_number().over(partition_by=executions.c.schedule, order_by=order).label("place")
        ranked = select(executions.c.id, place).where(due).subquery()
        wanted = select(executions).join(ranked, executions.c.id == ranked.c.id).where(ranked.c.place <= each)
        return self._found(wanted.order_by(*order).limit(limit))

    def running(self, schedule: str | None = None) -> list[ExecutionRecord]:
        """Return the executions under way, of a schedule or of all, told to end or not."""
        wanted = select(executions).where(in_status(UNDER_WAY)).order_by(executions.c.id)
        return self._found(wanted if schedule is None else wanted.where(executions.c.schedule == schedule))

    def with_results(self) -> list[str]:
        """Return the digests of the settings from which those executions ran whose results are still there."""
        wanted = select(executions.c.snapshot).where(executions.c.output.is_not(None), in_status(TERMINAL)).distinct()
        with self.reading() as connection:
            return sorted(connection.execute(wanted).scalars())

    def expired(self, snapshot: str, before: datetime) -> list[ExecutionRecord]:
        """Return the executions from some settings that have results and ended before some time, oldest first."""
        old = (executions.c.snapshot == snapshot) & (executions.c.ended < before) & executions.c.output.is_not(None)
        return self._found(select(executions).where(old, in_status(TERMINAL)).order_by(executions.c.scheduled))

    def cleared(self, entry_id: int) -> None:
        """Write down that the results of an execution are gone."""
        with self.writing() as connection:
            connection.execute(update(executions).where(executions.c.id == entry_id).values(output=None))

    def begin(self, entry_id: int, owner: str, now: datetime, lease_seconds: float | None = None) -> bool:
        """Claim a pending execution; its owner promises to be heard within the lease."""
        values = CLEAN | {"owner": owner, "started": now, "heartbeat": now, "lease_seconds": lease_seconds}
        values["attempts"] = executions.c.attempts + 1
        return self._move(entry_id, [Status.PENDING], Status.IN_PROGRESS, now, values)

    def settle(
        self,
        entry_id: int,
        owner: str,
        status: Status,
        now: datetime,
        *,
        exit_message: str | None,
        failure_reason: str | None,
        output: str | None,
        peak_memory: int | None,
    ) -> bool:
        """Write down how an execution of ours has ended.

        Args:
            entry_id: the execution.
            owner: under whose name it was claimed.
            status: a terminal one.
            now: the time.
            exit_message: what it had to say, and failure_reason why it failed; cut to 1,024 characters.
            failure_reason: see there.
            output: the directory of its results.
            peak_memory: of its process, in bytes.
        """
        values = {
            "ended": now,
            "exit_message": rows.text(exit_message),
            "failure_reason": rows.text(failure_reason),
            "output": output and rows.storable(output),
            "peak_memory": peak_memory,
        }
        return self._move(entry_id, UNDER_WAY, status, now, values, executions.c.owner == owner)

    def hand_back(self, entry_id: int, owner: str, now: datetime) -> bool:
        """Let an execution of ours be run again, by whoever comes first."""
        return self._move(entry_id, [Status.IN_PROGRESS], Status.PENDING, now, {}, executions.c.owner == owner)

    def ask_to_stop(self, entry_id: int, now: datetime) -> bool:
        """Let its owner end an execution."""
        return self._move(entry_id, [Status.IN_PROGRESS], Status.STOPPING, now, {})

    def ask_all_to_stop(self, schedule: str, now: datetime) -> int:
        """Let their owners end all executions of a schedule; return how many."""
        running = (executions.c.schedule == schedule) & in_status([Status.IN_PROGRESS])
        values = {"status": str(Status.STOPPING), "modified": now}
        with self.writing() as connection:
            moved = update(executions).where(rows.in_order(running)).values(values).returning(executions.c.id)
            return len(connection.execute(moved).all())

    def skip(self, entry_id: int, now: datetime, reason: str) -> bool:
        """Call a pending execution off."""
        values = {"ended": now, "failure_reason": rows.text(reason)}
        return self._move(entry_id, [Status.PENDING], Status.STOPPED, now, values)

    def redo(self, entry_id: int, snapshot: Snapshot, max_runtime: int, now: datetime) -> bool:
        """Let an execution that has ended be run again as if it were new, with these settings and this limit."""
        values = CLEAN | {"owner": None, "heartbeat": None, "lease_seconds": None, "attempts": 0}
        values |= {"start_at": now, "snapshot": snapshot.digest, "max_runtime": max_runtime}
        with self.writing() as connection:
            rows.keep(connection, snapshot)
            moved = _moving(entry_id, TERMINAL, Status.PENDING, now, values)
            return connection.execute(moved).first() is not None

    def _found(self, wanted: Select[Any]) -> list[ExecutionRecord]:
        with self.reading() as connection:
            return list(map(rows.entry_of, connection.execute(wanted)))

    def _move(
        self,
        entry_id: int,
        sources: Iterable[Status],
        target: Status,
        now: datetime,
        values: dict[str, Any],
        *conditions: ColumnElement[bool],
    ) -> bool:
        with self.writing() as connection:
            moved = _moving(entry_id, sources, target, now, values, *conditions)
            return connection.execute(moved).first() is not None


def _moving(
    entry_id: int,
    sources: Iterable[Status],
    target: Status,
    now: datetime,
    values: dict[str, Any],
    *conditions: ColumnElement[bool],
) -> ReturningUpdate[Any]:
    """Return the one statement that moves an execution, and gives a row when it did."""
    moved = update(executions).where(executions.c.id == entry_id, in_status(sources), *conditions)
    return moved.values(values | {"status": str(target), "modified": now}).returning(executions.c.id)


def in_status(statuses: Iterable[Status]) -> ColumnElement[bool]:
    """Return the condition that an execution has one of some statuses."""
    return executions.c.status.in_([str(status) for status in statuses])
