"""A ledger in a file: SQLite with a write-ahead log, so that readers and one writer do not wait for each other."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

PAUSE = 0.01
CONNECTIONS = 8

PROBLEMS = {
    "SQLITE_BUSY": "another process has locked it for more than ledger.busy_seconds={busy:g}; "
    "end what holds it, such as a shell or a backup with an open transaction",
    "SQLITE_CANTOPEN": "it cannot be opened; check that its folder exists and may be written",
    "SQLITE_READONLY": "it may only be read; check the permissions of the file and of its folder",
    "SQLITE_PERM": "it may not be opened; check the permissions of the file and of its folder",
    "SQLITE_FULL": "the disk is full; make space",
    "SQLITE_IOERR": "the disk fails ({told}); check that it is there, works and has space",
    "SQLITE_CORRUPT": "the file is damaged ({told}); stop the daemon, and bring back a backup or move the file away",
    "SQLITE_NOTADB": "the file is no SQLite database; name another one, or move the file away",
}


def engine(file: Path, busy_seconds: float) -> Engine:
    """Return what connects to a database; its folder and the file are made where there is none.

    A transaction with the execution option `writes` begins as one that writes, and any other statement stands alone:
    a transaction that reads first and writes later could not wait for another writer.

    Raises:
        OSError: when the folder cannot be made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    made = create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=busy_seconds,
    )

    @event.listens_for(made, "connect")
    def _prepare(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        _write_ahead(cursor, busy_seconds)
        cursor.close()

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def problem(error: BaseException | None, busy_seconds: float) -> str:
    """Return what SQLite refuses as a sentence."""
    name = getattr(error, "sqlite_errorname", "")
    for prefix, sentence in PROBLEMS.items():
        if name.startswith(prefix):
            return sentence.format(busy=busy_seconds, told=error)
    return f"SQLite refuses: {error}"


def _write_ahead(cursor: object, busy_seconds: float) -> None:
    """Switch a database to its write-ahead log; for this SQLite does not wait by itself."""
    assert isinstance(cursor, sqlite3.Cursor)  # noqa: S101
    until = time.monotonic() + busy_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(PAUSE)
