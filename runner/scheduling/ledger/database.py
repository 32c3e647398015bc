"""The database of a ledger, whichever it is: transactions, and its refusals as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from runner.errors import LedgerError, os_error_message
from runner.scheduling.ledger import postgresql, sqlite
from runner.scheduling.ledger.migrations import is_current, migrate


class Database:
    """A database, connected to when it is first needed, and whenever the connection was lost.

    Attributes:
        name: its URL as it may be shown.
        file: where it is, None where that is a server.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: `sqlite:///path` or `postgresql://user@host:port/database`.
            busy_seconds: how long to wait for somebody else who writes, and for a server.

        Raises:
            LedgerError: when the URL is none, or the driver is not installed.
        """
        self._busy_seconds = busy_seconds
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            raise LedgerError(url.rpartition("@")[2], "this is no URL of a database") from None
        path = url.removeprefix("sqlite:///")  # taken literally, as file names are everywhere
        self.file = Path(path).absolute() if path != url else None
        self.name = url if self.file else _shown(parsed)
        self._problem = partial(sqlite.problem if self.file else postgresql.problem, busy_seconds=busy_seconds)
        self._parsed = parsed
        self._engine: Engine | None = None
        self._opened_file: tuple[int, int] | None = None
        self._opening = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._engine:
            self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection whose statements each see what is there at that moment.

        Raises:
            LedgerError: when the database refuses.
        """
        with self.explained(), self._alone(self._ready()) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction: all of it happens, or nothing.

        Raises:
            LedgerError: when the database refuses.
        """
        with self.explained(), _transaction(self._ready()) as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Yield a connection that nobody else gets; it is closed at the end, even when it has failed.

        Raises:
            LedgerError: when the database refuses.
        """
        with self.explained():
            connection = self._alone(self._ready())
            connection.detach()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the database refuses into a LedgerError."""
        try:
            yield
        except NoneFree as error:
            problem = f"none of its connections was free for ledger.busy_seconds={self._busy_seconds:g}"
            raise LedgerError(self.name, f"{problem}; see what keeps it busy") from error
        except DBAPIError as error:
            raise LedgerError(self.name, self._problem(error.orig)) from error
        except OSError as error:
            raise LedgerError(self.name, os_error_message(error)) from error

    def _alone(self, engine: Engine) -> Connection:
        """Return a connection on which each statement is a transaction of its own."""
        connection = engine.connect()
        return connection if self.file else connection.execution_options(isolation_level="AUTOCOMMIT")

    def _ready(self) -> Engine:
        """Return the engine, with all tables there."""
        with self._opening:
            if self._engine is not None and self.file and _identity(self.file) != self._opened_file:
                self._engine.dispose()
                self._engine = None
                raise LedgerError(self.name, "its file was removed or replaced; what is there now is used from here on")
            if self._engine is None:
                self._engine = self._opened()
                self._opened_file = _identity(self.file) if self.file else None
            return self._engine

    def _opened(self) -> Engine:
        engine = self._connecting()
        try:
            with engine.connect() as connection:
                current = is_current(connection, self.name)
            if not current:
                with _transaction(engine) as connection:
                    migrate(connection, self.name)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _connecting(self) -> Engine:
        if self.file:
            return sqlite.engine(self.file, self._busy_seconds)
        try:
            return postgresql.engine(self._parsed, self._busy_seconds)
        except ModuleNotFoundError:
            problem = "the package psycopg is not installed: pip install 'shapwatch[postgresql]'"
            raise LedgerError(self.name, problem) from None


def _identity(file: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name, None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _shown(url: URL) -> str:
    """Return a URL without what may be secret: its password and its options."""
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection, connection.execution_options(writes=True).begin():
        yield connection
