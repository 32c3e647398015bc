"""A ledger in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.scheduling.ledger import Ledger
from tests.scheduling.ledger.ledger_samples import BUSY


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A new ledger."""
    with Ledger(ledger_url, BUSY) as fresh:
        yield fresh
