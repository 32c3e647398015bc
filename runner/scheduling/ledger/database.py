"""Databases of a ledger: connections, transactions and error messages.

A database is a SQLite file, or a database of a PostgreSQL server.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runner.errors import LedgerError, os_error_message, snippet
from runner.scheduling.ledger.schema import are_current, create_tables

CONNECTIONS = 8
"""Number of pooled connections; under load, up to twice this number are open."""
RETRY_SECONDS = 0.01
"""Seconds between two attempts to enable the write-ahead log."""
KEEPALIVES = 3
"""Number of unanswered TCP keepalives after which a connection is closed."""
ENCODINGS = ("UTF8", "SQL_ASCII")
"""Encodings of PostgreSQL databases that store every character."""
LOCK_SHARE = 0.9
"""Timeout for a lock, as a share of the timeout for a statement. It ends first, so that the error names the lock."""

SQLITE_PROBLEMS = {
    "SQLITE_BUSY": "another process has locked it for more than ledger.busy_seconds={busy:g}; "
    "end that process, such as a shell or a backup with an open transaction",
    "SQLITE_CANTOPEN": "it cannot be opened; check that its folder exists and is writable",
    "SQLITE_READONLY": "it is read-only; check the permissions of the file and of its folder",
    "SQLITE_PERM": "access is denied; check the permissions of the file and of its folder",
    "SQLITE_FULL": "the disk is full; free some space",
    "SQLITE_IOERR": "reading or writing the disk failed ({error}); check that it is connected, intact and has space",
    "SQLITE_CORRUPT": "the file is damaged ({error}); stop the daemon, and restore a backup or move the file away",
    "SQLITE_NOTADB": "the file is not a SQLite database; choose another file, or move this one away",
}
READ_ONLY = "25006"
"""PostgreSQL's error code of a write to a read-only server or session."""
POSTGRESQL_PROBLEMS = {
    "57014": "it did not answer within ledger.busy_seconds={busy:g}; check the load of the server",
    "55P03": "a lock of another session was not released in time (ledger.busy_seconds={busy:g}); end that session",
    "53100": "the disk of the server is full; free some space",
    READ_ONLY: "it is read-only; use the primary server, not a replica",
    "42501": "{error}; grant the missing privilege to the user",
}


class Database:
    """A database, which is opened at its first use and after a lost connection.

    Attributes:
        name: URL without secrets.
        file: path of a SQLite database; None for a server.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        """Parse the URL; open nothing yet.

        Args:
            url: `sqlite:///path` or `postgresql://user@host:port/database`.
            busy_seconds: seconds to wait for a lock, a connection or a server.

        Raises:
            LedgerError: if the URL is invalid.
        """
        self._busy_seconds = busy_seconds
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            raise LedgerError(url.rpartition("@")[2], "this is not the URL of a database") from None
        path = url.removeprefix("sqlite:///")  # without decoding of %xx
        self.file = Path(path).absolute() if path != url else None
        self.name = url if self.file else _without_secrets(parsed)
        self._problem = partial(sqlite_problem if self.file else postgresql_problem, busy_seconds=busy_seconds)
        self._parsed = parsed
        self._engine: Engine | None = None
        self._opened_file: tuple[int, int] | None = None
        self._opening = Lock()

    def close(self) -> None:
        """Close all connections."""
        if self._engine:
            self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection on which each statement reads the latest committed data.

        Raises:
            LedgerError: if the database fails.
        """
        with self.explained(), self._autocommit(self._ready()) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction, which is committed at the end, or rolled back after an error.

        Raises:
            LedgerError: if the database fails.
        """
        with self.explained(), _transaction(self._ready()) as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Yield a connection outside the pool; close it at the end.

        Raises:
            LedgerError: if the database fails.
        """
        with self.explained():
            connection = self._autocommit(self._ready())
            connection.detach()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Convert errors of the database to LedgerError."""
        try:
            yield
        except PoolTimeout as error:
            problem = f"no connection was free within ledger.busy_seconds={self._busy_seconds:g}"
            raise LedgerError(self.name, f"{problem}; check the load of the database") from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == READ_ONLY and self._engine:
                self._engine.dispose()  # the server may be a former primary: the next access connects again
            raise LedgerError(self.name, self._problem(error.orig)) from error
        except (InvalidRequestError, TypeError, ValueError) as error:  # from the conversion of rows
            problem = f"it contains an invalid value ({type(error).__name__}: {snippet(error)})"
            raise LedgerError(self.name, f"{problem}; restore a backup, or choose another ledger") from error
        except OSError as error:
            raise LedgerError(self.name, os_error_message(error)) from error

    def _autocommit(self, engine: Engine) -> Connection:
        """Return a connection on which each statement is a transaction."""
        connection = engine.connect()
        return connection if self.file else connection.execution_options(isolation_level="AUTOCOMMIT")

    def _ready(self) -> Engine:
        """Return the engine; first open the database and create its tables, if necessary."""
        with self._opening:
            if self._engine is not None and self.file and _identity(self.file) != self._opened_file:
                self._engine.dispose()
                self._engine = None
                raise LedgerError(
                    self.name, "its file was removed or replaced; the next access opens the new file, or creates one"
                )
            if self._engine is None:
                self._engine = self._open()
                self._opened_file = _identity(self.file) if self.file else None
            return self._engine

    def _open(self) -> Engine:
        engine = self._create_engine()
        try:
            with engine.connect() as connection:
                self._check_encoding(connection)
                current = are_current(connection, self.name)
            if not current:
                with _transaction(engine) as connection:
                    create_tables(connection, self.name)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _check_encoding(self, connection: Connection) -> None:
        """Check that a server stores every character; SQL_ASCII stores bytes as they are.

        Raises:
            LedgerError: if it does not.
        """
        if self.file:
            return
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding not in ENCODINGS:
            problem = f"its encoding {encoding} cannot store every character of a message"
            raise LedgerError(self.name, f"{problem}; create a database with ENCODING 'UTF8' TEMPLATE template0")

    def _create_engine(self) -> Engine:
        if self.file:
            return sqlite_engine(self.file, self._busy_seconds)
        try:
            return postgresql_engine(self._parsed, self._busy_seconds)
        except ModuleNotFoundError:
            problem = "the package psycopg is not installed; run pip install 'shapwatch[postgresql]'"
            raise LedgerError(self.name, problem) from None


def sqlite_engine(file: Path, busy_seconds: float) -> Engine:
    """Return the engine of a SQLite database with a write-ahead log; create missing folders and the file.

    A transaction with the execution option `writes` takes the write lock at its start. Without this lock, a transaction
    that reads first and writes later could not wait for another writer. Without the option, each statement is a
    transaction.

    Raises:
        OSError: if the folder cannot be created.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=busy_seconds,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")
        _enable_write_ahead_log(cursor, busy_seconds)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _enable_write_ahead_log(cursor: object, busy_seconds: float) -> None:
    """Enable the write-ahead log; SQLite's own busy timeout does not apply to this statement."""
    assert isinstance(cursor, sqlite3.Cursor)  # noqa: S101
    until = time.monotonic() + busy_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(RETRY_SECONDS)


def sqlite_problem(error: BaseException | None, busy_seconds: float) -> str:
    """Describe an error of SQLite, with a remedy if it is known."""
    name = getattr(error, "sqlite_errorname", "")
    for prefix, problem in SQLITE_PROBLEMS.items():
        if name.startswith(prefix):
            return problem.format(busy=busy_seconds, error=error)
    return f"SQLite reports: {error}"


def postgresql_engine(url: URL, busy_seconds: float) -> Engine:
    """Return the engine of a PostgreSQL database, with timeouts of `busy_seconds`.

    Raises:
        ModuleNotFoundError: if psycopg is not installed.
    """
    seconds, milliseconds = max(2, math.ceil(busy_seconds)), math.ceil(busy_seconds * 1000)
    session = {
        "timezone": "UTC",
        "datestyle": "ISO",
        "statement_timeout": milliseconds,
        "lock_timeout": max(1, math.floor(milliseconds * LOCK_SHARE)),
        "tcp_keepalives_idle": seconds,  # the server also detects a lost client, and releases its locks
        "tcp_keepalives_interval": math.ceil(seconds / KEEPALIVES),
        "tcp_keepalives_count": KEEPALIVES,
        "tcp_user_timeout": milliseconds,
    }
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": "shapwatch",
            "client_encoding": "UTF8",
            "connect_timeout": seconds,
            "keepalives_idle": seconds,
            "keepalives_interval": math.ceil(seconds / KEEPALIVES),
            "keepalives_count": KEEPALIVES,
            "tcp_user_timeout": milliseconds,
            "options": " ".join(f"-c {key}={value}" for key, value in session.items()),
        },
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=busy_seconds,
    )


def postgresql_problem(error: BaseException | None, busy_seconds: float) -> str:
    """Describe an error of PostgreSQL on one line, with a remedy if it is known."""
    message = " ".join(str(error).split())
    state = getattr(error, "sqlstate", None)
    if problem := POSTGRESQL_PROBLEMS.get(state or ""):
        return problem.format(busy=busy_seconds, error=message)
    return f"PostgreSQL reports: {message}" if state else f"it cannot be reached: {message}"


def _identity(file: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, None if it is missing."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _without_secrets(url: URL) -> str:
    """Return a URL without password and options."""
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection, connection.execution_options(writes=True).begin():
        yield connection
