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
    assert locks.free(path)
    with locks.held(path, locks.ALONE):
        assert not locks.free(path)
        for how in (locks.ALONE, locks.TOGETHER):
            with pytest.raises(BlockingIOError), locks.held(path, how | locks.AT_ONCE):
                pass
    assert locks.free(path)


def test_a_lock_on_a_file_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    """Who has waited for a file that was removed meanwhile holds the new one of that name."""
    path = tmp_path / "lock"
    held: list[bool] = []

    def wait() -> None:
        with locks.held(path, locks.ALONE) as file:
            held.append(os.path.samestat(os.fstat(file.fileno()), path.stat()))

    with locks.held(path, locks.ALONE):
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
    with locks.held(path, locks.TOGETHER) as first:
        with locks.held(path, locks.TOGETHER) as second:
            locks.remove(second, path)
            assert path.exists()
        locks.remove(first, path)
        assert not path.exists()
        path.touch()
        locks.remove(first, path)
        assert path.exists()
