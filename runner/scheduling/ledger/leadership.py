"""Leadership over a ledger: a lock that at most one process holds, and that ends with the process."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from runner.errors import LedgerError, os_error_message
from runner.results import locks
from runner.scheduling.ledger.database import Database

LOCK = 0x7368_6170_0002
"""Advisory lock of PostgreSQL that the leader holds."""


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
        self.release()
        with ExitStack() as stack:
            self._lock = self._lock_file(self._file, stack) if self._file else self._lock_session(stack)
            self._held = stack.pop_all() if self._lock else None
        return self._lock is not None

    def holds(self) -> bool:
        """Return whether this process still holds the lock."""
        if self._lock is None:
            return False
        return _is_alive(self._lock) if isinstance(self._lock, Connection) else _is_at(self._lock, self._file)

    def release(self) -> None:
        """Release the lock."""
        held, self._held, self._lock = self._held, None, None
        if held:
            held.close()

    def _lock_file(self, path: Path, stack: ExitStack) -> IO[bytes] | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(locks.locked(path, locks.EXCLUSIVE | locks.NON_BLOCKING))
        except BlockingIOError:
            return None
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
