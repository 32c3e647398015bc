"""The tables of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """An instant, to the microsecond: a time stamp where there is such a type, else ISO 8601 text, which sorts."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        stamps = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if stamps else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """Return what is stored.

        Raises:
            ValueError: for a time without an offset.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no offset from UTC")
        at = value.astimezone(UTC)
        return at if dialect.name == "postgresql" else at.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return what was stored, in UTC."""
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
"""One row: the version of these tables, and how often the schedules have changed."""

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
