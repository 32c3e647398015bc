"""File locks: the operating system releases a lock when its process ends, also when it is killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

EXCLUSIVE, SHARED, NON_BLOCKING = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


@contextmanager
def locked(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """Create a file if it does not exist, and yield it locked while the block runs.

    If another process removed the file before this one got the lock, the lock is acquired again on a new file.

    Args:
        path: the path of the file.
        mode: `EXCLUSIVE` or `SHARED`; with `| NON_BLOCKING` a lock of another process raises an error.

    Raises:
        BlockingIOError: if another process has the lock and the mode is `NON_BLOCKING`.
    """
    while True:
        with open(path, "a+b", opener=_open_no_link) as file:
            fcntl.flock(file, mode)
            if _is_at(file, path):
                yield file
                return


def _open_no_link(path: str, flags: int) -> int:
    """Open a file that is no symbolic link: in a folder of another author, a link could point to any file."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def is_free(path: Path) -> bool:
    """Return whether no process has locked a file; a missing or unreadable file counts as free, a pipe as well."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            fcntl.flock(file, EXCLUSIVE | NON_BLOCKING)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def remove(file: IO[bytes], path: Path) -> None:
    """Remove a file on which this process has a shared lock, unless another process has a lock on it."""
    try:
        fcntl.flock(file, EXCLUSIVE | NON_BLOCKING)
    except BlockingIOError:
        return
    if _is_at(file, path):
        path.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
