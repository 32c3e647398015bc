"""The ledger: schedules, executions, snapshots and daemons, which outlive any process. All times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, delete, exists, select, text, update

from runner.domain.schedules import Snapshot
from runner.errors import MissingSnapshot
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.executions import RUNNING, TERMINAL, ExecutionTable
from runner.scheduling.ledger.schedules import ScheduleTable
from runner.scheduling.ledger.tables import daemons, executions, has_status, in_id_order, schedules, snapshots, upsert

DEAD_AFTER = timedelta(days=1)
"""Time without heartbeat after which a daemon is removed from the ledger."""
BATCH = 5_000
"""Number of executions deleted in one transaction, so that other processes do not wait long."""


@dataclass(frozen=True)
class DaemonRecord:
    """Record of a daemon in the ledger.

    Attributes:
        owner: name under which it claims executions.
        host: name of its machine.
        pid: number of its process.
        since: time of the first heartbeat.
        heartbeat: time of the last heartbeat.
        leading: whether it leads.
    """

    owner: str
    host: str
    pid: int
    since: datetime
    heartbeat: datetime
    leading: bool


class Ledger:
    """Schedules and executions in a database. Every method may raise LedgerError, and may be called from any thread.

    The database is opened at the first use, and again after a failure.

    Attributes:
        database: database.
        schedules: table of schedules.
        executions: table of executions.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        """Create a ledger; see `Database`."""
        self.database = Database(url, busy_seconds)
        self.schedules = ScheduleTable(self.database)
        self.executions = ExecutionTable(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    @property
    def name(self) -> str:
        """URL of the database without secrets."""
        return self.database.name

    def snapshot(self, digest: str) -> Snapshot:
        """Return the snapshot of a schedule or an execution.

        Raises:
            MissingSnapshot: if it was removed.
        """
        query = select(snapshots.c.settings, snapshots.c.folder).where(snapshots.c.digest == digest)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise MissingSnapshot(self.name, digest)
        return Snapshot(*row)

    def record_heartbeat(self, owner: str, now: datetime) -> None:
        """Record a heartbeat for the running executions of an owner."""
        with self.database.writing() as connection:
            _record_heartbeat(connection, owner, now)

    def record_daemon(self, owner: str, now: datetime, leading: bool, host: str, pid: int) -> None:
        """Record a heartbeat of a daemon and of its running executions; remove dead daemons."""
        row = {"owner": owner, "host": host, "pid": pid, "since": now, "heartbeat": now, "leading": leading}
        with self.database.writing() as connection:
            insert = upsert(connection)(daemons).values(row)
            changes = {"heartbeat": now, "leading": leading}
            connection.execute(insert.on_conflict_do_update(index_elements=["owner"], set_=changes))
            _record_heartbeat(connection, owner, now)
            connection.execute(delete(daemons).where(daemons.c.heartbeat < now - DEAD_AFTER))

    def remove_daemon(self, owner: str) -> None:
        """Remove a daemon that has ended."""
        with self.database.writing() as connection:
            connection.execute(delete(daemons).where(daemons.c.owner == owner))

    def daemons(self) -> list[DaemonRecord]:
        """Return the daemons with a heartbeat within a day, leaders first."""
        query = select(daemons).order_by(daemons.c.leading.desc(), daemons.c.since, daemons.c.owner)
        with self.database.reading() as connection:
            return [DaemonRecord(**row._asdict()) for row in connection.execute(query)]

    def delete_ended(self, before: datetime) -> int:
        """Delete executions that ended before a time, and unused snapshots; return the number of executions."""
        deleted = batch = self._delete_batch(before)
        while batch == BATCH:
            deleted += (batch := self._delete_batch(before))
        return deleted

    def _delete_batch(self, before: datetime) -> int:
        old = select(executions.c.id).where(executions.c.ended < before, has_status(TERMINAL)).limit(BATCH)
        with self.database.writing() as connection:
            _lock_snapshots(connection)
            deletion = delete(executions).where(executions.c.id.in_(old), has_status(TERMINAL))
            deleted = connection.execute(deletion.returning(executions.c.id)).all()
            used = [exists().where(table.c.snapshot == snapshots.c.digest) for table in (schedules, executions)]
            connection.execute(delete(snapshots).where(~used[0], ~used[1]))
            return len(deleted)


def _record_heartbeat(connection: Connection, owner: str, now: datetime) -> None:
    owned = (executions.c.owner == owner) & has_status(RUNNING)
    connection.execute(update(executions).where(in_id_order(owned)).values(heartbeat=now))


def _lock_snapshots(connection: Connection) -> None:
    """Prevent other sessions from inserting snapshots that they will use; on SQLite the write lock does."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE snapshots IN SHARE ROW EXCLUSIVE MODE"))
