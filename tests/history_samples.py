"""Hours of traffic without executions, and a schedule for which all of them are due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runner.domain.executions import HOUR
from runner.domain.schedules import ExecutionRecord
from runner.results.directory import ANALYSIS
from runner.scheduling.ledger import Ledger
from runner.scheduling.ledger.schema import ledger as revisions
from runner.scheduling.ledger.schema import schedules
from tests.cli_runner import Shapwatch

RECORDS = 270
"""Number of records of the quickstart's traffic."""
MONITOR_FOLDER = "monitor/breast-cancer/breast-cancer-monitor"


@dataclass
class TrafficHistory:
    """The quickstart's traffic, spread over several hours that end with the current one.

    Attributes:
        root: folder of all files.
        hours: number of hours.
        settings: settings of all commands, such as the URL of the ledger.
    """

    root: Path
    hours: int
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - self.hours * HOUR
        self.shapwatch = Shapwatch(self.root)
        self.reference = self.root / "baseline/breast-cancer-monitor"

    def prepare(self) -> None:
        """Record the traffic, also of the current hour, which may end during the test, and compute the reference."""
        rate = RECORDS / ((self.hours + 1) * 3600)
        self("stage=replay", f"stage.start={self.first:%FT%TZ}", f"stage.rate={rate}")
        self("stage=baseline")

    def seconds(self) -> float:
        """Return the seconds that a new process takes for an hour, on this machine and with its present load."""
        start = time.monotonic()
        self.shapwatch.process("stage=monitor", f"stage.window={self.first + HOUR:%FT%H}", *self.settings)
        return time.monotonic() - start

    def schedule(self, ledger: Ledger, *overrides: str) -> None:
        """Create a schedule for which every hour is due."""
        self("stage=schedule", "stage.action=create", "schedule.max_catch_up=1000", *overrides)
        self.rewind(ledger)

    def rewind(self, ledger: Ledger) -> None:
        """Make each hour without an execution due."""
        with ledger.database.writing() as connection:
            connection.execute(schedules.update().values(cursor=self.first))
            connection.execute(revisions.update().values(revision=revisions.c.revision + 1))

    def __call__(self, *overrides: str, code: int = 0) -> str:
        """Return the output of a command."""
        return self.shapwatch(*overrides, *self.settings, code=code)

    def directories(self) -> Iterator[Path]:
        """Yield the visible directories of executions."""
        for folder in sorted((self.root / MONITOR_FOLDER).glob("[0-9]*/*/*/*")):
            if not folder.name.startswith("."):
                yield folder

    def analyses(self) -> dict[str, bytes]:
        """Return the analysis of each scheduled hour."""
        return {"/".join(path.parts[-4:]): (path / ANALYSIS).read_bytes() for path in self.directories()}


def unfinished(ledger: Ledger) -> list[ExecutionRecord]:
    """Return the executions that have not ended, or whose results are being published."""
    return [each for each in ledger.executions.newest(limit=10_000) if each.ended is None]


def settle(ledger: Ledger, seconds: float = 60) -> list[ExecutionRecord]:
    """Return all executions, oldest first, when each has ended."""
    deadline = time.monotonic() + seconds
    while pending := unfinished(ledger):
        assert time.monotonic() < deadline, pending
        time.sleep(0.05)
    return ledger.executions.newest(limit=10_000)[::-1]
