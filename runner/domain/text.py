"""Formatting of messages."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the singular or plural.

    >>> plural(1, "file"), plural(1204, "record")
    ('1 file', '1,204 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
