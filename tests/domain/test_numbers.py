"""Formatting of messages."""

from __future__ import annotations

import pytest

from runner.domain.numbers import plural


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12345, "12,345 files")]
)
def test_plural(count: int, expected: str) -> None:
    """Only 1 has the singular."""
    assert plural(count, "file") == expected
