"""Traffic of many hours that nobody has looked at yet, and a schedule that has all of them due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import ExecutionRecord
from runner.results.directory import ANALYSIS
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.ledger.tables import ledger as revisions
from runner.scheduling.ledger.tables import schedules
from tests.cli_runner import Shapwatch

RECORDS = 270
"""Of the quickstart's traffic."""
PLACE = "monitor/breast-cancer/breast-cancer-monitor"
UNDONE = [status for status in Status if not status.terminal]


@dataclass
class AlertHistory:
    """So many hours up to the present one, with the quickstart's traffic spread over them.

    Attributes:
        root: where everything is.
        hours: how many there are.
        settings: what all commands have in common, such as where the ledger is.
    """

    root: Path
    hours: int
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - self.hours * HOUR
        self.shapwatch = Shapwatch(self.root)
        self.reference = self.root / "baseline/breast-cancer-monitor"

    def prepare(self) -> None:
        """Record the traffic, also of the present hour, which may end meanwhile, and compute the reference."""
        rate = RECORDS / ((self.hours + 1) * 3600)
        self("stage=replay", f"stage.start={self.first:%FT%TZ}", f"stage.rate={rate}")
        self("stage=baseline")

    def schedule(self, ledger: Ledger, *overrides: str) -> None:
        """Create a schedule, as if no daemon had run since the first hour."""
        self("stage=schedule", "stage.action=create", "schedule.max_catch_up=1000", *overrides)
        self.rewind(ledger)

    def rewind(self, ledger: Ledger) -> None:
        """Let a schedule have everything due that has no execution yet."""
        with ledger.database.writing() as connection:
            connection.execute(schedules.update().values(cursor=self.first))
            connection.execute(revisions.update().values(revision=revisions.c.revision + 1))

    def __call__(self, *overrides: str, code: int = 0) -> str:
        """Return what a command prints."""
        return self.shapwatch(*overrides, *self.settings, code=code)

    def directories(self) -> Iterator[Path]:
        """Yield the visible directories of executions."""
        for folder in sorted((self.root / PLACE).glob("[0-9]*/*/*/*")):
            if not folder.name.startswith("."):
                yield folder

    def analyses(self) -> dict[str, bytes]:
        """Return the analysis of each scheduled hour."""
        return {"/".join(path.parts[-4:]): (path / ANALYSIS).read_bytes() for path in self.directories()}


def undone(ledger: Ledger) -> list[ExecutionRecord]:
    """Return the executions that have not ended."""
    return ledger.executions.newest(statuses=UNDONE, limit=10_000)


def settle(ledger: Ledger, seconds: float = 60) -> list[ExecutionRecord]:
    """Return all executions, the oldest first, once each has ended."""
    until = time.monotonic() + seconds
    while left := undone(ledger):
        assert time.monotonic() < until, left
        time.sleep(0.05)
    return ledger.executions.newest(limit=10_000)[::-1]
