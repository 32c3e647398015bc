"""Locks on files, between descriptors as between processes."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from runner.results import locks


def test_one_holds_it_alone(tmp_path: Path) -> None:
    """Nobody else gets it, alone or together, before it is given back."""
    path = tmp_path / "lock"
    assert locks.is_free(path)
    with locks.locked(path, locks.EXCLUSIVE):
        assert not locks.is_free(path)
        for how in (locks.EXCLUSIVE, locks.SHARED):
            with pytest.raises(BlockingIOError), locks.locked(path, how | locks.NON_BLOCKING):
                pass
    assert locks.is_free(path)


def test_a_lock_on_a_file_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    """Who has waited for a file that was removed meanwhile holds the new one of that name."""
    path = tmp_path / "lock"
    held: list[bool] = []

    def wait() -> None:
        with locks.locked(path, locks.EXCLUSIVE) as file:
            held.append(os.path.samestat(os.fstat(file.fileno()), path.stat()))

    with locks.locked(path, locks.EXCLUSIVE):
        waiting = Thread(target=wait)
        waiting.start()
        waiting.join(0.05)
        assert not held
        path.unlink()
        path.touch()
    waiting.join()
    assert held == [True]


def test_the_last_one_removes_it(tmp_path: Path) -> None:
    """A file that others hold, or that has been replaced, stays."""
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
