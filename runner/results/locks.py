"""Locks on files: whoever holds one lives, for a lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

EXCLUSIVE, SHARED, NON_BLOCKING = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


@contextmanager
def locked(path: Path, how: int) -> Iterator[IO[bytes]]:
    """Yield a file, made where there is none, that is locked for as long as this lasts.

    Only the file that has the name when the lock is got counts: who holds a lock may remove the file.

    Args:
        path: of the file.
        how: `EXCLUSIVE`, or `SHARED` with others that want the same; `| NON_BLOCKING` not to wait for it.

    Raises:
        BlockingIOError: when it is not to be had at once.
    """
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, how)
            if _named(file, path):
                yield file
                return


def is_free(path: Path) -> bool:
    """Return whether nobody holds a lock on a file; there need not be one, and it need not be ours."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, EXCLUSIVE | NON_BLOCKING)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def remove(file: IO[bytes], path: Path) -> None:
    """Remove a file that is locked together with others, unless one of them still holds it."""
    try:
        fcntl.flock(file, EXCLUSIVE | NON_BLOCKING)
    except BlockingIOError:
        return
    if _named(file, path):
        path.unlink()


def _named(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
