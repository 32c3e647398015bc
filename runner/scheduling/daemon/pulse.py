"""Whether the owners of executions are still there, told without comparing the clocks of two machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from runner.domain.schedules import ExecutionRecord

HEARTBEATS_PER_LEASE = 6
"""How often in its lease an owner tells the ledger that it is there."""


class HeartbeatMonitor:
    """Remembers since when a heartbeat has not changed."""

    def __init__(self, lease_seconds: float, stopwatch: Callable[[], float]) -> None:
        """Prepare.

        Args:
            lease_seconds: an owner that was not heard for so long is gone, unless it has promised another lease.
            stopwatch: seconds that only ever grow.
        """
        self.lease_seconds = lease_seconds
        self._stopwatch = stopwatch
        self._heard: dict[int, tuple[datetime | None, float]] = {}

    def silent(self, entries: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
        """Return those of the executions under way whose owner is gone; ask again and again, with all of them."""
        now = self._stopwatch()
        before = self._heard
        self._heard = {}
        for entry in entries:
            heartbeat, since = before.get(entry.id, (entry.heartbeat, now))
            self._heard[entry.id] = (entry.heartbeat, since if heartbeat == entry.heartbeat else now)
        return [
            entry for entry in entries if now - self._heard[entry.id][1] >= (entry.lease_seconds or self.lease_seconds)
        ]
