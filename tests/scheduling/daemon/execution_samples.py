"""Records of executions, as a ledger returns them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import ExecutionRecord

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def make_execution(**changes: Any) -> ExecutionRecord:
    """Return a running execution, scheduled at noon, with changed fields."""
    running = ExecutionRecord(
        id=1,
        schedule="adult-monitor",
        endpoint="adult",
        revision=2,
        scheduled=NOON,
        window=Window(NOON - HOUR, NOON),
        status=Status.IN_PROGRESS,
        start_at=NOON,
        max_runtime=60,
        snapshot="0" * 64,
        created=NOON,
        modified=NOON + timedelta(seconds=1),
        owner="owner",
        heartbeat=NOON,
        attempts=1,
        started=NOON,
    )
    return replace(running, **changes)
