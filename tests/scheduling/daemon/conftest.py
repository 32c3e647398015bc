"""Components around a ledger in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.scheduling.ledger import Ledger
from tests.scheduling.daemon.bench import Bench
from tests.scheduling.ledger.ledger_samples import BUSY


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Components around a new ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)
