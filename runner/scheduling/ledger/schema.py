"""Tables of the ledger: their creation, and the conversion between rows and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeEngine

from runner.domain.executions import Status, Window
from runner.domain.schedules import ExecutionRecord, Schedule, ScheduledTime, ScheduleStatus, Snapshot
from runner.errors import LedgerError

VERSION = 2
"""Version of the tables."""
LOCK = 0x7368_6170_0001
"""Key of the PostgreSQL advisory lock during the creation of tables."""
MAX_TEXT = 1024
"""Maximum number of characters of a message or failure reason, as in SageMaker."""


class UtcTime(TypeDecorator[datetime]):
    """A time with microseconds: a timestamp in PostgreSQL, a sortable ISO 8601 string in SQLite."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        has_timestamps = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if has_timestamps else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """Return the stored value.

        Raises:
            ValueError: if the time has no offset.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no offset from UTC")
        at = value.astimezone(UTC)
        return at if dialect.name == "postgresql" else at.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return a stored value as a time in UTC."""
        if value is None:
            return None
        at: datetime = value if dialect.name == "postgresql" else datetime.fromisoformat(value)
        return at.astimezone(UTC)


metadata = MetaData()

ledger = Table(
    "ledger",
    metadata,
    Column("version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row: the version of the tables, and the number of changes to schedules."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("digest", String, primary_key=True),
    Column("settings", String, nullable=False),
    Column("folder", String, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String, primary_key=True),
    Column("endpoint", String, nullable=False),
    Column("status", String, nullable=False),
    Column("timetable", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("max_runtime", Integer, nullable=False),
    Column("snapshot", String, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("modified", UtcTime, nullable=False),
    Column("cursor", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("schedules_by_snapshot", "snapshot"),
)

executions = Table(
    "executions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("schedule", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("scheduled", UtcTime, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("status", String, nullable=False),
    Column("start_at", UtcTime, nullable=False),
    Column("max_runtime", Integer, nullable=False),
    Column("snapshot", String, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("modified", UtcTime, nullable=False),
    Column("owner", String),
    Column("heartbeat", UtcTime),
    Column("lease_seconds", Float),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("started", UtcTime),
    Column("ended", UtcTime),
    Column("peak_memory", BigInteger),
    Column("exit_message", String),
    Column("failure_reason", String),
    Column("output", String),
    UniqueConstraint("schedule", "scheduled", name="executions_once"),
    Index("executions_by_status", "status", "start_at"),
    Index("executions_by_end", "ended"),
    Index("executions_by_snapshot", "snapshot"),
    sqlite_autoincrement=True,
)

daemons = Table(
    "daemons",
    metadata,
    Column("owner", String, primary_key=True),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("heartbeat", UtcTime, nullable=False),
    Column("leading", Boolean, nullable=False),
)


def are_current(connection: Connection, name: str) -> bool:
    """Return whether the tables of a ledger exist in the current version.

    Raises:
        LedgerError: if a later version of shapwatch created them.
    """
    version = _version(connection)
    if version is not None and version > VERSION:
        problem = f"it has version {version}, but this shapwatch supports versions up to {VERSION}"
        raise LedgerError(name, f"{problem}; use the shapwatch that wrote it, or a later one")
    return version == VERSION


def _version(connection: Connection) -> int | None:
    """Return the version of the tables, None without tables."""
    if not inspect(connection).has_table(ledger.name):
        return None
    version: int = connection.execute(select(ledger.c.version)).scalar_one()
    return version


def create_tables(connection: Connection, name: str) -> None:
    """Create missing tables, or migrate those of an earlier version.

    The connection must be in a transaction, which on SQLite holds the write lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sql(f"SELECT pg_advisory_xact_lock({LOCK})"))
    if are_current(connection, name):
        return
    if _version(connection) is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(ledger).values(version=VERSION, revision=0))
        return
    _add_missing_parts(connection)
    connection.execute(update(ledger).values(version=VERSION))


def _add_missing_parts(connection: Connection) -> None:
    """Add the missing tables, columns and indexes; a column that was added later is nullable or has a default value.

    They are found by comparison, because tables with the same version number had different columns.
    """
    metadata.create_all(connection)
    present = inspect(connection)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in present.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def schedule_from(row: Row[Any]) -> Schedule:
    """Convert a row to a schedule."""
    values = row._asdict()
    return Schedule(**values | {"status": ScheduleStatus(values["status"])})


def execution_from(row: Row[Any]) -> ExecutionRecord:
    """Convert a row to the record of an execution."""
    values = row._asdict()
    window = Window(values.pop("window_start"), values.pop("window_end"))
    return ExecutionRecord(**values | {"window": window, "status": Status(values["status"])})


def due_row(due: ScheduledTime, now: datetime) -> dict[str, object]:
    """Return the columns of an execution that depend on its scheduled time."""
    return {
        "scheduled": due.scheduled,
        "window_start": due.window.start,
        "window_end": due.window.end,
        "start_at": due.start_at,
        "status": str(Status.STOPPED if due.skipped else Status.PENDING),
        "failure_reason": text(due.skipped),
        "ended": now if due.skipped else None,
    }


def text(value: str | None) -> str | None:
    """Return a string that every database accepts, cut to `MAX_TEXT` characters; None for an empty string."""
    return storable(value)[:MAX_TEXT] if value else None


def storable(value: str) -> str:
    r"""Escape NUL and lone surrogates, which databases refuse.

    >>> storable("a\0b")
    'a\\x00b'
    """
    return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def upsert(connection: Connection) -> Callable[[Table], Any]:
    """Return the dialect's `insert`, which supports ON CONFLICT."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def add_snapshot(connection: Connection, snapshot: Snapshot) -> None:
    """Insert a snapshot if it is missing.

    This must be the first statement of a transaction, so that no other transaction removes the snapshot.
    """
    row = {"digest": snapshot.digest, **asdict(snapshot)}
    connection.execute(upsert(connection)(snapshots).values(row).on_conflict_do_nothing())


def has_status(statuses: Iterable[Status]) -> ColumnElement[bool]:
    """Return the condition that an execution has one of the statuses."""
    return executions.c.status.in_([str(status) for status in statuses])


def in_id_order(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return an equal condition that locks its rows in the order of ids, which prevents deadlocks."""
    locked = select(executions.c.id).where(condition).order_by(executions.c.id).with_for_update()
    return executions.c.id.in_(locked)
