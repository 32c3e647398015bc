"""Creation of the tables of a ledger, and migrations from earlier versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, inspect, select, text, update

from runner.errors import LedgerError
from runner.scheduling.ledger import tables

LOCK = 0x7368_6170_0001
"""Advisory lock of PostgreSQL during creation and migration."""

STEPS: Sequence[Callable[[Connection], None]] = ()
"""Migrations from each version to the next, starting at version 1; released ones never change."""


def is_current(connection: Connection, name: str, steps: Sequence[Callable[[Connection], None]] = STEPS) -> bool:
    """Return whether the tables exist in the current version.

    Raises:
        LedgerError: if a later version wrote them.
    """
    newest, version = 1 + len(steps), _version(connection)
    if version is not None and version > newest:
        problem = f"it has version {version}, but this shapwatch supports versions up to {newest}"
        raise LedgerError(name, f"{problem}; use the shapwatch that wrote it, or a later one")
    return version == newest


def migrate(connection: Connection, name: str, steps: Sequence[Callable[[Connection], None]] = STEPS) -> None:
    """Create the tables, or migrate them to the current version, in one transaction.

    Args:
        connection: connection in a transaction, on SQLite with the write lock.
        name: name of the ledger.
        steps: migrations, see `STEPS`.

    Raises:
        LedgerError: if a later version wrote the tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    if is_current(connection, name, steps):
        return
    version = _version(connection)
    if version is None:
        tables.metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(tables.ledger).values(version=1 + len(steps), revision=0))
        return
    for step in steps[version - 1 :]:
        step(connection)
    connection.execute(update(tables.ledger).values(version=1 + len(steps)))


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(tables.ledger.name):
        return None
    version: int = connection.execute(select(tables.ledger.c.version)).scalar_one()
    return version
