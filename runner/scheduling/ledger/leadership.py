"""Who leads: at most one process for a ledger, until it ends, however that happens."""

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
"""The advisory lock of PostgreSQL that the leader holds."""


class Leadership:
    """The lead over a ledger: a lock on a file beside a SQLite database, or one that a session of PostgreSQL holds."""

    def __init__(self, ledger: Database) -> None:
        """Prepare."""
        self._ledger = ledger
        self._file = ledger.file and ledger.file.with_name(f"{ledger.file.name}.leader")
        self._held: ExitStack | None = None
        self._lock: IO[bytes] | Connection | None = None

    def try_lead(self) -> bool:
        """Return whether we lead, after this if not before.

        Raises:
            LedgerError: when that cannot be found out.
        """
        if self.holds():
            return True
        self.release()
        with ExitStack() as stack:
            self._lock = self._from_file(self._file, stack) if self._file else self._from_server(stack)
            self._held = stack.pop_all() if self._lock else None
        return self._lock is not None

    def holds(self) -> bool:
        """Return whether we lead, and nobody else can."""
        if self._lock is None:
            return False
        return _answers(self._lock) if isinstance(self._lock, Connection) else _stands(self._lock, self._file)

    def release(self) -> None:
        """Let somebody else lead."""
        held, self._held, self._lock = self._held, None, None
        if held:
            held.close()

    def _from_file(self, path: Path, stack: ExitStack) -> IO[bytes] | None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(locks.locked(path, locks.EXCLUSIVE | locks.NON_BLOCKING))
        except BlockingIOError:
            return None
        except OSError as error:
            raise LedgerError(self._ledger.name, os_error_message(error)) from error

    def _from_server(self, stack: ExitStack) -> Connection | None:
        session = stack.enter_context(self._ledger.session())
        with self._ledger.explained():
            got = session.execute(text(f"SELECT pg_try_advisory_lock({LOCK})")).scalar_one()
        return session if got else None


def _answers(session: Connection) -> bool:
    """Return whether a session is still there, for a lock ends with its session."""
    try:
        session.execute(text("SELECT 1")).scalar_one()
    except DBAPIError:
        return False
    return True


def _stands(file: IO[bytes], path: Path | None) -> bool:
    """Return whether a locked file is still the one of that name."""
    try:
        return path is not None and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
