"""The ledger: schedules and executions in SQLite or PostgreSQL, for several processes at once.

A single statement changes the status of an execution, and only if the previous status allows it. If two processes try
the same change, one succeeds. The allowed changes are:

    Pending -> InProgress -> Completed | CompletedWithViolations | Failed | Stopped
       |           |-> Stopping -> any of these
       |           '-> Pending, if its owner releases it, or has died
       '-> Stopped, if it is skipped
    Completed | CompletedWithViolations | Failed | Stopped -> Pending, if it is reset
    Failed | Stopped -> another terminal status, if the process had written its result before it died

A start of an execution is a claim: its owner and the number of the start. A change by an owner needs the latest claim.
So a process that was suspended and overtaken changes nothing when it continues. The process of an execution records its
result before it publishes it; the execution has a terminal status then, and a time `ended` once it is published.

Leadership over a ledger is a lock. At most one process holds it, and the end of the process releases it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sqlalchemy import Connection, delete, exists, select, text
from sqlalchemy.exc import DBAPIError

from runner.domain.schedules import Snapshot
from runner.errors import LedgerError, MissingSnapshot, os_error_message
from runner.results import locks
from runner.scheduling.ledger.database import Database
from runner.scheduling.ledger.schema import daemons, executions, has_status, schedules, snapshots, upsert
from runner.scheduling.ledger.tables import TERMINAL, ExecutionTable, ScheduleTable

LOCK = 0x7368_6170_0002
"""Key of the PostgreSQL advisory lock that the leader holds."""
TERMINATE_LEADER = f"""
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = {LOCK}
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608  a constant
"""Statement that ends the PostgreSQL session of the leader."""
DEAD_AFTER = timedelta(days=1)
"""Time without heartbeat after which a daemon is removed from the ledger."""
BATCH = 5_000
"""Number of executions deleted in one transaction, so that other processes do not wait long."""


class Leadership:
    """The leader's lock: on a file next to a SQLite database, or of a PostgreSQL session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._file = database.file and database.file.with_name(f"{database.file.name}.leader")
        self._held: ExitStack | None = None
        self._lock: IO[bytes] | Connection | None = None

    def try_lead(self) -> bool:
        """Take the lock if it is free, and return whether this process holds it.

        Raises:
            LedgerError: if the database or the lock file fails.
        """
        if self.holds():
            return True
        with ExitStack() as stack:
            self._lock = self._lock_file(self._file, stack) if self._file else self._lock_session(stack)
            self._held = stack.pop_all() if self._lock else None
        return self._lock is not None

    def holds(self) -> bool:
        """Return whether this process still holds the lock; release a lost one."""
        if self._lock is None:
            return False
        held = _is_alive(self._lock) if isinstance(self._lock, Connection) else _is_at(self._lock, self._file)
        if not held:
            self.release()
        return held

    def depose(self) -> None:
        """Take the lock from another process, which no longer answers; it notices when it continues.

        Raises:
            LedgerError: if the database or the lock file fails.
        """
        if self._file:
            with self._file_errors():
                self._file.unlink(missing_ok=True)
            return
        with self._database.reading() as connection:
            connection.execute(text(TERMINATE_LEADER))

    def release(self) -> None:
        """Release the lock."""
        held, self._held, self._lock = self._held, None, None
        if held:
            held.close()

    def _lock_file(self, path: Path, stack: ExitStack) -> IO[bytes] | None:
        with self._file_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return stack.enter_context(locks.locked(path, locks.EXCLUSIVE | locks.NON_BLOCKING))
            except BlockingIOError:
                return None

    @contextmanager
    def _file_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerError(self._database.name, os_error_message(error)) from error

    def _lock_session(self, stack: ExitStack) -> Connection | None:
        session = stack.enter_context(self._database.session())
        with self._database.explained():
            locked = session.execute(text(f"SELECT pg_try_advisory_lock({LOCK})")).scalar_one()
        return session if locked else None


def _is_alive(session: Connection) -> bool:
    """Return whether a session still exists; its locks end with it."""
    try:
        session.execute(text("SELECT 1")).scalar_one()
    except DBAPIError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path | None) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return path is not None and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


@dataclass(frozen=True)
class DaemonRecord:
    """Record of a daemon in the ledger.

    Attributes:
        owner: name under which it claims executions.
        host: name of its machine.
        pid: process id.
        since: time of the first heartbeat.
        heartbeat: time of the last heartbeat.
        leading: whether it is the leader.
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
        url: URL of the database, with an absolute path.
        busy_seconds: seconds to wait for a lock, a connection or a server.
        schedules: table of schedules.
        executions: table of executions.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        """Create a ledger; see `Database`."""
        self.database, self.busy_seconds = Database(url, busy_seconds), busy_seconds
        self.url = f"sqlite:///{self.database.file}" if self.database.file else url
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

    def record_daemon(self, owner: str, now: datetime, leading: bool, host: str, pid: int) -> None:
        """Record a heartbeat of a daemon; remove dead daemons."""
        row = {"owner": owner, "host": host, "pid": pid, "since": now, "heartbeat": now, "leading": leading}
        with self.database.writing() as connection:
            insert = upsert(connection)(daemons).values(row)
            changes = {"heartbeat": now, "leading": leading}
            connection.execute(insert.on_conflict_do_update(index_elements=["owner"], set_=changes))
            connection.execute(delete(daemons).where(daemons.c.heartbeat < now - DEAD_AFTER))

    def remove_daemon(self, owner: str) -> None:
        """Remove a daemon that has ended."""
        with self.database.writing() as connection:
            connection.execute(delete(daemons).where(daemons.c.owner == owner))

    def daemons(self) -> list[DaemonRecord]:
        """Return the daemons in the ledger, leaders first; `record_daemon` removes dead ones."""
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


def _lock_snapshots(connection: Connection) -> None:
    """Prevent other sessions from inserting snapshots during the transaction.

    Otherwise a snapshot could be deleted before its schedule or execution is inserted. On SQLite, the write lock
    prevents this.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE snapshots IN SHARE ROW EXCLUSIVE MODE"))
