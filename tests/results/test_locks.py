"""File locks, tested between file descriptors."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from runner.results import locks


def test_exclusive_lock_excludes_all_others(tmp_path: Path) -> None:
    """Exclusive and shared requests are refused until the lock is released."""
    path = tmp_path / "lock"
    assert locks.is_free(path)
    with locks.locked(path, locks.EXCLUSIVE):
        assert not locks.is_free(path)
        for mode in (locks.EXCLUSIVE, locks.SHARED):
            with pytest.raises(BlockingIOError), locks.locked(path, mode | locks.NON_BLOCKING):
                pass
    assert locks.is_free(path)


def test_waiting_process_locks_the_new_file_after_removal(tmp_path: Path) -> None:
    """The lock is on the file that has the name after the wait."""
    path = tmp_path / "lock"
    locked_current: list[bool] = []

    def wait() -> None:
        with locks.locked(path, locks.EXCLUSIVE) as file:
            locked_current.append(os.path.samestat(os.fstat(file.fileno()), path.stat()))

    with locks.locked(path, locks.EXCLUSIVE):
        waiting = Thread(target=wait)
        waiting.start()
        waiting.join(0.05)
        assert not locked_current
        path.unlink()
        path.touch()
    waiting.join()
    assert locked_current == [True]


def test_last_sharer_removes_the_file(tmp_path: Path) -> None:
    """A file that another process has locked, or that was replaced, is not removed."""
    path = tmp_path / "lock"
    with locks.locked(path, locks.SHARED) as first:
        with locks.locked(path, locks.SHARED) as second:
            locks.remove(second, path)
            assert path.exists()
        locks.remove(first, path)
        assert not path.exists()
        path.touch()
        locks.remove(first, path)
        assert path.exists()
