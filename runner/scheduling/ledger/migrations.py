"""How a ledger gets the tables that this version of the program works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, inspect, select, text, update

from runner.errors import LedgerError
from runner.scheduling.ledger import tables

LOCK = 0x7368_6170_0001
"""The advisory lock of PostgreSQL under which tables are made and changed."""

STEPS: Sequence[Callable[[Connection], None]] = ()
"""Each leads from one version to the next, the first one from version 1; what has been released never changes."""


def is_current(connection: Connection, name: str, steps: Sequence[Callable[[Connection], None]] = STEPS) -> bool:
    """Return whether the tables are there and are what this program works with.

    Raises:
        LedgerError: when they are of a later version.
    """
    newest, version = 1 + len(steps), _version(connection)
    if version is not None and version > newest:
        problem = f"it is of version {version}, and this shapwatch knows versions up to {newest}"
        raise LedgerError(name, f"{problem}; use the shapwatch that wrote it, or a later one")
    return version == newest


def migrate(connection: Connection, name: str, steps: Sequence[Callable[[Connection], None]] = STEPS) -> None:
    """Make the tables, or bring those that are there up to date; all of it happens, or nothing.

    Args:
        connection: in a transaction; on SQLite one that writes, so that there is no other.
        name: of the ledger.
        steps: as `STEPS`.

    Raises:
        LedgerError: when the tables are of a later version.
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
